"""One election with kazoo and tooz, both ways. Curator: ``test_zookeeper_curator.py``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import tooz.coordination

from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector, connect
from electctl.errors import NotElected
from electctl.testing.stage import Contender, eventually
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.zookeeper import cluster, kazoo_client

TTL = 4.0
SOON = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperCluster]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), 1) as one:
        yield one


@pytest.fixture
def elector(server: ZooKeeperCluster) -> Iterator[LeaderElector]:
    with connect(server.url) as found:
        yield found


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Native:
    """A native candidate in a thread of its own."""

    def __init__(self, lead: Callable[[threading.Event, threading.Event], None]) -> None:
        self.leads = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lead, args=(self.leads, self._stop))
        self._thread.start()

    def release(self) -> None:
        self._stop.set()
        self._thread.join(SOON)
        assert not self._thread.is_alive()


def kazoo_election(client: Any, path: str, name: str) -> Native:
    election = client.Election(path, name)

    def lead(leads: threading.Event, stop: threading.Event) -> None:
        def function() -> None:
            leads.set()
            stop.wait(60)

        election.run(function)

    return Native(lead)


def kazoo_lock(client: Any, path: str, name: str) -> Native:
    lock = client.Lock(path, name)

    def lead(leads: threading.Event, stop: threading.Event) -> None:
        with lock:
            leads.set()
            stop.wait(60)

    return Native(lead)


def kazoo_lock_among_curators(client: Any, path: str, name: str) -> Native:
    lock = client.Lock(path, name, extra_lock_patterns=["-latch-", "-lock-"])

    def lead(leads: threading.Event, stop: threading.Event) -> None:
        with lock:
            leads.set()
            stop.wait(60)

    return Native(lead)


PAIRS = [
    pytest.param(kazoo_election, "kazoo", id="kazoo-election"),
    pytest.param(kazoo_lock, "kazoo", id="kazoo-lock"),
    pytest.param(kazoo_lock_among_curators, "curator-latch", id="kazoo-lock-with-patterns"),
]

Make = Callable[[Any, str, str], Native]


@pytest.mark.parametrize(("make", "recipe"), PAIRS)
class TestContention:
    """They wait for us and we for them; who waits longest is next."""

    def test_we_and_they_lead_in_turn(
        self,
        server: ZooKeeperCluster,
        exits: ExitStack,
        election: str,
        make: Make,
        recipe: str,
    ) -> None:
        """Ours, theirs, ours: each waits through several of the renewals of the one before."""
        elector = exits.enter_context(connect(f"{server.url}&recipe={recipe}"))
        name = f"jobs/{election}"
        client = exits.enter_context(kazoo_client(server.url))
        first = elector.campaign(name, "first", ttl=TTL, wait=SOON)
        native = make(client, f"/{name}", "native")
        exits.callback(native.release)
        eventually("they wait", lambda: elector.candidates(name) == ("native",), SOON)
        last = Contender(elector.attempt(name, "last", ttl=TTL))
        exits.callback(last.close)
        eventually("we wait", lambda: elector.candidates(name) == ("native", "last"), SOON)
        renewed = first.valid_until
        eventually(
            "it is renewed thrice",
            lambda: first.valid_until > renewed + 2 * first.timing.renew_interval,
            SOON,
        )
        assert not native.leads.is_set()
        first.release()
        assert native.leads.wait(SOON), "our release did not wake them"
        holder = elector.holder(name)
        assert holder is not None
        assert (holder.id, holder.can_be_asked) == ("native", False)
        assert holder.token is not None
        assert first.token is not None
        assert holder.token > first.token
        assert last.waits
        native.release()
        leadership = last.elected(SOON)
        assert leadership.token is not None
        assert leadership.token > holder.token

    def test_we_do_not_win_beside_them(
        self,
        server: ZooKeeperCluster,
        exits: ExitStack,
        election: str,
        make: Make,
        recipe: str,
    ) -> None:
        elector = exits.enter_context(connect(f"{server.url}&recipe={recipe}"))
        client = exits.enter_context(kazoo_client(server.url))
        native = make(client, f"/{election}", "native")
        exits.callback(native.release)
        assert native.leads.wait(SOON)
        with pytest.raises(NotElected):
            elector.campaign(election, "ours", ttl=TTL, wait=0)
        native.release()
        elector.campaign(election, "ours", ttl=TTL, wait=SOON).release()


class TestSpelling:
    """``/jobs/nightly`` is one election, however we or kazoo write it."""

    @pytest.mark.parametrize("theirs", ["/jobs/{}", "jobs/{}", "/jobs//{}", "/jobs/{}/"])
    def test_there_is_one_leader(
        self,
        server: ZooKeeperCluster,
        elector: LeaderElector,
        exits: ExitStack,
        election: str,
        theirs: str,
    ) -> None:
        client = exits.enter_context(kazoo_client(server.url))
        native = kazoo_election(client, theirs.format(election), "native")
        exits.callback(native.release)
        assert native.leads.wait(SOON)
        for spelling in ("/jobs/{}", "jobs/{}", "jobs//{}", "jobs/{}/"):
            ours = spelling.format(election)
            with pytest.raises(NotElected, match="'native' leads"):
                elector.campaign(ours, "ours", ttl=TTL, wait=0)
            holder = elector.holder(ours)
            assert holder is not None
            assert holder.id == "native"

    def test_another_path_is_another_election(
        self, server: ZooKeeperCluster, elector: LeaderElector, exits: ExitStack, election: str
    ) -> None:
        client = exits.enter_context(kazoo_client(server.url))
        native = kazoo_election(client, f"/jobs/{election}", "native")
        exits.callback(native.release)
        assert native.leads.wait(SOON)
        for other in (election, f"jobs/{election}/x", f"Jobs/{election}", f"jobs%2F{election}"):
            elector.campaign(other, "ours", ttl=TTL, wait=0).release()


class TestOrderAmongAll:
    """When we order contenders we take in all three shapes, whatever our own is."""

    def test_all_three_shapes_are_one_queue(
        self, server: ZooKeeperCluster, elector: LeaderElector, exits: ExitStack, election: str
    ) -> None:
        queue: list[Callable[[], None]] = []
        ids: list[str] = []
        for recipe in ("curator-latch", "kazoo", "curator-lock", "kazoo", "curator-latch"):
            own = exits.enter_context(connect(f"{server.url}&recipe={recipe}"))
            name = f"{recipe}-{len(ids)}"
            contender = Contender(own.attempt(election, name, ttl=TTL))
            exits.callback(contender.close)
            ids.append(name)
            eventually(f"{name} is in", lambda: shown(elector, election) == ids, SOON)
            queue.append(lambda c=contender: c.elected(SOON).release())  # type: ignore[misc]
        for release in queue:
            release()


def shown(elector: LeaderElector, election: str) -> list[str]:
    view = elector.backend.view(election)
    return [] if view.holder is None else [view.holder.id, *view.waiting]


class TestTooz:
    """tooz's leader is a kazoo lock under its group: our election ``tooz/<group>/leader``."""

    @contextmanager
    def member(self, server: ZooKeeperCluster, group: bytes, name: bytes) -> Iterator[Any]:
        host, port = BackendURL.parse(server.url).hosts[0]
        found: Any = tooz.coordination.get_coordinator(f"zookeeper://{host}:{port}", name)
        found.start()
        found.create_group(group).get()
        found.join_group(group).get()
        yield found
        found.stop()
        found._coord.close()  # tooz leaves kazoo's socket pair open

    def test_tooz_and_we_lead_in_turn(
        self, server: ZooKeeperCluster, elector: LeaderElector, exits: ExitStack, election: str
    ) -> None:
        group = election.encode()
        member = exits.enter_context(self.member(server, group, b"member-1"))
        name = f"tooz/{election}/leader"
        elected = threading.Event()
        member.watch_elected_as_leader(group, lambda _event: elected.set())
        with elector.campaign(name, "ours", ttl=TTL, wait=SOON):
            member.run_elect_coordinator()
            assert not elected.is_set()
            assert member.get_leader(group).get() == b"ours"
        member.run_elect_coordinator()
        assert elected.is_set()
        holder = elector.holder(name)
        assert holder is not None
        assert holder.id == "member-1"
        with pytest.raises(NotElected):
            elector.campaign(name, "ours", ttl=TTL, wait=0)
        assert member.stand_down_group_leader(group)
        elector.campaign(name, "ours", ttl=TTL, wait=SOON).release()
