"""Three etcd members with faults of their own; members with TLS; members that ask who we are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, View
from electctl.core.elector import LeaderElector, connect
from electctl.errors import OutcomeUnknown, Refused, Unreachable
from electctl.lab.server import Server
from electctl.testing.stage import Contender, Stage, eventually, let_pass
from electctl_etcd import requests
from electctl_etcd.lab import EtcdCluster
from electctl_etcd.rpc import grpc, is_stale_token, pb
from tests.etcd import EtcdHarness

LOGIN = "worker:s3cret"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdHarness]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield EtcdHarness(cluster)


@pytest.fixture
def three(shared: EtcdHarness) -> Iterator[EtcdHarness]:
    """Three members that all run, before the test and after it."""
    yield shared
    for server in shared.cluster.servers:
        if server.paused:
            server.resume()
    shared.cluster.start()


@pytest.fixture
def stage(three: EtcdHarness, election: str) -> Iterator[Stage]:
    stage = Stage(three, election)
    # An election among the members takes two seconds, and more on a busy machine.
    stage.ttl = 10.0
    with stage.exits:
        yield stage


def by_way_of(stage: Stage, first: int) -> LeaderElector:
    """A client that asks member number ``first`` as long as it answers."""
    servers = stage.harness.cluster.entrances
    order = [server.address for server in servers[first:] + servers[:first]]
    return stage.open(url=stage.harness.cluster.url_for(order))


def leading_member(three: EtcdHarness) -> Server:
    """The member that leads the cluster itself."""
    table = three.etcd.etcdctl("endpoint", "status", "--write-out=fields")
    member, leader = "", {}
    for line in table.splitlines():
        name, _, value = line.partition(" : ")
        if name == '"MemberID"':
            member = value
        elif name == '"Leader"':
            leader[member] = value
    index = [found == own for own, found in leader.items()].index(True)
    return three.cluster.servers[index]


def break_down(server: Server, how: str) -> None:
    if how == "kill":
        server.kill()
    else:
        server.pause()


# Fail-over ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_watch_moves_to_another_member_and_misses_nothing(
    stage: Stage, three: EtcdHarness, how: str
) -> None:
    watch = by_way_of(stage, 0).backend.watch(stage.election)
    assert watch.next(5) == View(None)
    assert watch.next(0.1) is None
    break_down(three.cluster.servers[0], how)
    elector = by_way_of(stage, 1)
    tokens: list[int | None] = []
    for _ in range(3):
        with elector.campaign(stage.election, "a", ttl=stage.ttl, wait=10) as leadership:
            tokens.append(leadership.token)
    views = [watch.next(15) for _ in range(6)]
    watch.close()
    assert [view.holder.token for view in views if view and view.holder] == tokens
    assert [bool(view and view.holder) for view in views] == [True, False] * 3


def test_a_renewal_over_a_planned_change_of_the_clusters_leader(
    stage: Stage, three: EtcdHarness
) -> None:
    """Keep-alive and read then come from two Raft terms, or from one that has changed."""
    candidacy = stage.elector.backend.candidacy(Bid(stage.election, "a", 60.0, 5.0))
    assert candidacy.acquire(None) is not None
    for _ in range(2):
        leader = leading_member(three)
        others = [server for server in three.cluster.servers if server is not leader]
        members = three.etcd.etcdctl("member", "list").splitlines()
        target = next(line for line in members if f" {others[0].name}," in line).split(",")[0]
        three.etcd.etcdctl("move-leader", target)
        began = now()
        renewal = candidacy.renew()
        assert renewal.since >= began
    candidacy.release()
    candidacy.close()


def test_without_a_majority_it_is_unknown_and_comes_back(stage: Stage, three: EtcdHarness) -> None:
    """The member that we ask is cut off from its peers, who are stopped."""
    candidacy = by_way_of(stage, 0).backend.candidacy(Bid(stage.election, "a", 60.0, 2.0))
    assert candidacy.acquire(None) is not None
    for server in three.cluster.servers[1:]:
        server.pause()
    began = now()
    with pytest.raises((Unreachable, OutcomeUnknown)):
        candidacy.renew()
    assert now() - began < 4.0
    for server in three.cluster.servers[1:]:
        server.resume()

    def renewed() -> bool:
        try:
            return candidacy.renew().ttl > 0
        except (Unreachable, OutcomeUnknown):
            return False

    eventually("it is renewed again", renewed, 20)
    candidacy.release()
    candidacy.close()


# TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcds"), scheme="etcds") as cluster:
        yield cluster


def test_tls_with_a_client_certificate(secure: EtcdCluster) -> None:
    assert secure.url.startswith("etcds://127.0.0.1:")
    with connect(secure.url) as elector:
        watch = elector.backend.watch("tls")
        assert watch.next(5) == View(None)
        with elector.campaign("tls", "a", ttl=2.0, wait=5) as leadership:
            leadership.checkpoint.set(b"kept")
            view = watch.next(5)
            assert view is not None
            assert view.holder is not None
            assert view.holder.id == "a"
        assert elector.backend.read_checkpoint("tls", "") == b"kept"
        watch.close()


@pytest.mark.parametrize("what", ["no-client-certificate", "unknown-authority", "no-tls"])
def test_what_is_wrong_with_tls_is_unreachable_with_a_hint(
    secure: EtcdCluster, tmp_path: Path, what: str
) -> None:
    address = f"127.0.0.1:{secure.servers[0].port}"
    certificates = secure.certificates
    url = {
        "no-client-certificate": f"etcds://{address}?ca={certificates}/ca.crt",
        "unknown-authority": f"etcds://{address}?ca={certificates}/client.crt",
        "no-tls": f"etcd://{address}",
    }[what]
    with connect(url) as elector, pytest.raises(Unreachable) as caught:
        elector.holder("tls")
    assert caught.value.hint
    assert "?" in caught.value.hint


# Users -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdHarness]:
    """A user that may use one election only, and whose tokens last a second."""
    home = tmp_path_factory.mktemp("etcd-users")
    extra = ["--auth-token-ttl", "1"]
    with EtcdCluster(home, login=LOGIN, elections=["allowed"], extra=extra) as cluster:
        yield EtcdHarness(cluster, LOGIN)


def let_tokens_expire(cluster: EtcdCluster) -> None:
    """Return when a token that was made now is refused; using one makes it last longer."""
    user, _, password = LOGIN.partition(":")
    channel = grpc.insecure_channel(f"127.0.0.1:{cluster.servers[0].port}")
    login = pb.AuthenticateRequest(name=user, password=password)
    token = pb.calls(channel, "Auth").Authenticate(login, timeout=10).token

    def refused() -> bool:
        let_pass(2.5)
        query = pb.RangeRequest(key=b"allowed/")
        try:
            pb.calls(channel, "KV").Range(query, timeout=10, metadata=(("token", token),))
        except grpc.RpcError as error:
            return is_stale_token(error)
        return False

    eventually("the token is refused", refused, 30)
    channel.close()


def test_expired_tokens_are_renewed(guarded: EtcdHarness) -> None:
    """While leading, watching and waiting."""
    with connect(guarded.url) as one, connect(guarded.url) as two, connect(guarded.url) as three:
        leading = one.backend.candidacy(Bid("allowed", "a", 60.0, 5.0))
        assert leading.acquire(None) is not None
        waiting = Contender(three.attempt("allowed", "b", ttl=6.0))
        eventually("b waits", lambda: one.candidates("allowed") == ("b",), 30)
        watch = two.backend.watch("allowed")
        assert watch.next(5) is not None
        let_tokens_expire(guarded.etcd)
        assert leading.renew().ttl == 60.0
        again = two.backend.watch("allowed")
        assert again.next(5) is not None
        assert again.next(0.1) is None
        leading.release()
        waiting.elected(30)
        for followed in (watch, again):
            view = followed.next(5)
            assert view is not None
            assert view.holder is not None
            assert view.holder.id == "b"
            followed.close()
        waiting.close()


def test_a_watch_is_opened_with_a_token_that_has_expired_since(guarded: EtcdHarness) -> None:
    """The server refuses such a watch as if it were forbidden (etcd issue 12385)."""
    with connect(guarded.url) as elector:
        client = vars(elector.backend)["_client"]
        elector.holder("allowed")
        let_tokens_expire(guarded.etcd)
        stream = client.call("open_watch", requests.watch(b"allowed/x", 1), 10.0)
        stream.close()


def test_a_wrong_password_is_refused(guarded: EtcdHarness) -> None:
    port = guarded.cluster.servers[0].port
    with connect(f"etcd://worker:wrong@127.0.0.1:{port}") as elector:
        with pytest.raises(Refused) as caught:
            elector.campaign("allowed", "a", wait=5)
        assert "wrong" not in f"{caught.value.message} {caught.value.hint}".replace("wrong@", "")
        with pytest.raises(Refused):
            elector.holder("allowed")


def test_no_password_is_refused(guarded: EtcdHarness) -> None:
    port = guarded.cluster.servers[0].port
    with connect(f"etcd://127.0.0.1:{port}") as elector, pytest.raises(Refused) as caught:
        elector.holder("allowed")
    assert "password" in (caught.value.hint or "")


def test_another_election_is_refused_and_the_hint_names_the_keys(guarded: EtcdHarness) -> None:
    with connect(guarded.url) as elector:
        with pytest.raises(Refused) as caught:
            elector.campaign("forbidden", "a", wait=5)
        assert "electctl.io/" in (caught.value.hint or "")
        assert re.search("the user '[a-z]+' needs readwrite on forbidden/", caught.value.message)
        with pytest.raises(Refused, match=r"needs read on forbidden/\)"):
            elector.holder("forbidden")
        watch = elector.backend.watch("forbidden")
        with pytest.raises(Refused):
            watch.next(5)
        watch.close()


def test_a_login_where_nobody_is_asked_is_no_error(shared: EtcdHarness, election: str) -> None:
    """As with the native client."""
    port = shared.cluster.servers[0].port
    with connect(f"etcd://somebody:password@127.0.0.1:{port}") as elector:
        assert elector.holder(election) is None
