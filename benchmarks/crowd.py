"""What a hand-over costs the servers when many wait, and what those who wait cost.

``N`` candidates queue; then one after the other leads and releases at once. Counted is what the
servers were asked (:func:`benchmarks.stores.operations`) without etcd's keep-alives and less what
they are asked in the same time when nothing happens. What does not grow with ``N`` scales; times
are of this machine only, and all candidates share one process here.

    python -m benchmarks.crowd --schemes etcd zk redis --candidates 20 100 500
"""

from __future__ import annotations

import argparse
import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from kazoo.client import KazooClient

import electctl
from benchmarks.stores import cluster_of, operations
from electctl.base.clock import now
from electctl.lab.cluster import Cluster
from electctl.testing.stage import Contender, eventually
from electctl_etcd.lab import EtcdCluster

#: So long that hardly anything is renewed while hand-overs are counted. ZooKeeper's lab allows no
#: session of more.
TTL = 120.0
HANDOVERS = 15
IDLE = 3.0
ENTRY = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """What ``handovers`` hand-overs among ``candidates`` were seen to take."""

    tool: str
    candidates: int
    handovers: int
    #: For one hand-over, without those of the background.
    operations: float
    #: Asked a second when nothing happens.
    background: float
    #: Seconds for one hand-over.
    seconds: float
    kinds: Counter[str]
    #: The candidates in the order in which they were listed, and in which they led.
    listed: tuple[str, ...]
    led: tuple[str, ...]


class Count:
    """Operations over a stretch of time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = operations(cluster)
        self._began = now()

    def end(self) -> tuple[Counter[str], float]:
        """What was asked since, and for how many seconds."""
        seconds = now() - self._began
        return operations(self._cluster) - self._before, seconds


def background(cluster: Cluster) -> float:
    """Operations a second when nothing happens."""
    count = Count(cluster)
    time.sleep(IDLE)
    kinds, seconds = count.end()
    return kinds.total() / seconds


def per_hand_over(
    cluster: Cluster, kinds: Counter[str], seconds: float, idle: float, handovers: int
) -> float:
    """Operations for one hand-over. On etcd the background has a name of its own."""
    beat = kinds["LeaseKeepAlive"] if isinstance(cluster, EtcdCluster) else idle * seconds
    return (kinds.total() - beat) / handovers


def ours(cluster: Cluster, candidates: int, handovers: int = HANDOVERS) -> Row:
    """electctl's own candidates."""
    election = f"crowd-{candidates}"
    with electctl.connect(cluster.url) as elector, ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        first = elector.campaign(election, "leader", ttl=TTL, wait=30)
        for number in range(candidates):
            contender = Contender(elector.attempt(election, f"c{number}", ttl=TTL))
            contenders[contender.id] = contender
            stack.callback(contender.close)
        stack.callback(cancel_all, contenders)
        eventually("all wait", lambda: len(elector.candidates(election)) == candidates, ENTRY)
        listed = elector.candidates(election)
        idle = background(cluster)
        led = []
        leader = first
        count = Count(cluster)
        for _ in range(handovers):
            leader.release()
            winner = next_of(contenders)
            led.append(winner.id)
            leader = winner.elected(0)
        kinds, seconds = count.end()
        each = per_hand_over(cluster, kinds, seconds, idle, handovers)
        return Row(
            *("electctl", candidates, handovers, each, idle, seconds / handovers, kinds),
            *(listed, tuple(led)),
        )


def cancel_all(contenders: dict[str, Contender]) -> None:
    """So that each need not wait for the one before it to have gone."""
    for contender in contenders.values():
        contender.attempt.cancel()


def next_of(contenders: dict[str, Contender]) -> Contender:
    """Wait for the next to lead, and take it out."""
    deadline = now() + 30
    while now() < deadline:
        for contender in contenders.values():
            if not contender.waits:
                return contenders.pop(contender.id)
        time.sleep(0.001)
    raise TimeoutError("nobody leads")


@contextmanager
def kazoo_clients(cluster: Cluster, number: int) -> Iterator[list[Any]]:
    """So many sessions."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.entrances)
    clients = [KazooClient(hosts=hosts, timeout=TTL) for _ in range(number)]
    for client in clients:
        client.start(timeout=30)
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()
            client.close()


def kazoo(cluster: Cluster, candidates: int, handovers: int = HANDOVERS) -> Row:
    """kazoo's own ``Lock``, which its ``Election`` is made of; a session a candidate."""
    path = f"/kazoo-{candidates}"
    won = threading.Semaphore(0)
    go = threading.Semaphore(0)
    led: list[str] = []

    def stand(client: Any, name: str) -> None:
        with client.Lock(path, name):
            led.append(name)
            won.release()
            go.acquire()

    with kazoo_clients(cluster, candidates + 1) as clients:
        threads = [
            threading.Thread(target=stand, args=[client, f"c{number}"])
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        lock = clients[0].Lock(path)
        eventually("all wait", lambda: len(lock.contenders()) == candidates + 1, ENTRY)
        won.acquire()
        idle = background(cluster)
        count = Count(cluster)
        for _ in range(handovers):
            go.release()
            won.acquire()
        kinds, seconds = count.end()
        for _ in threads:
            go.release()
        for thread in threads:
            thread.join()
    each = per_hand_over(cluster, kinds, seconds, idle, handovers)
    return Row(
        *("kazoo", candidates, handovers, each, idle, seconds / handovers, kinds),
        *((), tuple(led)),
    )


def redis_py(cluster: Cluster, candidates: int) -> Row:
    """redis-py's ``Lock``, which polls every 100 ms: what those who wait cost; no hand-over."""
    name = f"redis-py-{candidates}"
    port = cluster.entrances[0].port
    begin = threading.Barrier(candidates + 1)

    def stand() -> None:
        with redis.Redis(port=port) as client:
            client.ping()
            begin.wait(ENTRY)
            client.lock(name, timeout=TTL).acquire(blocking_timeout=IDLE + 1)

    with redis.Redis(port=port) as client, client.lock(name, timeout=TTL):
        threads = [threading.Thread(target=stand) for _ in range(candidates)]
        for thread in threads:
            thread.start()
        begin.wait(ENTRY)
        idle = background(cluster)
        for thread in threads:
            thread.join()
    return Row("redis-py", candidates, 0, math.nan, idle, math.nan, Counter(), (), ())


#: The native lock that is shown beside ours, up to NATIVE_MOST candidates.
NATIVE = {"zk": kazoo, "redis": redis_py}
NATIVE_MOST = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schemes", nargs="+", default=["redis", "etcd", "zk"])
    parser.add_argument("--candidates", nargs="+", type=int, default=[20, 100, 500])
    parser.add_argument("--nodes", type=int)
    args = parser.parse_args()
    print("store       tool      waiting  operations a hand-over  idle, a second  ms a hand-over")
    for scheme in args.schemes:
        nodes = 1 if scheme == "redis" else args.nodes
        with (
            tempfile.TemporaryDirectory() as home,
            cluster_of(scheme, Path(home, scheme), nodes) as cluster,
        ):
            for number in args.candidates:
                native = NATIVE.get(scheme) if number <= NATIVE_MOST else None
                for measure in (ours, native) if native else (ours,):
                    row = measure(cluster, number)
                    print(
                        f"{scheme:5} × {cluster.nodes:<3} {row.tool:9} {row.candidates:7}  "
                        f"{row.operations:22.1f}  {row.background:14.1f}  {row.seconds * 1e3:14.1f}"
                        f"   {dict(row.kinds.most_common(6))}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
