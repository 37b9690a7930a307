"""The releaser with real processes and real stores: the next leads in milliseconds after a crash.

What this does not show: the guardian, which tells it when (tests/test_guardian*.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import electctl
from electctl.campaign.releaser import Releaser
from electctl.contract.url import BackendURL
from electctl.core.elector import connect
from electctl.core.receipt import Receipt
from electctl.errors import NotElected
from electctl.lab.cluster import make_cluster
from electctl.lab.proxy import Proxy
from electctl.testing.stage import Contender
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from tests.processes import wait_for
from tests.zookeeper import cluster as zookeeper_cluster

HERE = Path(__file__).parent
TTL = 10.0
RELEASE = {"do": "release"}
#: Seconds from the word to the rival's election, for a busy machine; a tenth of it is usual.
SOON = 3.0


class Trio:
    """The three processes of :mod:`tests.releasing`."""

    def __init__(
        self,
        url: str,
        election: str,
        *,
        ttl: float = TTL,
        then: tuple[dict[str, Any], ...] = (RELEASE,),
        path: str | None = None,
        isolated: bool = False,
    ) -> None:
        self._process = subprocess.Popen(
            # -S: no site-packages but those of the path, if they are to vanish.
            [sys.executable, *(["-S"] if isolated else []), str(HERE / "releasing.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path or os.pathsep.join(filter(None, sys.path))},
        )
        order = {"url": url, "election": election, "ttl": ttl, "then": then}
        self.tell(order)
        self.pids = self.until("forked")
        self.elected = self.until("elected")

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def until(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"it ended without {event!r}")

    def report(self) -> dict[str, Any]:
        self.tell({"do": "report"})
        return self.until("report")

    def loaded(self) -> dict[str, Any]:
        """What the releaser says of itself once it has loaded all that it needs."""
        return wait_for(lambda: (found := self.report())["loaded"] and found)

    def kill(self) -> None:
        """SIGKILL what leads; the guardian then does as it was ordered."""
        os.kill(self.pids["leader"], signal.SIGKILL)
        self.tell({"do": "reap"})

    def close(self) -> None:
        for name in ("leader", "releaser"):
            with suppress(ProcessLookupError):
                os.kill(self.pids[name], signal.SIGKILL)
        self._process.kill()
        self._process.communicate()


class Play:
    """What one test starts, and ends."""

    def __init__(self) -> None:
        self.exits = ExitStack()

    def trio(self, url: str, election: str, **more: Any) -> Trio:
        trio = Trio(url, election, **more)
        self.exits.callback(trio.close)
        return trio

    def rival(self, url: str, election: str) -> Contender:
        elector = self.exits.enter_context(connect(url))
        rival = Contender(elector.attempt(election, "rival", ttl=TTL))
        self.exits.callback(rival.close)
        wait_for(lambda: rival.attempt.candidacy.rival is not None)
        return rival


@pytest.fixture
def play() -> Iterator[Play]:
    found = Play()
    with found.exits:
        yield found


SMALL = ["redis", "etcd-1", "zookeeper-1", "raft-1", "local"]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("etcd-3", "zookeeper-3", "raft-3")]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELECTCTL_STATE", str(tmp_path_factory.mktemp("state")))
        yield {"local": "local:?idle=5s"}


@pytest.fixture(scope="module")
def store(
    request: pytest.FixtureRequest,
    urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    name, _, size = request.param.partition("-")
    home = tmp_path_factory.mktemp(name)
    match name:
        case "redis":
            with make_cluster("redis", home) as redis:
                yield redis.url
        case "etcd":
            with EtcdCluster(home, int(size)) as etcd:
                yield etcd.url
        case "zookeeper":
            with zookeeper_cluster(home, int(size)) as ensemble:
                yield ensemble.url
        case "raft":
            with RaftCluster(home, int(size)) as raft:
                yield raft.url
        case _:
            yield urls[name]


@pytest.mark.parametrize("store", [*SMALL, *LARGE], indirect=True)
def test_the_next_leads_soon_after_the_leader_was_killed(
    play: Play, store: str, election: str
) -> None:
    trio = play.trio(store, election)
    loaded = trio.loaded()
    rival = play.rival(store, election)
    trio.kill()
    told = trio.until("told")
    leadership = rival.elected(SOON)
    assert rival.elected_at is not None
    latency = rival.elected_at - told["at"]
    print(
        f"{store.partition(':')[0]}: {latency * 1000:.0f} ms from the word to the next election; "
        f"the releaser has {loaded['rss'] / 2**20:.0f} MiB and used {loaded['cpu']:.2f} s"
    )
    assert latency < SOON
    assert leadership.token > trio.elected["token"]
    assert trio.until("ended")["code"] == 0


@pytest.mark.parametrize("store", SMALL, indirect=True)
def test_it_needs_no_file_any_more(play: Play, store: str, election: str, tmp_path: Path) -> None:
    """All that Python code could be loaded from is gone before electctl is killed."""
    site = tmp_path / "site"
    site.mkdir()
    roots = [Path(electctl.__file__).parents[1], Path(electctl.__file__).parents[1] / "backends"]
    for folder in [*roots, Path(pytest.__file__).parents[1]]:
        for entry in folder.iterdir():
            link = site / entry.name
            if not (link.exists() or entry.suffix == ".pth" or entry.name == "tests"):
                link.symlink_to(entry)
    trio = play.trio(store, election, path=str(site), isolated=True)
    trio.loaded()
    rival = play.rival(store, election)
    site.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    trio.kill()
    told = trio.until("told")
    rival.elected(SOON)
    assert rival.elected_at is not None
    assert rival.elected_at - told["at"] < SOON
    assert trio.until("ended")["code"] == 0


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_it_gives_back_at_once_what_it_had_no_time_to_load(
    play: Play, store: str, election: str
) -> None:
    trio = play.trio(store, election)
    rival = play.rival(store, election)
    trio.kill()
    rival.elected(SOON)


@pytest.mark.parametrize("store", ["redis"], indirect=True)
@pytest.mark.parametrize(
    "then", [(), ({"do": "drop"}, RELEASE)], ids=["the end of the stream", "dropped"]
)
def test_nothing_is_given_back_without_the_word(
    play: Play, store: str, election: str, then: tuple[dict[str, Any], ...]
) -> None:
    trio = play.trio(store, election, then=then)
    trio.kill()
    assert trio.until("ended")["code"] == 0
    elector = play.exits.enter_context(connect(store))
    with pytest.raises(NotElected, match="'doomed' leads"):
        elector.campaign(election, "rival", ttl=TTL, wait=0)


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_it_tries_until_the_store_is_back(play: Play, store: str, election: str) -> None:
    host, port = BackendURL.parse(store).hosts[0]
    assert port is not None
    proxy = play.exits.enter_context(Proxy((host, port)))
    trio = play.trio(f"redis://127.0.0.1:{proxy.port}/0", election)
    rival = play.rival(store, election)
    cut = proxy.counters.cut
    proxy.cut()
    trio.kill()
    told = trio.until("told")
    wait_for(lambda: proxy.counters.cut >= cut)
    assert rival.waits
    proxy.forward()
    rival.elected(SOON)
    assert rival.elected_at is not None
    assert rival.elected_at < told["at"] + TTL - 2, "that was the expiry"


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_it_ends_when_the_grant_has_run_out(play: Play, store: str, election: str) -> None:
    """A store that is silent keeps no process of ours alive for ever."""
    host, port = BackendURL.parse(store).hosts[0]
    assert port is not None
    proxy = play.exits.enter_context(Proxy((host, port)))
    trio = play.trio(f"redis://127.0.0.1:{proxy.port}/0", election, ttl=2.0)
    proxy.swallow()
    trio.kill()
    told = trio.until("told")
    ended = trio.until("ended")
    assert ended["at"] - told["at"] < 2 + 5 + 2


@pytest.mark.parametrize(
    "line", [b'{"do": "dance"}', b'{"do": "hold"}', b"[]", b"{", b'{"do": "command"}']
)
def test_what_is_not_understood_is_an_error(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(line + b"\n")
        with pytest.raises(ValueError):
            Releaser(BackendURL.parse("redis://127.0.0.1:1")).serve(theirs)


def test_a_receipt_has_the_time_to_live_with_it() -> None:
    assert Receipt.unpack(Receipt(9.5, 'a "b" c').pack()) == Receipt(9.5, 'a "b" c')
