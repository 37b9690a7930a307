"""Fixtures that several test modules share: a real Redis, a proxy in front of it, the command line.

A test imports the types it names from :mod:`tests.processes` and :mod:`electctl.lab`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy
from electctl.lab.server import Server
from tests import selection
from tests.processes import Electctl
from tests.warm import Warm, WarmElectctl

# Whoever is started in the background of a script ignores these, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that start servers; on several workers, the longest files come first."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        if selection.needs_server(item):
            item.add_marker("server")
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    if hasattr(config, "workerinput"):
        longest_first = sorted(files.values(), key=selection.weight, reverse=True)
        items[:] = [item for file in longest_first for item in file]


# How long an example takes says nothing where several tests share a processor. What fails once is
# to fail always: other examples are drawn by ``--hypothesis-profile=random`` (make hunt).
hypothesis.settings.register_profile("shared", deadline=None, derandomize=True)
hypothesis.settings.register_profile("random", deadline=None, print_blob=True)
hypothesis.settings.load_profile("shared")


def _let_grpc_take_no_notice_of_forks() -> None:
    """Guardians are forked here beside gRPC's threads, which no campaign of ours does.

    With its support of forks gRPC starts its threads anew in each fork, and aborts there when its
    descriptors are closed. It reads the variable once; what we start must not inherit it
    (tests/test_etcd_forks.py has forks beside gRPC as it is by default).
    """
    name = "GRPC_ENABLE_FORK_SUPPORT"
    if name in os.environ:
        return
    os.environ[name] = "0"
    import grpc

    grpc.insecure_channel("127.0.0.1:1").close()
    del os.environ[name]


def pytest_configure(config: pytest.Config) -> None:
    """Where only tests without servers were asked for, one that starts one fails."""
    if hasattr(config, "workerinput") or not config.option.collectonly:
        _let_grpc_take_no_notice_of_forks()
    if selection.without_servers(config):

        def refuse(server: Server) -> None:
            pytest.fail(f"{server.name} is started: what starts it hides that (tests/selection.py)")

        setattr(Server, "spawn", refuse)  # noqa: B010 - mypy allows no other way


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One real Redis server for all tests, which keep apart by their election's name.

    A test that breaks the server makes a cluster of its own.
    """
    with make_cluster("redis", tmp_path_factory.mktemp("lab") / "redis") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_url(redis_cluster: Cluster) -> str:
    """The backend URL of that server."""
    return redis_cluster.url


@pytest.fixture
def proxy(redis_cluster: Cluster) -> Iterator[Proxy]:
    """A proxy in front of that server, for one test."""
    with Proxy(redis_cluster.entrances[0].address) as link:
        yield link


@pytest.fixture
def proxied_url(redis_cluster: Cluster, proxy: Proxy) -> str:
    """The backend URL that leads through the proxy."""
    return redis_cluster.url_for([proxy.address])


@pytest.fixture
def election() -> str:
    """A name that no other test uses."""
    return f"election-{os.urandom(6).hex()}"


@pytest.fixture
def electctl(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Electctl]:
    """The real command line, in an empty home; what it leaves running is ended."""
    home = tmp_path / "home"
    home.mkdir()
    if request.node.get_closest_marker("warm"):
        command: Electctl = WarmElectctl(home, request.getfixturevalue("warm"))
    else:
        command = Electctl(home)
    yield command
    started = command.servers()
    command.end()
    if started and selection.without_servers(request.config):
        pytest.fail(f"it started {', '.join(started)}: mark it with pytest.mark.server")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """What forks the command line, for the tests of this worker that ask for it."""
    loaded = Warm()
    yield loaded
    loaded.close()
