"""Real nodes of the built-in Raft on loopback: 1, 3 or 5, with TLS where asked for.

What this does not guarantee: that a majority survives what the machine does not; all nodes share
one disk and one clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from electctl import __version__
from electctl.base.clock import now
from electctl.errors import Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.cluster import Cluster
from electctl.lab.gate import Ways
from electctl.lab.ports import HOST
from electctl.lab.ready import Check
from electctl.lab.server import POLL, START_TIMEOUT, TRY_TIMEOUT, Server
from electctl.raft.io.status import ask_status
from electctl.raft.io.tls import Tls
from electctl.raft.pure.wire import NodeStatus


class RaftCluster(Cluster):
    """``nodes`` nodes; with mutual TLS where ``scheme`` is ``rafts``.

    ``servers[i]`` is node ``i + 1``. ``extra`` holds more arguments for every node.
    """

    node_counts: ClassVar[tuple[int, ...]] = (3, 1, 5)
    followers_serve: ClassVar[bool] = False
    votes: ClassVar[bool] = True

    def __init__(
        self,
        home: Path,
        nodes: int | None = None,
        *,
        scheme: str = "raft",
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__(home, nodes, scheme=scheme or "raft")
        self.extra = tuple(extra)
        self.certificates = home / "tls"
        self.ways = Ways()
        self._tls: Tls | None = None

    def configure(self) -> None:
        """Make certificates for TLS; a node's data is made by its first start."""
        if self.scheme == "rafts":
            make_certificates(self.certificates)
            folder = self.certificates
            files = (f"{folder}/{name}" for name in ("ca.crt", "client.crt", "client.key"))
            self._tls = Tls(*files)
        for number in range(1, self.nodes + 1):
            self.servers.append(self._node(number))

    def version(self) -> str:
        """The nodes are ours."""
        return f"electctl {__version__}"

    def peer_port(self, number: int, other: int) -> int:
        """The port at which node ``number`` reaches node ``other``; of a proxy if breakable."""
        real = self.port(f"node{other}")
        if not self.breakable:
            return real
        return self.ways.add(number - 1, other - 1, (HOST, real)).port

    def _node(self, number: int) -> Server:
        name = f"node{number}"
        port = self.port(name)
        argv = [sys.executable, "-m", "electctl", "raft", "serve", "--id", str(number)]
        argv += ["--listen", f"{HOST}:{port}", "--data", str(self.home / name / "data")]
        for other in range(1, self.nodes + 1):
            if other != number:
                argv += ["--peer", f"{other}={HOST}:{self.peer_port(number, other)}"]
        if self._tls is not None:
            folder = self.certificates
            argv += ["--tls-ca", f"{folder}/ca.crt", "--tls-cert", f"{folder}/server.crt"]
            argv += ["--tls-key", f"{folder}/server.key"]
        argv += self.extra
        return Server(name, argv, home=self.home / name, port=port, check=self._check(number, port))

    def _check(self, number: int, port: int) -> Check:
        def check(timeout: float) -> str:
            try:
                found = ask_status((HOST, port), timeout, self._tls)
            except Unreachable as error:
                return error.message
            return "" if found.number == number else f"it is node {found.number}"

        return check

    def settle(self) -> None:
        """Wait until one node leads all the others."""
        deadline = now() + START_TIMEOUT
        while not self.settled():
            if now() >= deadline:
                raise Unreachable(
                    f"the nodes have not agreed on a leader within {START_TIMEOUT:g} s",
                    hint=f"their logs are in {self.home}",
                )
            time.sleep(POLL)

    def statuses(self) -> dict[int, NodeStatus]:
        """How each node is that answers, by its number."""
        found = {}
        for number, server in enumerate(self.servers, 1):
            if server.alive and not server.paused:
                try:
                    found[number] = ask_status(server.address, TRY_TIMEOUT, self._tls)
                except Unreachable:
                    continue
        return found

    def settled(self) -> bool:
        """Whether every node answers, reaches all others, and follows one leader that is ready."""
        found = list(self.statuses().values())
        return (
            len(found) == self.nodes
            and len({(status.leader, status.term) for status in found}) == 1
            and all(len(status.reached) == self.nodes - 1 for status in found)
            and any(status.ready for status in found)
        )

    @property
    def members(self) -> list[Server]:
        """All nodes."""
        return self.servers

    def leading(self) -> int:
        """The place in ``servers`` of the node that leads the others. LookupError if none does."""
        for number, status in self.statuses().items():
            if status.ready:
                return number - 1
        raise LookupError("no node leads")

    def close(self) -> None:
        """Stop the nodes, and end what stands between them."""
        super().close()
        self.ways.close()

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL, with the certificates that the nodes want."""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        options = ""
        if self.scheme == "rafts":
            folder = quote(str(self.certificates))
            options = f"/?ca={folder}/ca.crt&cert={folder}/client.crt&key={folder}/client.key"
        return f"{self.scheme}://{hosts}{options}"
