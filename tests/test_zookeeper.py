"""zk:// on a real server: what it leaves in the tree, and what it makes of faults there."""

from __future__ import annotations

import re
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from electctl.backend import Bid, Grant
from electctl.clock import now
from electctl.elector import LeaderElector, connect
from electctl.errors import (
    ConfigError,
    ElectctlError,
    LeadershipLost,
    Refused,
    Unreachable,
    UnsafeTiming,
    UsageError,
)
from electctl.lab.proxy import Proxy
from electctl.observe import Change, Observation
from electctl.testing.stage import Contender, eventually
from electctl.url import BackendURL
from electctl_zookeeper.candidacy import ZooKeeperCandidacy
from electctl_zookeeper.lab import ZooKeeperCluster
from electctl_zookeeper.names import in_order
from tests.zookeeper import USERS, cluster, kazoo_client

TTL = 2.0
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
def native(server: ZooKeeperCluster) -> Iterator[Any]:
    with kazoo_client(server.url) as client:
        yield client


Contend = Callable[..., Contender]


@pytest.fixture
def contend(elector: LeaderElector, election: str) -> Iterator[Contend]:
    """A campaign in a thread; what is still there at the end is cleared away."""
    made: list[Contender] = []

    def begin(candidate: str, *, using: LeaderElector | None = None, ttl: float = TTL) -> Contender:
        contender = Contender((using or elector).attempt(election, candidate, ttl=ttl))
        made.append(contender)
        return contender

    yield begin
    for contender in made:
        contender.close()


def queued(elector: LeaderElector, election: str, *ids: str) -> None:
    eventually(f"{ids} wait", lambda: elector.candidates(election) == ids, SOON)


def children(native: Any, election: str) -> list[str]:
    return [one.name for one in in_order(native.get_children(f"/{election}"))]


class TestTree:
    """What others see of us."""

    @pytest.mark.parametrize(
        ("recipe", "shape"),
        [
            ("kazoo", r"[0-9a-f]{32}__lock__\d{10}"),
            ("curator-latch", r"_c_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-latch-\d{10}"),
            ("curator-lock", r"_c_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-lock-\d{10}"),
        ],
    )
    def test_a_contender_is_ephemeral_sequential_and_holds_the_id(
        self, server: ZooKeeperCluster, native: Any, election: str, recipe: str, shape: str
    ) -> None:
        with (
            connect(f"{server.url}&recipe={recipe}") as elector,
            elector.campaign(election, "wörker", ttl=TTL) as leadership,
        ):
            (name,) = native.get_children(f"/{election}")
            assert re.fullmatch(shape, name)
            data, stat = native.get(f"/{election}/{name}")
            assert data.decode() == "wörker"
            assert stat.ephemeralOwner != 0
            assert stat.czxid == leadership.token
        assert native.get_children(f"/{election}") == []
        assert native.get_children(f"/.electctl/%{election}/candidates") == []

    def test_renewals_leave_the_contender_alone_and_write_to_its_mark(
        self, elector: LeaderElector, native: Any, election: str
    ) -> None:
        """Curator's latch watches its predecessor's data and would never wake again."""
        with elector.campaign(election, "a", ttl=TTL) as leadership:
            (name,) = native.get_children(f"/{election}")
            mark = f"/.electctl/%{election}/candidates/{name[:32]}"
            before = native.exists(mark).version
            eventually("three renewals", lambda: native.exists(mark).version >= before + 3, SOON)
            stat = native.exists(f"/{election}/{name}")
            assert (stat.version, stat.mzxid) == (0, stat.czxid)
            assert native.exists(mark).czxid == leadership.token
            leadership.check()

    def test_the_chroot_is_the_urls_path(
        self, server: ZooKeeperCluster, native: Any, election: str
    ) -> None:
        url = BackendURL.parse(server.url)
        host, port = url.hosts[0]
        with (
            connect(f"zk://{host}:{port}/deep/{election}?tick=0.2s") as elector,
            elector.campaign("jobs/nightly", "a", ttl=TTL) as leadership,
        ):
            assert len(native.get_children(f"/deep/{election}/jobs/nightly")) == 1
            leadership.checkpoint.set(b"42")
            assert native.exists(f"/deep/{election}/.electctl/%jobs%2Fnightly/checkpoints")
            assert leadership.checkpoint.get() == b"42"

    def test_a_checkpoint_that_is_too_large_is_refused_by_us(
        self, elector: LeaderElector, election: str
    ) -> None:
        """The server would hang up, and the session with it."""
        with elector.campaign(election, "a", ttl=10) as leadership:
            with pytest.raises(UsageError, match="takes 1000000"):
                leadership.checkpoint.set(b"x" * 1_000_001)
            leadership.checkpoint.set(b"x" * 1_000_000)
            assert leadership.checkpoint.get() == b"x" * 1_000_000


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
        for name in reversed(children(native, election)):
            native.delete(f"/{election}/{name}")
        native.delete(f"/{election}")
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
        end_session(server, waiter)
        queued(elector, election, "c", "b")
        leader.check()

    def test_a_session_that_ends_while_leading_is_a_definite_no(
        self, elector: LeaderElector, contend: Contend, server: ZooKeeperCluster, election: str
    ) -> None:
        first = contend("a")
        leader = first.elected(SOON)
        end_session(server, first)
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


def end_session(server: ZooKeeperCluster, contender: Contender) -> None:
    """From outside, with the session's own id and password: a second client closes it."""
    candidacy = contender.attempt.candidacy
    assert isinstance(candidacy, ZooKeeperCandidacy)
    assert candidacy.session is not None
    host, port = server.servers[0].address
    thief = KazooClient(f"{host}:{port}", client_id=candidacy.session.identity)
    thief.start(timeout=15)
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
                if number:
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


class TestContact:
    """What is said when there is none."""

    @pytest.mark.parametrize(
        ("url", "cause"),
        [("zk://127.0.0.1:1", "refused"), ("zk://no-such-host.invalid", "no such host")],
    )
    def test_the_cause_is_named(self, url: str, cause: str) -> None:
        with connect(url) as elector, pytest.raises(Unreachable, match=cause) as caught:
            elector.holder("nightly")
        assert caught.value.hint


class TestWatching:
    """Watches follow every leader that they could see coming."""

    def test_fifty_changes_as_fast_as_they_come_are_followed(
        self, server: ZooKeeperCluster, elector: LeaderElector, election: str
    ) -> None:
        """Twice 25 that release as soon as they lead, against their own records."""
        observation = Observation(elector.backend, election)
        changes: list[Change] = []
        led: list[int] = []

        def follow() -> None:
            for change in observation:
                changes.append(change)

        def take_part(number: int) -> None:
            with (
                connect(server.url) as own,
                own.campaign(election, f"c{number}", ttl=10, wait=60) as leadership,
            ):
                led.append(leadership.token or 0)

        watcher = threading.Thread(target=follow)
        watcher.start()
        eventually("it watches", lambda: bool(changes), SOON)
        with ThreadPoolExecutor(25) as pool:
            for _ in range(2):
                with elector.campaign(election, "first", ttl=10, wait=SOON) as leadership:
                    led.append(leadership.token or 0)
                    running = [pool.submit(take_part, number) for number in range(25)]
                    eventually("all are seen", lambda: len(changes[-1].view.waiting) == 25, 20)
                for done in running:
                    done.result(60)
                eventually("the end is seen", lambda: changes[-1].kind == "vacant", SOON)
        observation.close()
        watcher.join(SOON)
        seen = [
            change.view.holder.token
            for change in changes
            if change.kind == "holder" and change.view.holder is not None
        ]
        assert len(led) == 52
        assert seen == led

    def test_twenty_lead_in_the_order_in_which_they_queued(
        self, elector: LeaderElector, contend: Contend, election: str
    ) -> None:
        leader = contend("first", ttl=10).elected(SOON)
        ids = tuple(f"w{number:02}" for number in range(20))
        waiters = []
        for number, name in enumerate(ids):
            waiters.append(contend(name, ttl=10))
            queued(elector, election, *ids[: number + 1])
        order = []
        for _ in ids:
            leader.release()
            eventually("the next leads", lambda: any(not w.waits for w in waiters), SOON)
            (winner,) = [waiter for waiter in waiters if not waiter.waits]
            waiters.remove(winner)
            order.append(winner.id)
            leader = winner.elected(0)
        assert tuple(order) == ids


class TestEviction:
    """Asking works on ours alone; force works on all."""

    def test_a_native_holder_cannot_be_asked(
        self, elector: LeaderElector, native: Any, election: str
    ) -> None:
        lock = native.Lock(f"/{election}", "kazoo")
        lock.acquire(timeout=SOON)
        holder = elector.holder(election)
        assert holder is not None
        assert (holder.id, holder.can_be_asked) == ("kazoo", False)
        elector.backend.evict(election, force=False)
        assert elector.holder(election) == holder
        evicted = elector.evict(election, force=True)
        assert evicted == holder
        assert elector.holder(election) is None

    def test_being_asked_twice_is_being_asked_once(
        self, elector: LeaderElector, contend: Contend, election: str
    ) -> None:
        leader = contend("a").elected(SOON)
        for _ in range(2):
            asked = elector.backend.evict(election, force=False)
            assert asked is not None
            assert asked.can_be_asked
        assert leader.stop_requested.wait(SOON)
        leader.check()
        leader.release()
        successor = contend("a").elected(SOON)
        assert not successor.stop_requested.wait(TTL / 2)


class TestSecurity:
    """Credentials, ACLs and TLS."""

    @pytest.mark.parametrize("auth", ["digest", "sasl"])
    def test_what_a_user_creates_is_the_users(
        self, server: ZooKeeperCluster, elector: LeaderElector, election: str, auth: str
    ) -> None:
        """Others can neither read nor contend nor evict, and are told so."""
        url = server.url.replace("zk://", f"zk://alice:{USERS['alice']}@") + f"&auth={auth}"
        with (
            connect(url) as alice,
            alice.campaign(election, "a", ttl=TTL) as leadership,
            connect(url) as again,
        ):
            leadership.checkpoint.set(b"mine")
            assert again.holder(election) is not None
            for refused in (
                lambda: elector.campaign(election, "b", ttl=TTL, wait=0),
                lambda: elector.holder(election),
                lambda: elector.evict(election, force=True),
                lambda: elector.backend.read_checkpoint(election, ""),
            ):
                with pytest.raises(Refused) as caught:
                    refused()
                assert caught.value.hint
                assert USERS["alice"] not in caught.value.message
            with pytest.raises(ElectctlError):
                again.evict(election, wait=0.1)  # it reaches the mark; nobody heeds it here
            assert leadership.stop_requested.wait(SOON)

    @pytest.mark.parametrize("auth", ["digest", "sasl"])
    def test_no_log_holds_the_password(
        self,
        server: ZooKeeperCluster,
        caplog: pytest.LogCaptureFixture,
        election: str,
        auth: str,
    ) -> None:
        caplog.set_level(1)
        url = server.url.replace("zk://", f"zk://alice:{USERS['alice']}@") + f"&auth={auth}"
        with connect(url) as alice:
            alice.campaign(election, "a", ttl=TTL, wait=SOON).release()
        assert "Zookeeper connection established" in caplog.text
        assert USERS["alice"] not in caplog.text

    def test_an_open_acl_lets_others_contend(
        self, server: ZooKeeperCluster, contend: Contend, election: str
    ) -> None:
        url = server.url.replace("zk://", f"zk://alice:{USERS['alice']}@") + "&acl=open"
        with connect(url) as alice:
            leader = alice.campaign(election, "a", ttl=TTL)
            waiter = contend("b")
            eventually("b waits", lambda: alice.candidates(election) == ("b",), SOON)
            leader.release()
            waiter.elected(SOON)

    def test_users_share_a_server_and_not_their_elections(
        self, server: ZooKeeperCluster, native: Any, election: str
    ) -> None:
        """Who comes first keeps nobody from an election of their own."""
        native.create(f"/{election}")  # a chroot where nobody has been
        url = server.url.replace("?", f"/{election}?")
        with (
            connect(url.replace("zk://", "zk://alice:one@")) as alice,
            connect(url.replace("zk://", "zk://bob:two@")) as bob,
            alice.campaign("hers", "a", ttl=TTL, wait=SOON) as hers,
            bob.campaign("his", "b", ttl=TTL, wait=SOON) as his,
        ):
            hers.checkpoint.set(b"1")
            his.checkpoint.set(b"2")
            with pytest.raises(Refused):
                bob.campaign("hers", "b", ttl=TTL, wait=0)
            with pytest.raises(Refused):
                bob.evict("hers", force=True)

    def test_an_election_under_a_parent_that_is_not_ours(
        self, server: ZooKeeperCluster, elector: LeaderElector, native: Any, election: str
    ) -> None:
        native.create(f"/{election}", acl=[make_digest_acl("bob", "bobs", all=True)])
        with pytest.raises(Refused, match="ACL"):
            elector.campaign(f"{election}/nightly", "a", ttl=TTL, wait=1)
        with connect(server.url.replace("zk://", "zk://bob:bobs@")) as bob:
            bob.campaign(f"{election}/nightly", "a", ttl=TTL, wait=SOON).release()

    def test_tls(self, tmp_path: Path, election: str) -> None:
        make_certificates(tmp_path)
        with ZooKeeperCluster(tmp_path / "lab", 1, tls=tmp_path) as secure:
            with (
                connect(f"{secure.url}&ca={tmp_path / 'ca.pem'}") as elector,
                elector.campaign(election, "a", ttl=10, wait=10) as leadership,
            ):
                leadership.candidacy.renew()
            with (
                connect(f"{secure.url}&tls=true") as elector,
                pytest.raises(ConfigError, match="not trusted"),
            ):
                elector.campaign(election, "a", ttl=10, wait=10)


def make_certificates(folder: Path) -> None:
    """An authority, and a server's key and certificate for 127.0.0.1."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj")
    openssl(*new, "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(
        *new, "/CN=zookeeper", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE",
        "-keyout", "server.key", "-out", "server.crt",
    )  # fmt: skip
    chain = [(folder / name).read_text() for name in ("server.key", "server.crt", "ca.pem")]
    (folder / "server.pem").write_text("".join(chain))


class TestCost:
    """A hand-over costs the server the same whatever the length of the queue."""

    @pytest.mark.slow
    def test_operations_for_each_hand_over_do_not_grow_with_the_queue(
        self, server: ZooKeeperCluster, election: str
    ) -> None:
        few = requests_for_each_hand_over(server, f"{election}-few", 10)
        many = requests_for_each_hand_over(server, f"{election}-many", 60)
        assert many < few + 4, (few, many)


def requests_for_each_hand_over(server: ZooKeeperCluster, election: str, count: int) -> float:
    """What the server took in for ten hand-overs, with ``count`` waiting behind.

    Their sessions are so long that neither pings nor renewals fall into the measurement.
    """
    with connect(server.url) as elector:
        contenders = [Contender(elector.attempt(election, "c0", ttl=100))]
        leader = contenders[0].elected(SOON)
        ids: tuple[str, ...] = ()
        for number in range(1, count + 1):
            contenders.append(Contender(elector.attempt(election, f"c{number}", ttl=100)))
            ids = (*ids, f"c{number}")
            queued(elector, election, *ids)
        before = received(server)
        for contender in contenders[1:11]:
            leader.release()
            leader = contender.elected(SOON)
        after = received(server)
        for contender in reversed(contenders):
            contender.close()
    return (after - before) / 10


def received(server: ZooKeeperCluster) -> int:
    """Requests that the server has taken in, this question left out."""
    found = re.search(r"zk_packets_received\s+(\d+)", server.word(1, b"mntr"))
    assert found is not None
    return int(found[1])
