"""One ``electctl watch`` over an etcd, a ZooKeeper and a Redis, beside the candidates' own records.

On etcd and Redis the candidates come, lead for as long as a release takes, and go, as fast as they
can: every change there is sent to the watch in order. ZooKeeper's watches fire once, and what has
gone cannot be read, so a candidate that comes, leads and goes between two looks may be missed
(:mod:`electctl_zookeeper.view`). Its candidates therefore all queue first, and then lead one after
the other, as fast as they can too: whoever was seen waiting must be followed to its end.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from electctl import connect
from electctl.lab.cluster import Cluster, make_cluster
from electctl.testing.stage import Contender
from tests.processes import Electctl, wait_for

pytestmark = pytest.mark.slow

SCHEMES = ("etcd", "zk", "redis")
CHANGES = 50
TTL = 10.0
#: What the candidates say of themselves: token and id.
Record = tuple[int, str]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cluster]]:
    home = tmp_path_factory.mktemp("three")
    with ExitStack() as stack:
        yield {
            scheme: stack.enter_context(make_cluster(scheme, home / scheme, 1))
            for scheme in SCHEMES
        }


class Watching:
    """``electctl watch --json`` and what it has said."""

    def __init__(self, electctl: Electctl, election: str, urls: list[str]) -> None:
        self.output = electctl.home / "watch"
        backends = [word for url in urls for word in ("-b", url)]
        with self.output.open("w") as out:
            self.process = electctl.popen(
                "watch", election, *backends, "--json", stdout=out, stderr=None
            )

    def events(self, scheme: str) -> list[dict[str, Any]]:
        """Of one backend, in order."""
        # The last line may be half written.
        lines = self.output.read_text().rpartition("\n")[0].splitlines()
        return [event for event in map(json.loads, lines) if event["backend"] == scheme]

    def led(self, scheme: str) -> list[Record]:
        """Who was seen to lead, in order, each time that it was said."""
        return [
            (event["token"], event["holder"])
            for event in self.events(scheme)
            if event["event"] == "holder"
        ]


def compete(url: str, election: str, records: list[Record]) -> None:
    """Two candidates, each as often as it can, until there were ``CHANGES`` terms."""

    def stand(name: str) -> None:
        with connect(url) as elector:
            term = 0
            while len(records) < CHANGES:
                term += 1
                candidate = f"{name}-{term}"
                with elector.campaign(election, candidate, ttl=TTL, wait=30) as leadership:
                    records.append((leadership.token or 0, candidate))

    threads = [threading.Thread(target=stand, args=[name]) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def queue(url: str, election: str, records: list[Record], watching: Watching) -> None:
    """``CHANGES`` candidates, which all wait in the sight of the watch before the first goes."""

    def shown() -> bool:
        events = watching.events("zk")
        return bool(events) and len(events[-1]["waiting"]) == CHANGES - 1

    with connect(url) as elector, ExitStack() as stack:
        contenders = []
        for number in range(CHANGES):
            contenders.append(Contender(elector.attempt(election, f"q-{number}", ttl=TTL)))
            stack.callback(contenders[-1].close)
        wait_for(shown, 60, what="all candidates are seen")
        order = [watching.events("zk")[-1]["holder"], *watching.events("zk")[-1]["waiting"]]
        by_id = {contender.id: contender for contender in contenders}
        for candidate in order:
            leadership = by_id[candidate].elected(30)
            records.append((leadership.token or 0, candidate))
            leadership.release()


def test_watch_follows_fifty_leader_changes_on_three_stores_at_once(
    stores: dict[str, Cluster], electctl: Electctl, election: str
) -> None:
    watching = Watching(electctl, election, [stores[scheme].url for scheme in SCHEMES])
    for scheme in SCHEMES:
        wait_for(lambda s=scheme: watching.events(s), what=f"the watch of {scheme}")  # type: ignore[misc]
    records: dict[str, list[Record]] = {scheme: [] for scheme in SCHEMES}
    threads = [
        threading.Thread(target=compete, args=[stores[scheme].url, election, records[scheme]])
        for scheme in ("etcd", "redis")
    ]
    threads.append(
        threading.Thread(target=queue, args=[stores["zk"].url, election, records["zk"], watching])
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scheme in SCHEMES:
        wait_for(
            lambda s=scheme: watching.events(s)[-1]["event"] == "vacant",  # type: ignore[misc]
            what=f"the end on {scheme}",
        )
    watching.process.send_signal(signal.SIGTERM)
    assert watching.process.wait(10) == 143
    for scheme in SCHEMES:
        assert len(records[scheme]) >= CHANGES, scheme
        assert watching.led(scheme) == sorted(records[scheme]), scheme
        kinds = {event["event"] for event in watching.events(scheme)}
        assert kinds <= {"holder", "vacant", "waiting"}, kinds
