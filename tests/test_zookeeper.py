"""zk:// on a real server: what it leaves in the tree, and who may see, follow and end it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector, connect
from electctl.core.observe import Change, Observation
from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable, UsageError
from electctl.testing.stage import Contender, eventually
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.zookeeper import USERS, cluster, kazoo_client
from tests.zookeeper_stage import SOON, TTL, Contend, contending, queued


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
        assert native.exists(f"/{election}") is None
        assert native.exists(f"/.electctl/%{election}") is None

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
            connect(f"zk://{host}:{port}/deep/{election}?tick=0.2s&create=true") as elector,
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


@contextmanager
def stranger(banner: bytes) -> Iterator[int]:
    """A port of something else: it takes connections, says its word and no other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    taken.append(server.accept()[0])
                    taken[-1].sendall(banner)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


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

    @pytest.mark.quiet
    @pytest.mark.parametrize("ttl", [10.0, 60.0])
    @pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b""], ids=["talks", "silent"])
    def test_what_is_no_zookeeper_takes_no_longer_than_the_wait(
        self, banner: bytes, ttl: float
    ) -> None:
        with stranger(banner) as port, connect(f"zk://127.0.0.1:{port}") as elector:
            began = now()
            with pytest.raises(Unreachable, match="did not answer in time"):
                elector.campaign("nightly", "a", ttl=ttl, wait=1.0)
            assert 1.0 <= now() - began < 1.5


class TestWatching:
    """Watches follow every leader that they could see coming."""

    def test_an_id_that_comes_back_is_not_shown_beside_itself(
        self, elector: LeaderElector, native: Any, election: str
    ) -> None:
        """All happens between two looks: the watch learns that "a" is back before it has gone."""

        def enter(who: bytes) -> str:
            path = f"/{election}/{os.urandom(16).hex()}__lock__"
            return str(native.create(path, who, ephemeral=True, sequence=True, makepath=True))

        first = enter(b"a")
        watch = elector.backend.watch(election)
        begun = watch.next(SOON)
        assert begun is not None
        assert begun.holder is not None
        assert begun.holder.id == "a"
        enter(b"b")
        native.delete(first)
        enter(b"a")
        seen = [watch.next(SOON)]
        while (view := watch.next(0.2)) is not None:
            seen.append(view)
        watch.close()
        shown = [(view.holder and view.holder.id, view.waiting) for view in seen if view]
        assert shown == [("b", ("a",))]

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
    def test_what_a_user_keeps_for_itself_is_the_users(
        self, server: ZooKeeperCluster, elector: LeaderElector, election: str, auth: str
    ) -> None:
        """Others can neither read nor contend nor evict, and are told so."""
        url = (
            server.url.replace("zk://", f"zk://alice:{USERS['alice']}@")
            + f"&auth={auth}&acl=creator"
        )
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
        url = server.url.replace("?", f"/{election}?acl=creator&")
        with (
            connect(url.replace("zk://", "zk://alice:one@")) as alice,
            connect(url.replace("zk://", "zk://bob:two@")) as bob,
            alice.campaign("hers", "a", ttl=TTL, wait=SOON) as hers,
            bob.campaign("his", "b", ttl=TTL, wait=SOON) as his,
        ):
            hers.checkpoint.set(b"1")
            his.checkpoint.set(b"2")
            with pytest.raises(Refused) as caught:
                bob.campaign("hers", "b", ttl=TTL, wait=0)
            own = f"/{election}/.electctl/%hers/candidates"
            said = f"the ACL of {own} gives no right to create (the user is 'bob')"
            assert said in caught.value.message
            assert f"getAcl {own}" in (caught.value.hint or "")
            with pytest.raises(Refused):
                bob.evict("hers", force=True)

    def test_an_election_under_a_parent_that_is_not_ours(
        self, server: ZooKeeperCluster, elector: LeaderElector, native: Any, election: str
    ) -> None:
        private = [make_digest_acl("bob", "bobs", all=True)]
        native.create(f"/{election}", acl=private)
        name = f"{election}/nightly"
        with pytest.raises(Refused, match=f"ACL of /{election} gives no right to create"):
            elector.campaign(name, "a", ttl=TTL, wait=1)
        with (
            connect(server.url.replace("zk://", "zk://bob:bobs@")) as bob,
            bob.campaign(name, "a", ttl=TTL, wait=SOON) as leadership,
        ):
            leadership.checkpoint.set(b"1")
            with pytest.raises(Refused, match=r"gives no right to read \(nobody is logged in"):
                elector.holder(name)
            native.add_auth("digest", "bob:bobs")
            for path in (f"/{name}", f"/.electctl/%{election}%2Fnightly/checkpoints"):
                assert set(native.get_acls(path)[0]) == set(private)
            for child in native.get_children(f"/{name}"):
                assert set(native.get_acls(f"/{name}/{child}")[0]) == set(private)

    def test_a_user_leaves_an_open_parent_open(
        self, server: ZooKeeperCluster, elector: LeaderElector, native: Any, election: str
    ) -> None:
        """To native tools, to other users and to nobody in particular; marks and all."""
        name = f"jobs-{election}/nightly"
        with connect(server.url.replace("zk://", "zk://alice:one@")) as alice:
            leadership = alice.campaign(name, "a", ttl=TTL, wait=SOON)
            leadership.checkpoint.set(b"hers")
            for path in (f"/jobs-{election}", f"/{name}", f"/.electctl/%jobs-{election}%2Fnightly"):
                assert native.get_acls(path)[0] == OPEN_ACL_UNSAFE
            lock = native.Lock(f"/{name}", "kazoo")
            assert not lock.acquire(blocking=False)
            with connect(server.url.replace("zk://", "zk://bob:two@")) as bob:
                assert bob.backend.evict(name, force=False) is not None
                assert leadership.stop_requested.wait(SOON)
                leadership.release()
                with bob.campaign(name, "b", ttl=TTL, wait=SOON) as his:
                    assert his.checkpoint.get() == b"hers"
                    his.checkpoint.set(b"his")
            elector.campaign(name, "c", ttl=TTL, wait=SOON).release()
            assert lock.acquire(timeout=SOON)
            lock.release()

    def test_a_refused_right_is_no_wrong_password(
        self, server: ZooKeeperCluster, native: Any, election: str
    ) -> None:
        native.create(f"/{election}", acl=[make_acl("world", "anyone", read=True)])
        with connect(server.url.replace("zk://", "zk://alice:one@")) as alice:
            assert alice.holder(election) is None
            with pytest.raises(Refused) as caught:
                alice.campaign(election, "a", ttl=TTL, wait=0)
        assert f"the ACL of /{election} gives no right to create" in caught.value.message
        assert "'alice'" in caught.value.message
        assert "ELECTCTL_PASSWORD" not in (caught.value.hint or "")
        assert "one" not in caught.value.message.split()

    def test_a_path_of_the_url_that_is_not_there_is_no_empty_store(
        self, server: ZooKeeperCluster, native: Any, election: str
    ) -> None:
        native.create(f"/{election}")
        native.create(f"/{election}/apps")
        for path, hint in (
            (f"{election}/zzz/x", f"/{election} holds apps; ?create=true makes it"),
            (f"{election}/app", f"did you mean /{election}/apps? ?create=true makes it"),
        ):
            url = server.url.replace("?", f"/{path}?")
            with connect(url) as elector:
                for ask in (
                    lambda: elector.campaign("nightly", "a", ttl=TTL, wait=0),
                    lambda: elector.holder("nightly"),
                    lambda: next(iter(elector.observe("nightly"))),
                ):
                    with pytest.raises(ConfigError, match=f"has no znode /{path}") as caught:
                        ask()
                    assert caught.value.hint == hint
            assert native.exists(f"/{path}") is None
            with connect(f"{url}&create=true") as elector:
                assert elector.holder("nightly") is None
            assert native.exists(f"/{path}") is not None

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
                pytest.raises(Unreachable, match="not trusted") as caught,
            ):
                elector.campaign(election, "a", ttl=10, wait=10)
            assert "SSL_CERT_FILE" in (caught.value.hint or "")
            stranger = tmp_path / "stranger"
            stranger.mkdir()
            make_certificates(stranger)
            with (
                connect(f"{secure.url}&ca={stranger / 'ca.pem'}") as elector,
                pytest.raises(Unreachable, match="not trusted") as caught,
            ):
                elector.holder(election)
            assert f"?ca={stranger / 'ca.pem'} alone" in (caught.value.hint or "")


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
