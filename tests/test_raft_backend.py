"""raft:// beyond the conformance suite: nodes that die in turn, URLs, limits, twins, TLS.

What these leave out: many kills under load, which tests/test_raft_kills.py has.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector, connect
from electctl.core.leadership import Leadership
from electctl.core.receipt import Receipt
from electctl.errors import (
    ConfigError,
    DuplicateId,
    LeadershipLost,
    Refused,
    Unreachable,
    UsageError,
)
from electctl.lab.proxy import Direction, Proxy
from electctl.testing.stage import Contender, Observer, eventually, let_pass
from electctl_raft.claim import Claim
from electctl_raft.lab import RaftCluster

#: Seconds within which a busy machine must do what takes it milliseconds.
SOON = 15.0
DIRECTIONS: list[Direction] = ["requests", "replies"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftCluster]:
    with RaftCluster(tmp_path_factory.mktemp("raft"), 3) as servers:
        yield servers


@pytest.fixture
def elector(cluster: RaftCluster) -> Iterator[LeaderElector]:
    cluster.start()
    with connect(cluster.url) as opened:
        yield opened


def url_of(cluster: RaftCluster, *places: int) -> str:
    return cluster.url_for([cluster.servers[place].address for place in places])


def renewed(leadership: Leadership) -> None:
    """It is renewed by a request that was sent after this call."""
    for _ in range(2):
        before = leadership.valid_until
        eventually(
            "it is renewed",
            lambda b=before: leadership.lost.is_set() or leadership.valid_until > b,  # type: ignore[misc]
            leadership.timing.ttl,
        )
    leadership.check()


# A cluster that loses nodes ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_leadership_of_five_seconds_outlives_each_node_in_turn(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    """SIGKILL of each, the cluster's leader included, and a hand-over at the end of it all."""
    with elector.campaign(election, "a", ttl=5.0) as leadership:
        killed: set[int] = set()
        while len(killed) < 3:
            place = cluster.leading()
            if place in killed:
                place = next(iter({0, 1, 2} - killed))
            cluster.servers[place].kill()
            killed.add(place)
            renewed(leadership)
            leadership.checkpoint.set(f"{place}".encode())
            cluster.start()
            assert not leadership.lost.is_set()
        assert leadership.checkpoint.get() == f"{place}".encode()
        successor = Contender(elector.attempt(election, "b", ttl=5.0))
        eventually("b waits", lambda: elector.candidates(election) == ("b",), SOON)
    successor.elected(SOON).release()


@pytest.mark.slow
def test_who_watches_sees_each_term_also_after_the_leader_of_the_cluster_was_killed(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    """In order, none twice: a change of the cluster's leader is no change of the election."""
    with connect(cluster.url) as other:
        observer = Observer(other, election)
        try:
            assert observer.next(SOON).kind == "vacant"
            first = elector.campaign(election, "a", ttl=5.0)
            assert observer.next(SOON).view.holder is not None
            cluster.servers[cluster.leading()].kill()
            renewed(first)
            first.release()
            seen = observer.next(SOON, skip=("waiting", "unreachable", "recovered"))
            assert seen.kind == "vacant"
            with elector.campaign(election, "a", ttl=5.0) as second:
                seen = observer.next(SOON, skip=("waiting", "unreachable", "recovered"))
                assert seen.view.holder is not None
                assert seen.view.holder.token == second.token
        finally:
            observer.close()


def test_without_a_majority_the_error_says_so(cluster: RaftCluster, election: str) -> None:
    """The node answers, and has nobody to ask."""
    cluster.start()
    with connect(cluster.url) as elector:
        for server in cluster.servers[:2]:
            server.kill()
        with pytest.raises(Unreachable, match="no node leads") as caught:
            elector.holder(election)
    assert caught.value.hint is not None
    assert "majority" in caught.value.hint


def test_a_connection_that_breaks_under_a_release_is_made_again(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    """Also where there is no other node to turn to: the next need not wait for the TTL."""
    assert elector.holder(election) is None
    with Proxy(cluster.servers[cluster.leading()].address) as link:
        for direction in DIRECTIONS:
            with connect(cluster.url_for([link.address])) as one:
                leadership = one.campaign(election, "a", ttl=60.0, wait=SOON)
                broken = link.counters.cut
                link.cut_after(0, direction=direction)
                leadership.release()
                assert leadership.release_error is None
                assert link.counters.cut > broken
            assert elector.holder(election) is None


# What a URL names --------------------------------------------------------------------------------


def test_a_grant_that_came_between_two_tries_is_renewed_before_it_is_used(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    """A store that was away comes back, and hands over, while the candidate pauses."""
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(server.address)) for server in cluster.servers]
        url = cluster.url_for([proxy.address for proxy in proxies])
        backend = stack.enter_context(connect(url)).backend
        candidacy = backend.candidacy(Bid(election, "b", ttl=30.0, request_timeout=1.0))
        stack.callback(candidacy.close)
        with elector.campaign(election, "a", ttl=30.0):
            for proxy in proxies:
                proxy.hold()
            with pytest.raises(Unreachable):
                candidacy.acquire(None)
            for proxy in proxies:
                proxy.forward()
            eventually("b waits", lambda: elector.candidates(election) == ("b",), SOON)
        eventually("b leads", lambda: elector.holder(election) is not None, SOON)
        back = now()
        grant = candidacy.acquire(back + SOON)
        assert grant is not None
        assert grant.since >= back
        candidacy.release()


def test_a_url_with_the_leader_alone_is_enough_for_a_while(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    assert elector.holder(election) is None
    with (
        connect(url_of(cluster, cluster.leading())) as one,
        one.campaign(election, "a", ttl=5.0, wait=SOON) as leadership,
    ):
        leadership.check()


def test_a_url_without_the_leader_says_which_node_is_missing(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    assert elector.holder(election) is None
    leading = cluster.leading()
    others = [place for place in range(3) if place != leading]
    with (
        connect(url_of(cluster, *others)) as blind,
        pytest.raises(Unreachable, match=f"node {leading + 1} leads") as caught,
    ):
        blind.holder(election)
    assert caught.value.hint is not None
    assert "name all nodes" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("raft://", "names no node"),
        ("raft://127.0.0.1", "without its port"),
        ("raft://a..b:1", "'a..b' is not the name of a host"),
        ("raft://127.0.0.1:1/path", "no path"),
        ("raft://me:pw@127.0.0.1:1", "no users"),
        ("raft://127.0.0.1:1?ca=x", "for TLS"),
        ("rafts://127.0.0.1:1?ca=x&cert=y", r"no \?key="),
    ],
)
def test_a_url_that_says_something_else_is_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        connect(url)
    assert caught.value.hint
    assert "pw" not in caught.value.message


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/ca\.pem"):
        connect("rafts://127.0.0.1:1?ca=/nowhere/ca.pem&cert=c&key=k")


# What answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\0\0\0\2\1{", b""])
def test_what_is_no_node_is_told_apart(words: bytes, election: str) -> None:
    """It says something else, or hangs up: one clear line, at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(1)
                    caller.sendall(words)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        began = now()
        with connect(f"raft://127.0.0.1:{port}") as elector, pytest.raises(Unreachable) as caught:
            elector.holder(election)
        assert f"127.0.0.1:{port}" in caught.value.message
        assert now() - began < SOON
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SOON)


def test_a_checkpoint_that_is_too_large_is_refused_before_it_is_sent(
    elector: LeaderElector, election: str
) -> None:
    """And what is just small enough is stored on every node."""
    with elector.campaign(election, "a", ttl=5.0) as leadership:
        with pytest.raises(UsageError, match="too large") as caught:
            leadership.checkpoint.set(b"x" * 400_000)
        assert caught.value.hint
        leadership.checkpoint.set(b"x" * 380_000)
        assert leadership.checkpoint.get() == b"x" * 380_000
        leadership.check()


def test_a_twin_that_is_alive_is_refused_and_one_that_is_dead_is_outwaited(
    elector: LeaderElector, cluster: RaftCluster, election: str
) -> None:
    first = elector.campaign(election, "same", ttl=2.0)
    with connect(cluster.url) as other:
        twin = Contender(other.attempt(election, "same", ttl=2.0))
        assert isinstance(twin.failed(SOON), DuplicateId)
        first.check()
        assert elector.candidates(election) == ()
        # From now on it is dead: nobody renews it, and nobody has released it.
        first.candidacy.close()
        heir = Contender(other.attempt(election, "same", ttl=2.0))
        heir.elected(SOON).release()


# TLS ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rafts_asks_both_ends_for_a_certificate(
    tmp_path_factory: pytest.TempPathFactory, election: str
) -> None:
    """Three nodes talk TLS to each other and to us; without, or with another authority, none."""
    with RaftCluster(tmp_path_factory.mktemp("rafts"), 3, scheme="rafts") as cluster:
        with (
            connect(cluster.url) as elector,
            elector.campaign(election, "a", ttl=5.0) as leadership,
        ):
            leadership.checkpoint.set(b"y" * 300_000)
            assert leadership.checkpoint.get() == b"y" * 300_000
            renewed(leadership)
        url = BackendURL.parse(cluster.url)
        plain = replace(url, scheme="raft", options={})
        with connect(plain) as elector, pytest.raises(Unreachable):
            elector.holder(election)
        strange = RaftCluster(tmp_path_factory.mktemp("strange"), 1, scheme="rafts")
        strange.configure()
        theirs = BackendURL.parse(strange.url).options
        strange.close()
        stranger = {**url.options, "cert": theirs["cert"], "key": theirs["key"]}
        with (
            connect(replace(url, options=stranger)) as elector,
            pytest.raises((Refused, Unreachable)) as caught,
        ):
            elector.holder(election)
        assert "certificate" in f"{caught.value.message} {caught.value.hint}"
        with (
            connect(replace(url, options={**url.options, "ca": theirs["ca"]})) as elector,
            pytest.raises(Unreachable, match="certificate") as unknown,
        ):
            elector.holder(election)
        assert f"?ca={theirs['ca']} alone" in (unknown.value.hint or "")


# Silence -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_leader_of_the_cluster_that_is_stopped_delays_a_hand_over_by_an_election_only(
    cluster: RaftCluster, elector: LeaderElector, election: str
) -> None:
    """Connections to it stay open; the waiting candidate looks elsewhere, long before the TTL."""
    leadership = elector.campaign(election, "a", ttl=10.0)
    with connect(cluster.url) as other:
        waiter = Contender(other.attempt(election, "b", ttl=10.0))
        eventually("b waits", lambda: elector.candidates(election) == ("b",), SOON)
        stopped = cluster.servers[cluster.leading()]
        stopped.pause()
        try:
            renewed(leadership)
            leadership.release()
            began = now()
            successor = waiter.elected(SOON)
            assert now() - began < 10.0
            let_pass(successor.timing.renew_interval)
            successor.check()
        finally:
            stopped.resume()
        successor.release()


# Receipts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"election": "f"}, {"candidate": "b"}, {"token": 1}])
def test_a_receipt_of_another_cluster_hits_nobody(
    elector: LeaderElector, election: str, other: dict[str, object]
) -> None:
    """There a stranger has the session of that number, but not all the rest that it names."""
    with elector.campaign(election, "a", ttl=5.0) as leadership:
        claim = Claim.unpack(leadership.candidacy.receipt() or "")
        elector.give_back(Receipt(5.0, replace(claim, **other).pack()).pack())  # type: ignore[arg-type]
        assert leadership.candidacy.renew().ttl > 0
        elector.give_back(leadership.receipt or "")
        with pytest.raises(LeadershipLost):
            leadership.candidacy.renew()
