"""Candidates lead in the order in which they queued; the queue's length costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks import crowd
from benchmarks.stores import cluster_of
from electctl import connect
from electctl.lab.cluster import Cluster
from electctl.testing.stage import Contender, eventually

pytestmark = pytest.mark.quiet

TTL = 10.0
QUEUE = 20
#: Operations of a hand-over that may come from the background's own beat, as it was not measured.
SLACK = 2.0


@pytest.fixture(scope="module", params=["etcd", "zk"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with cluster_of(request.param, tmp_path_factory.mktemp("fifo") / request.param, 1) as cluster:
        yield cluster


def test_twenty_candidates_lead_in_the_order_in_which_they_queued(
    store: Cluster, election: str
) -> None:
    names = [f"c{number}" for number in range(QUEUE)]
    led = []
    tokens = []
    with connect(store.url) as elector, ExitStack() as stack:
        leader = elector.campaign(election, "leader", ttl=TTL, wait=10)
        queue = []
        for number, name in enumerate(names):
            queue.append(Contender(elector.attempt(election, name, ttl=TTL)))
            stack.callback(queue[-1].close)
            waiting = tuple(names[: number + 1])
            eventually(
                f"{name} waits last",
                lambda w=waiting: elector.candidates(election) == w,  # type: ignore[misc]
                10,
            )
        while queue:
            leader.release()
            eventually("somebody leads", lambda: not all(some.waits for some in queue), 10)
            won = [contender for contender in queue if not contender.waits]
            assert len(won) == 1, [contender.id for contender in won]
            queue.remove(won[0])
            leader = won[0].elected(0)
            led.append(won[0].id)
            tokens.append(leader.token or 0)
    assert led == names
    assert tokens == sorted(set(tokens))


@pytest.mark.slow
def test_a_hand_over_costs_no_more_when_three_times_as_many_wait(store: Cluster) -> None:
    few, many = (crowd.ours(store, number, handovers=10) for number in (20, 60))
    for row in (few, many):
        assert row.led == row.listed[: row.handovers]
    assert many.operations <= few.operations + SLACK, (few, many)
