"""etcd behind what lies between: its own gRPC proxy, connections that die silently, slow links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy
from electctl.core.elector import LeaderElector, connect
from electctl.errors import Unreachable
from electctl.lab.proxy import Proxy
from electctl.testing.stage import Contender, eventually, let_pass
from electctl_etcd import client
from electctl_etcd.lab import EtcdCluster
from tests.etcd import Address, EtcdHarness, grpc_proxy

pytestmark = pytest.mark.quiet

#: Seconds from one end of a slow link to the other.
FAR = 0.3


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield cluster


@contextmanager
def won(elector: LeaderElector, bid: Bid) -> Iterator[Candidacy]:
    """A candidacy that was elected; given up at the end."""
    candidacy = elector.backend.candidacy(bid)
    try:
        assert candidacy.acquire(now()) is not None
        yield candidacy
        candidacy.release()
    finally:
        candidacy.close()


# etcd's gRPC proxy -------------------------------------------------------------------------------


def test_every_renewal_counts_although_other_members_answer(
    three: EtcdCluster, tmp_path: Path, election: str
) -> None:
    """Keep-alive and read are answered by two members in one Raft term. And the proxy has a pace of
    its own for keep-alives: what it answers must never be taken for more than the lease has."""
    store = EtcdHarness(three)
    with (
        grpc_proxy(three, tmp_path) as url,
        connect(url) as far,
        connect(three.url) as near,
        won(far, Bid(election, "a", 6.0, 1.3)) as candidacy,
    ):
        (key,) = store.keys(f"{election}/")
        for _ in range(5):
            renewal = candidacy.renew()
            holder = near.backend.view(election).holder
            seen = now()
            assert holder is not None
            assert holder.key == key
            assert holder.expires_in is not None
            # The server rounds down.
            assert renewal.since + renewal.ttl <= seen + holder.expires_in + 1.0
            assert renewal.ttl >= 5.0
            let_pass(0.5)


def test_a_proxy_before_one_member_is_noticed(
    one: EtcdCluster, tmp_path: Path, election: str
) -> None:
    """Only its pace tells: a third of the TTL from one keep-alive to the next."""
    with (
        grpc_proxy(one, tmp_path) as url,
        connect(url) as elector,
        won(elector, Bid(election, "a", 4.0, 2.0)) as candidacy,
    ):
        for _ in range(4):
            candidacy.renew()
        began = now()
        candidacy.renew()
        assert now() - began < 1.0


# A connection that dies silently -----------------------------------------------------------------


@pytest.fixture
def address(one: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    # As if each connection were as old as that already.
    monkeypatch.setattr(client, "_SETTLED", 0.3)
    with Address(one.entrances[0].address) as address:
        yield address


@pytest.fixture
def behind(one: EtcdCluster, address: Address) -> Iterator[LeaderElector]:
    with connect(one.url_for([address.address])) as elector:
        yield elector


def test_a_leader_replaces_it_and_goes_on(
    address: Address, behind: LeaderElector, election: str
) -> None:
    with behind.campaign(election, "a", ttl=6.0) as leadership:
        let_pass(0.5)
        until = leadership.valid_until
        address.die_silently()
        eventually("it is renewed", lambda: leadership.valid_until > until + 2.0, 6.0)
        assert not leadership.lost.is_set()
        assert address.accepted == 1


def test_a_watch_and_a_waiter_replace_it(
    one: EtcdCluster, address: Address, behind: LeaderElector, election: str
) -> None:
    with connect(one.url) as near:
        leadership = near.campaign(election, "a", ttl=30.0)
        changes = behind.observe(election)
        first = next(changes)
        assert first.view is not None
        waiter = Contender(behind.attempt(election, "b", ttl=3.0))
        eventually("b waits", lambda: near.candidates(election) == ("b",), 5)
        address.die_silently()
        eventually("there is another connection", lambda: address.accepted > 0, 6)
        leadership.release()
        waiter.elected(6)
        for change in changes:
            if change.view is not None and change.view.holder and change.view.holder.id == "b":
                break
        waiter.close()


def test_a_silent_member_is_left_for_the_next(
    one: EtcdCluster, monkeypatch: pytest.MonkeyPatch, election: str
) -> None:
    """Also when its connection is replaced."""
    monkeypatch.setattr(client, "_SETTLED", 0.0)
    member = one.entrances[0].address
    with (
        Proxy(member) as first,
        Proxy(member) as second,
        connect(one.url_for([first.address, second.address])) as elector,
        won(elector, Bid(election, "a", 30.0, 1.0)) as candidacy,
    ):
        first.swallow()
        candidacy.renew()
        began = now()
        candidacy.renew()
        assert now() - began < 0.4
        first.forward()


def test_a_connection_that_is_new_is_given_time(one: EtcdCluster, election: str) -> None:
    """Where a new one is as silent as the last, it is the server's fault."""
    with (
        Proxy(one.entrances[0].address) as link,
        connect(one.url_for([link.address])) as elector,
        won(elector, Bid(election, "a", 30.0, 0.2)) as candidacy,
    ):
        link.swallow()
        before = link.counters.accepted
        for _ in range(5):
            with pytest.raises(Unreachable):
                candidacy.renew()
        assert link.counters.accepted == before
        link.forward()
        eventually("it is renewed again", lambda: renewed(candidacy), 5)


def renewed(candidacy: Candidacy) -> bool:
    """Whether a renewal is answered."""
    try:
        return candidacy.renew().ttl > 0
    except Unreachable:
        return False


# Slow links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["etcd", "etcds"])
def test_a_slow_link_connects(tmp_path: Path, scheme: str, election: str) -> None:
    with (
        EtcdCluster(tmp_path, scheme=scheme) as cluster,
        Proxy(cluster.entrances[0].address) as link,
        connect(cluster.url_for([link.address])) as elector,
    ):
        link.delay(FAR)
        began = now()
        with elector.campaign(election, "a", ttl=30.0, wait=15.0):
            # Up to four round trips to connect, two to lead.
            assert now() - began < 6.5 * 2 * FAR + 1.5
        assert not elector.backend.notes


def test_a_ttl_that_a_slow_link_cannot_keep_is_said(one: EtcdCluster, election: str) -> None:
    with Proxy(one.entrances[0].address) as link, connect(one.url_for([link.address])) as elector:
        link.delay(FAR)
        with elector.campaign(election, "a", ttl=3.0, wait=15.0):
            (note,) = elector.backend.notes
        assert "a TTL of 3 s" in note
        assert "--ttl 8s would do" in note
