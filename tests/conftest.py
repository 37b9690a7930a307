"""Fixtures that several test modules share: a real Redis, a proxy in front of it, the command line.

A test imports the types it names from :mod:`tests.processes` and :mod:`electctl.lab`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy
from tests.processes import Electctl

# Whoever is started in the background of a script ignores SIGINT, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
def electctl(tmp_path: Path) -> Iterator[Electctl]:
    """The real command line, in an empty home; what it leaves running is ended."""
    home = tmp_path / "home"
    home.mkdir()
    command = Electctl(home)
    yield command
    command.end()
