"""The stores that are measured: clusters whose members can be cut off from each other.

What this does not guarantee: that a member that is cut off notices. Its links stay open and carry
nothing, as behind a router that drops packets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.gate import Gate, Ways
from electctl_etcd.lab import EtcdCluster
from electctl_zookeeper.lab import ZooKeeperCluster

Address = tuple[str, int]

#: Seconds: the shortest TTL that leaves room for the machine's own delays. etcd grants no less
#: than 2 s, and counts in whole seconds.
TTL = {"redis": 2.0, "etcd": 3.0, "zk": 3.0}


class SeparableEtcd(EtcdCluster):
    """Members reach each other through gates. A member's number is its place in ``servers``."""

    def __init__(self, home: Path, nodes: int) -> None:
        super().__init__(home, nodes)
        self.ways = Ways()
        self._gates: dict[int, Gate] = {}

    def peer_port(self, number: int) -> int:
        port = self.port(f"etcd-{number}-gate")
        if number not in self._gates:
            target = ("127.0.0.1", super().peer_port(number))
            others = [other for other in range(self.nodes) if other != number]
            ways = {other: self.ways.add(other, number, target) for other in others}
            self._gates[number] = Gate(port, ways, self._pids)
        return port

    def _pids(self) -> dict[int, int]:
        return {number: server.pid for number, server in enumerate(self.servers) if server.pid}

    def leading(self) -> int:
        """The number of the member that leads the others."""
        told = json.loads(self.etcdctl("endpoint", "status", "--write-out=json"))
        for number, status in enumerate(one["Status"] for one in told):
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise LookupError("no member leads")

    def close(self) -> None:
        super().close()
        for gate in self._gates.values():
            gate.close()
        self.ways.close()

    def settled(self) -> bool:
        """Whether every member serves."""
        return not any(server.why_silent() for server in self.servers)

    def etcdctl_at(self, addresses: Sequence[Address]) -> list[str]:
        """How etcdctl is called on the members at those addresses."""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        return [self.etcdctl_command()[0], f"--endpoints={hosts}"]


class SeparableZooKeeper(ZooKeeperCluster):
    """Members reach each other through proxies. A member's number is its place in ``servers``."""

    def __init__(self, home: Path, nodes: int) -> None:
        super().__init__(home, nodes)
        self.ways = Ways()

    def peer_address(self, number: int, other: int) -> tuple[int, int]:
        real = super().peer_address(number, other)
        if number == other:
            return real
        made = [self.ways.add(number - 1, other - 1, ("127.0.0.1", port)) for port in real]
        return made[0].port, made[1].port

    def leading(self) -> int:
        """The number of the member that leads the others."""
        for number, mode in self.modes().items():
            if mode in ("leader", "standalone"):
                return number - 1
        raise LookupError("no member leads")

    def close(self) -> None:
        super().close()
        self.ways.close()

    def settled(self) -> bool:
        """Whether every member serves."""
        return len(self.modes()) == self.nodes


Separable = SeparableEtcd | SeparableZooKeeper


def cluster_of(scheme: str, home: Path, nodes: int | None = None) -> Cluster:
    """The servers of a scheme, not started; three of them separable."""
    if scheme == "etcd":
        return SeparableEtcd(home, nodes or 3)
    if scheme == "zk":
        return SeparableZooKeeper(home, nodes or 3)
    return make_cluster(scheme, home, nodes)
