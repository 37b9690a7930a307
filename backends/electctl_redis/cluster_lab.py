"""A real Redis Cluster on loopback: three primaries with a replica each.

What this does not guarantee: an even load. Where the cluster is to be broken, one primary has all
slots but two, so that there is one whose loss every election feels; the others have one each, for
only who has a slot votes.

Each node's first map of the cluster is written for it, in the file in which it keeps it (the format
is that of https://redis.io/docs/latest/commands/cluster-nodes/). So they are one cluster when they
start, without being introduced, and again with the roles that they had when they start again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from electctl.base.clock import now
from electctl.errors import ElectctlError, Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.ports import HOST
from electctl.lab.proxy import Proxy
from electctl.lab.server import Server
from electctl_redis.lab import GatedCluster, write_once
from electctl_redis.names import SLOTS

PRIMARIES = 3
#: Milliseconds after which a silent node counts as failed; people run 15000. With fewer, nodes on a
#: busy machine take each other for dead.
NODE_TIMEOUT = 2000
SETTLE_TIMEOUT = 60.0
_POLL = 0.05
_MAP = "nodes.conf"


class ShardedCluster(GatedCluster):
    """Needs Redis 7, whose nodes can be told the port of their bus.

    ``secure``: clients and nodes speak TLS only, with an authority of its own.
    """

    node_counts: ClassVar[tuple[int, ...]] = (2 * PRIMARIES,)

    def __init__(
        self,
        home: Path,
        nodes: int | None = None,
        *,
        scheme: str = "redis+cluster",
        config: Sequence[str] = (),
        login: str = "",
        secure: bool = False,
    ) -> None:
        super().__init__(home, nodes, scheme=scheme, config=config, login=login)
        self._secure = secure
        self._replication: list[Proxy] = []

    @property
    def tls(self) -> bool:
        """Whether the servers speak TLS only."""
        return self._secure

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL that names these nodes."""
        return self._url(self.scheme, addresses, "") + ("&tls=true" if self.tls else "")

    def configure(self) -> None:
        """Write the configurations and the maps; the first three begin as primaries."""
        if self.tls:
            make_certificates(self.certificates)
        names = [f"redis-{number}" for number in range(self.nodes)]
        for number, name in enumerate(names):
            write_once(self.home / name / _MAP, self._map(names, number))
            self.servers.append(self.redis_server(name, [*self.config, *self._membership(name)]))

    def _membership(self, name: str) -> list[str]:
        lines = [
            "cluster-enabled yes",
            f"cluster-config-file {_MAP}",
            f"cluster-node-timeout {NODE_TIMEOUT}",
            "repl-diskless-sync-delay 0",
        ]
        if self.tls:
            lines += ["tls-cluster yes", "tls-replication yes"]
        bus = f"{name}-bus"
        if not self.breakable:
            return [*lines, f"cluster-port {self.port(bus)}"]
        self.gate(bus)
        return [
            *lines,
            f"cluster-port {self.port(f'{bus}-inside')}",
            f"cluster-announce-ip {HOST}",
            f"cluster-announce-port {self.port(name)}",
            f"cluster-announce-bus-port {self.port(bus)}",
        ]

    def listen(self, name: str) -> list[str]:
        """In a breakable cluster a gate stands before it, whose port everybody is told."""
        if not self.breakable:
            return super().listen(name)
        ways = self.gate(name)
        self._replication += [ways[number] for number in range(self.nodes)]
        return [f"port {self.port(f'{name}-inside')}"]

    def _map(self, names: Sequence[str], own: int) -> list[str]:
        """The cluster as that node knows it at first."""
        ids = [hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest() for name in names]
        ends = [0, SLOTS - 2, SLOTS - 1, SLOTS]
        if not self.breakable:
            ends = [SLOTS * number // PRIMARIES for number in range(PRIMARIES + 1)]
        lines = []
        for number, name in enumerate(names):
            place = number % PRIMARIES
            role, slots = f"slave {ids[place]} 0 0 {place + 1}", ""
            if number < PRIMARIES:
                role = f"master - 0 0 {place + 1}"
                slots = f" {ends[place]}-{ends[place + 1] - 1}"
            myself = "myself," if number == own else ""
            address = f"{HOST}:{self.port(name)}@{self.port(f'{name}-bus')}"
            lines.append(f"{ids[number]} {address} {myself}{role} connected{slots}")
        return [*lines, f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0"]

    def settle(self) -> None:
        """Wait until each node sees all the others up, and every replica follows its primary."""
        deadline = now() + SETTLE_TIMEOUT
        while unsettled := [s.name for n, s in enumerate(self.servers) if not self._sees_all(n)]:
            if now() >= deadline:
                raise Unreachable(f"{', '.join(unsettled)} do not see the whole cluster")
            time.sleep(_POLL)

    def _sees_all(self, number: int) -> bool:
        with self._links(number) as links:
            nodes = links.call("CLUSTER", "NODES").decode().splitlines()
            state = links.call("CLUSTER", "INFO")
            replication = links.call("INFO", "replication")
        return (
            b"cluster_state:ok" in state
            and b"master_link_status:down" not in replication
            and len(nodes) == self.nodes
            and all("fail" not in line and " disconnected" not in line for line in nodes)
        )

    # For faults ----------------------------------------------------------------------------------

    @property
    def entrances(self) -> list[Server]:
        """All nodes."""
        return self.servers

    def owner(self, slot: int) -> int:
        """The number of the primary that has a slot, as the newest word is. Raises Unreachable."""
        found: list[tuple[int, int]] = []
        for number in range(self.nodes):
            try:
                with self._links(number) as links:
                    nodes = links.call("CLUSTER", "NODES").decode().splitlines()
            except ElectctlError:
                continue
            told = map(_read, nodes)
            found += [
                (epoch, port) for epoch, port, slots in told if any(slot in one for one in slots)
            ]
        if not found:
            raise Unreachable(f"no node knows who has the slot {slot}")
        _, port = max(found)
        return [server.port for server in self.servers].index(port)

    def leading(self) -> int:
        """The number of the primary that has all slots but two, where the cluster is breakable."""
        return self.owner(0)

    def settled(self) -> bool:
        """Whether every node answers and sees the whole cluster."""
        try:
            return super().settled() and all(map(self._sees_all, range(self.nodes)))
        except ElectctlError:
            return False

    def part_replicas(self) -> None:
        """From now on no node replicates another; all see each other, and clients see them all."""
        for proxy in self._replication:
            proxy.swallow()


def _read(line: str) -> tuple[int, int, list[range]]:
    """What a line of CLUSTER NODES says of a node: its epoch, its port, and its slots."""
    _, address, _, _, _, _, epoch, _, *slots = line.split()
    port = address.partition("@")[0].rpartition(":")[2]
    ends = [one.partition("-")[::2] for one in slots if not one.startswith("[")]
    return int(epoch), int(port), [range(int(a), int(b or a) + 1) for a, b in ends]
