"""zk:// on three servers, some of which are killed, stopped or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from electctl.elector import LeaderElector, connect
from electctl.lab.proxy import Proxy
from electctl.leadership import Leadership
from electctl.testing.stage import Contender, eventually
from electctl_zookeeper.candidacy import ZooKeeperCandidacy
from electctl_zookeeper.lab import SYNC_LIMIT, TICK_MS, ZooKeeperCluster
from tests.zookeeper import cluster, kazoo_client

pytestmark = pytest.mark.slow

TTL = 6.0
SOON = 10.0
#: The member that the separable ensemble can be cut from. The highest id leads a fresh ensemble.
FAR = 1


class Separable(ZooKeeperCluster):
    """Member FAR and the others reach each other through proxies alone."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, 3, scheme="zk")
        self.proxies: list[Proxy] = []

    def peer_address(self, number: int, other: int) -> tuple[int, int]:
        real = super().peer_address(number, other)
        if number == other or FAR not in (number, other):
            return real
        made = [Proxy(("127.0.0.1", port)) for port in real]
        self.proxies += made
        return made[0].port, made[1].port

    def close(self) -> None:
        super().close()
        for proxy in self.proxies:
            proxy.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperCluster]:
    with cluster(tmp_path_factory.mktemp("ensemble"), 3) as servers:
        yield servers


@pytest.fixture
def whole(three: ZooKeeperCluster) -> Iterator[ZooKeeperCluster]:
    """All of it runs at the start of a test."""
    three.start()
    yield three
    for server in three.servers:
        if server.paused:
            server.resume()


@pytest.fixture
def elector(whole: ZooKeeperCluster) -> Iterator[LeaderElector]:
    with connect(whole.url) as found:
        yield found


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def contend(exits: ExitStack, elector: LeaderElector, *args: Any, **more: Any) -> Contender:
    contender = Contender(elector.attempt(*args, **more))
    exits.callback(contender.close)
    return contender


def member_of(leadership: Leadership) -> int:
    """The number of the server that opened a leadership's session."""
    candidacy = leadership.candidacy
    assert isinstance(candidacy, ZooKeeperCandidacy)
    assert candidacy.session is not None
    assert candidacy.session.identity is not None
    return candidacy.session.identity[0] >> 56


def goes_on(leadership: Leadership) -> None:
    """It is renewed twice from now on."""
    for _ in range(2):
        before = leadership.valid_until
        eventually("it is renewed", lambda b=before: leadership.valid_until > b, TTL)  # type: ignore[misc]
    assert not leadership.lost.is_set()
    leadership.check()


@pytest.mark.parametrize("fault", ["kill", "pause"])
@pytest.mark.parametrize("who", ["ours", "leader"])
def test_a_leadership_survives_the_loss_of_one_member(
    whole: ZooKeeperCluster,
    elector: LeaderElector,
    exits: ExitStack,
    election: str,
    fault: str,
    who: str,
) -> None:
    """The one that we are connected to, or the one that leads the ensemble."""
    leadership = contend(exits, elector, election, "a", ttl=2 * TTL).elected(SOON)
    waiter = contend(exits, elector, election, "w", ttl=2 * TTL)
    eventually("w waits", lambda: elector.candidates(election) == ("w",), SOON)
    token = leadership.token
    if who == "ours":
        number = member_of(leadership)
    else:
        (number,) = [n for n, mode in whole.modes().items() if mode == "leader"]
    server = whole.servers[number - 1]
    if fault == "kill":
        server.kill()
    else:
        server.pause()
    goes_on(leadership)
    assert leadership.token == token
    assert waiter.waits
    if fault == "kill":
        server.start()
    else:
        server.resume()
    leadership.release()
    waiter.elected(2 * TTL + SOON)


def test_without_a_majority_nobody_leads_and_with_it_again_the_next_does(
    whole: ZooKeeperCluster, elector: LeaderElector, exits: ExitStack, election: str
) -> None:
    leadership = contend(exits, elector, election, "a", ttl=TTL).elected(SOON)
    waiter = contend(exits, elector, election, "w", ttl=TTL)
    eventually("w waits", lambda: elector.candidates(election) == ("w",), SOON)
    for server in whole.servers[1:]:
        server.kill()
    assert leadership.lost.wait(TTL)
    eventually("it is over", lambda: leadership.remaining() == 0, TTL)
    assert waiter.waits
    whole.start()
    successor = waiter.elected(2 * TTL + SOON)
    assert successor.token is not None
    assert leadership.token is not None
    assert successor.token > leadership.token


def test_tokens_grow_through_twenty_restarts(tmp_path: Path, election: str) -> None:
    tokens = []
    with cluster(tmp_path, 1) as one, connect(one.url) as elector:
        for number in range(20):
            with elector.campaign(election, f"c{number}", ttl=TTL, wait=SOON) as leadership:
                tokens.append(leadership.token or 0)
            one.servers[0].restart()
    assert tokens == sorted(set(tokens))


def test_a_leader_behind_a_member_that_is_cut_off_has_ended_before_the_next_leads(
    tmp_path: Path, election: str
) -> None:
    """The member goes on answering reads and pings as if nothing had happened.

    A client that believed them would lead beside the next: kazoo's state shows it.
    """
    ttl = 2.0
    with Separable(tmp_path) as ensemble:
        assert ensemble.modes()[FAR] == "follower"
        addresses = [server.address for server in ensemble.servers]
        far_url = ensemble.url_for([addresses.pop(FAR - 1)])
        for number in range(3):
            with (
                connect(far_url) as far,
                connect(ensemble.url_for(addresses)) as near,
                kazoo_client(far_url, timeout=2 * SYNC_LIMIT * TICK_MS / 1000) as naive,
                ExitStack() as exits,
            ):
                name = f"{election}-{number}"
                leader = contend(exits, far, name, "far", ttl=ttl).elected(SOON)
                waiter = contend(exits, near, name, "near", ttl=ttl)
                eventually("near waits", lambda n=name: near.candidates(n) == ("near",), SOON)  # type: ignore[misc]
                # The cut falls anywhere between two renewals, two pings of the ensemble's leader.
                leader.lost.wait(0.07 * number)
                for proxy in ensemble.proxies:
                    proxy.swallow()
                assert leader.lost.wait(ttl)
                children = naive.get_children_async(f"/{name}").get(timeout=1)
                assert len(children) == 2, "the member that is cut off does not answer reads"
                successor = waiter.elected(ttl + SOON)
                assert leader.remaining() == 0
                assert waiter.elected_at is not None
                assert leader.valid_until < waiter.elected_at
                assert successor.token is not None
                assert leader.token is not None
                assert successor.token > leader.token
                for proxy in ensemble.proxies:
                    proxy.forward()
                eventually(
                    "it has joined again", lambda: ensemble.modes().get(FAR) == "follower", 30
                )
