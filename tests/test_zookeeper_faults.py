"""zk:// on a real server: what becomes of a place in the queue when something fails."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from electctl.base.clock import now
from electctl.contract.backend import Bid, Grant
from electctl.core import lease
from electctl.core.elector import LeaderElector, connect
from electctl.errors import LeadershipLost, NotElected, Unreachable, UnsafeTiming
from electctl.lab.proxy import Proxy
from electctl.testing.stage import Contender, eventually
from electctl_zookeeper.candidacy import ZooKeeperCandidacy
from electctl_zookeeper.lab import ZooKeeperCluster
from electctl_zookeeper.names import in_order
from electctl_zookeeper.session import Session
from electctl_zookeeper.wire import Wire
from tests.zookeeper import cluster, kazoo_client
from tests.zookeeper_stage import SOON, TTL, Contend, children, contending, queued


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperCluster]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), 1) as one:
        yield one


@pytest.fixture
def elector(server: ZooKeeperCluster) -> Iterator[LeaderElector]:
    with connect(server.url) as found:
        yield found


@pytest.fixture
def native(server: ZooKeeperCluster) -> Iterator[Any]:
    with kazoo_client(server.url) as client:
        yield client


@pytest.fixture
def contend(elector: LeaderElector, election: str) -> Iterator[Contend]:
    with contending(elector, election) as begin:
        yield begin


class ClosedMeanwhile(Wire):
    """Closed by another thread at the moment at which a connection has been made."""

    def _connect(self, *args: Any) -> socket.socket:
        sock = super()._connect(*args)
        self.closed = True
        self.break_connection()
        return sock


def refused(request: Callable[[], object]) -> bool:
    """Whether the answer is a definite no; it is unknown until a connection is there again."""
    try:
        request()
    except LeadershipLost:
        return True
    except Unreachable:
        return False
    return False


class TestFaults:
    """What becomes of a place in the queue."""

    def test_an_entry_whose_answer_was_lost_is_found_again(
        self, server: ZooKeeperCluster, elector: LeaderElector, native: Any, election: str
    ) -> None:
        """One contender, not two of which one waits for the other."""
        elector.campaign(election, "first", ttl=TTL).release()
        with Proxy(server.servers[0].address) as proxy:
            url = server.url_for([("127.0.0.1", proxy.port)])
            with connect(url) as through:
                bid = Bid(election, "a", 10.0, 1.0)
                candidacy = through.backend.candidacy(bid)
                assert isinstance(candidacy, ZooKeeperCandidacy)
                proxy.lose_reply(b"__lock__")
                grant = keep_trying(candidacy)
                assert proxy.counters.cut >= 1
                (name,) = children(native, election)
                assert grant.token == native.exists(f"/{election}/{name}").czxid
                candidacy.release()
                candidacy.close()
        assert children(native, election) == []

    def test_a_place_that_was_deleted_is_taken_again_at_the_end(
        self, elector: LeaderElector, contend: Contend, native: Any, election: str
    ) -> None:
        leader = contend("a").elected(SOON)
        contend("b")
        queued(elector, election, "b")
        contend("c")
        queued(elector, election, "b", "c")
        native.delete(f"/{election}/{children(native, election)[1]}")
        queued(elector, election, "c", "b")
        leader.check()

    def test_a_tree_that_was_deleted_is_made_again(
        self, elector: LeaderElector, contend: Contend, native: Any, election: str
    ) -> None:
        """The leader knows at once, and whoever waited leads under a greater token."""
        leader = contend("a").elected(SOON)
        waiter = contend("b")
        queued(elector, election, "b")
        gone = native.transaction()  # at once, before anybody can enter again
        for name in children(native, election):
            gone.delete(f"/{election}/{name}")
        gone.delete(f"/{election}")
        assert all(done is True for done in gone.commit())
        successor = waiter.elected(SOON)
        assert leader.lost.wait(SOON)
        assert successor.token is not None
        assert leader.token is not None
        assert successor.token > leader.token
        assert children(native, election)[0].endswith("0000000000"), "the sequence starts again"

    def test_a_session_that_ends_while_waiting_costs_the_place_alone(
        self, elector: LeaderElector, contend: Contend, server: ZooKeeperCluster, election: str
    ) -> None:
        leader = contend("a").elected(SOON)
        waiter = contend("b")
        queued(elector, election, "b")
        contend("c")
        queued(elector, election, "b", "c")
        end_session(server, session_of(waiter))
        queued(elector, election, "c", "b")
        leader.check()

    def test_a_session_that_ends_while_leading_is_a_definite_no(
        self, elector: LeaderElector, contend: Contend, server: ZooKeeperCluster, election: str
    ) -> None:
        first = contend("a")
        leader = first.elected(SOON)
        end_session(server, session_of(first))
        eventually("the loss is definite", lambda: refused(leader.candidacy.renew), SOON)
        with pytest.raises(LeadershipLost):
            leader.candidacy.write_checkpoint("", b"x", 1)
        assert leader.lost.wait(SOON)
        assert elector.holder(election) is None

    def test_a_leader_that_has_ended_does_not_keep_its_place(
        self, server: ZooKeeperCluster, elector: LeaderElector, contend: Contend, election: str
    ) -> None:
        """kazoo would go on pinging for it; without its release the next would never lead."""
        with (
            Proxy(server.servers[0].address) as proxy,
            connect(server.url_for([("127.0.0.1", proxy.port)])) as through,
        ):
            leader = contend("a", using=through).elected(SOON)
            proxy.swallow("replies")
            assert leader.lost.wait(SOON)
            eventually("it is over", lambda: leader.remaining() == 0, SOON)
            proxy.forward()
            contend("b").elected(3 * TTL + SOON)

    def test_who_cancels_does_not_wait_for_a_long_ttl(
        self, server: ZooKeeperCluster, contend: Contend, elector: LeaderElector, election: str
    ) -> None:
        """The server is silent, and at this TTL a renewal would have nine seconds."""
        with (
            Proxy(server.servers[0].address) as proxy,
            connect(server.url_for([("127.0.0.1", proxy.port)])) as through,
        ):
            contend("a").elected(SOON)
            waiter = contend("b", using=through, ttl=60.0)
            queued(elector, election, "b")
            proxy.swallow()
            began = now()
            waiter.attempt.cancel()
            assert isinstance(waiter.failed(30), NotElected)
            assert now() - began < 9.0

    def test_a_connection_made_while_the_session_is_closed_is_not_kept(self) -> None:
        """Closing breaks the connection that there is; this one was about to be there."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            wire = ClosedMeanwhile(5.0, None, alone=True)
            with pytest.raises(OSError, match="over"):
                wire.create_connection(listening.getsockname())
            peer, _ = listening.accept()
            with peer:
                peer.settimeout(SOON)
                assert peer.recv(1) == b""

    def test_one_who_did_not_expect_to_lead_proves_its_session_first(
        self, elector: LeaderElector, contend: Contend, native: Any, election: str
    ) -> None:
        """Ten before it go at once, and far from the head it had written nothing."""
        native.ensure_path(f"/{election}")
        for number in range(10):
            native.create(f"/{election}/{number:032x}__lock__", b"x", ephemeral=True, sequence=True)
        late = contend("late")
        eventually("it waits", lambda: elector.candidates(election)[-1:] == ("late",), SOON)
        candidacy = late.attempt.candidacy
        assert isinstance(candidacy, ZooKeeperCandidacy)
        session = candidacy.session
        assert session is not None
        interval = candidacy.bid.request_timeout
        eventually("its proof is old", lambda: now() - session.known_since > 4 * interval, SOON)
        for name in children(native, election)[:10]:
            native.delete(f"/{election}/{name}")
        leadership = late.elected(SOON)
        assert late.elected_at is not None
        assert leadership.valid_until - late.elected_at > leadership.timing.ttl / 2
        leadership.check()

    def test_a_ttl_that_the_tick_eats_up_is_unsafe(
        self, server: ZooKeeperCluster, election: str
    ) -> None:
        with connect(server.url.replace("tick=200ms", "tick=2s")) as elector:
            with pytest.raises(UnsafeTiming, match="tick of 2 s"):
                elector.campaign(election, "a", ttl=4, wait=SOON)
            elector.campaign(election, "a", ttl=12, wait=SOON).release()


def keep_trying(candidacy: ZooKeeperCandidacy) -> Grant:
    """As the core does."""
    for _ in range(10):
        try:
            grant = candidacy.acquire(now() + SOON)
        except Unreachable:
            continue
        assert grant is not None
        return grant
    raise AssertionError("not elected in ten tries")


def session_of(contender: Contender) -> Session:
    candidacy = contender.attempt.candidacy
    assert isinstance(candidacy, ZooKeeperCandidacy)
    assert candidacy.session is not None
    return candidacy.session


def end_session(
    server: ZooKeeperCluster, session: Session, before: Callable[[], None] | None = None
) -> None:
    """From outside, with the session's own id and password: a second client closes it."""
    host, port = server.servers[0].address
    thief = KazooClient(f"{host}:{port}", client_id=session.identity)
    thief.start(timeout=15)
    if before is not None:
        before()
    thief.stop()
    thief.close()


class TestOverflow:
    """A parent's counter that comes to its end, on a real server."""

    def test_the_order_of_entry_is_kept(self, tmp_path: Path, election: str) -> None:
        """The server gives 2147483647 to everyone from there on."""
        with Counting(tmp_path, 1) as server, ExitStack() as exits:
            with kazoo_client(server.url) as client:
                client.create(f"/{election}")
                for _ in range(3 * Counting.snap_count):
                    client.create("/x", sequence=True)
            server.stop()
            server.set_counter(f"/{election}", 2**31 - 3)
            server.start()
            elector = exits.enter_context(connect(server.url))
            native = exits.enter_context(kazoo_client(server.url))
            ids = tuple(f"w{number}" for number in range(6))
            contenders = []
            for number, name in enumerate(ids):
                contenders.append(Contender(elector.attempt(election, name, ttl=TTL)))
                exits.callback(contenders[-1].close)
                contenders[0].elected(SOON)
                queued(elector, election, *ids[1 : number + 1])
            numbers = [one.sequence for one in in_order(native.get_children(f"/{election}"))]
            assert numbers.count(2**31 - 1) == 4, "the counter is not at its end"
            for number, contender in enumerate(contenders):
                leadership = contender.elected(SOON)
                assert all(later.waits for later in contenders[number + 1 :])
                leadership.release()


class Counting(ZooKeeperCluster):
    """Writes a snapshot every few transactions, in which a znode's counter can be set."""

    snap_count = 10

    def _flags(self, home: Path) -> list[str]:
        return [*super()._flags(home), f"-Dzookeeper.snapCount={self.snap_count}"]

    def set_counter(self, path: str, value: int) -> None:
        """Rewrite the newest snapshot (FileSnap, DataNode, StatPersisted and its two seals)."""
        folder = self.servers[0].home / "data" / "version-2"
        newest = max(folder.glob("snapshot.*"), key=lambda found: int(found.suffix[1:], 16))
        data = bytearray(newest.read_bytes())
        name = struct.pack(">i", len(path)) + path.encode()
        at = data.index(name) + len(name)
        (size,) = struct.unpack_from(">i", data, at)
        # Past the data, the ACL's number, czxid, mzxid, ctime, mtime and version.
        struct.pack_into(">i", data, at + 4 + max(size, 0) + 8 + 4 * 8 + 4, value)
        digest, seal = 20, 13
        for end in (len(data) - seal - digest - seal, len(data) - seal):
            struct.pack_into(">q", data, end, zlib.adler32(bytes(data[:end])))
        newest.write_bytes(data)


@pytest.mark.parametrize("how", ["the session ends", "eviction by force"])
def test_a_leader_learns_of_its_loss_before_its_next_renewal(
    server: ZooKeeperCluster, elector: LeaderElector, election: str, how: str
) -> None:
    """No renewal is sent before it knows, unless one is due at that very moment."""
    sent: list[lease.SendRenewal] = []

    def note(instruction: lease.Instruction) -> None:
        if isinstance(instruction, lease.SendRenewal):
            sent.append(instruction)

    for number in range(5):
        contender = Contender(elector.attempt(election, f"a{number}", ttl=4.0, on_change=note))
        leadership = contender.elected(10)
        try:
            eventually("it is renewed", lambda: bool(sent), 5.0)
            if how == "eviction by force":
                sent.clear()
                elector.evict(election, force=True)
            else:
                end_session(server, session_of(contender), before=sent.clear)
            assert leadership.lost.wait(5.0)
            assert leadership.reason in ("deleted", "expired")
            assert leadership.remaining() == 0
        finally:
            contender.close()
        if not sent:
            return
    raise AssertionError("it was told by a renewal, each time")


def test_a_session_that_ends_before_its_sentry_stands_is_told_of_too(
    server: ZooKeeperCluster,
    elector: LeaderElector,
    election: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the grant, not a renewal later."""

    def end(session: Session) -> None:  # the last step before the sentry
        end_session(server, session)
        eventually("the end is known here", lambda: session.ended_there, 10.0)

    monkeypatch.setattr(Session, "end_with_proof", end)
    told: list[str] = []
    candidacy = elector.backend.candidacy(Bid(election, "a", 10.0, 1.0, told.append))
    try:
        assert candidacy.acquire(now() + SOON) is not None
        assert told == ["expired"]
        with pytest.raises(LeadershipLost):
            candidacy.renew()
    finally:
        candidacy.close()
