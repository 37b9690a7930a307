"""What the lab needs of a scheme: how its servers are started, and where they listen.

A backend implements :class:`Cluster` in its ``lab.py`` (named by ``Plugin.lab``), on top of
:class:`electctl.lab.server.Server`. Tests, drills and ``electctl lab`` all start servers this way
and no other. What this does not guarantee: that the servers share more than a machine; there is one
kernel, one disk and one clock under all of them.
"""

from __future__ import annotations

import json
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from electctl.core import registry
from electctl.errors import ConfigError, Unreachable, Unsupported, UsageError
from electctl.lab.ports import HeldPort
from electctl.lab.server import Server

_VERSION = re.compile(r"\d+(\.\d+)+")
_VERSION_TIMEOUT = 10.0


class Cluster(ABC):
    """Servers of one scheme under ``home``, a directory of their own.

    Entering starts them and waits until they answer; leaving stops them and keeps ``home``, and a
    cluster made on it again has the same data and the same ports. ``scheme`` is the URL scheme that
    was asked for, where a class serves several. Raises UsageError on a node count that is not in
    ``node_counts``.

    A subclass implements :meth:`configure`, :meth:`url_for` and, where servers that answer are not
    yet a cluster, :meth:`settle`.
    """

    #: Node counts that make sense, the default first.
    node_counts: ClassVar[tuple[int, ...]] = (1,)
    #: False where clients also connect to servers that are not :attr:`entrances`, past any proxy.
    proxyable: ClassVar[bool] = True

    def __init__(self, home: Path, nodes: int | None = None, *, scheme: str = "") -> None:
        self.home = home
        self.nodes = self.node_counts[0] if nodes is None else nodes
        self.scheme = scheme
        self.servers: list[Server] = []
        #: Set before the first start: whether members meet through links that can be cut
        #: (:class:`electctl.lab.capable.Separable`), at the price of a proxy's hop.
        self.breakable = False
        self._configured = False
        self._ports: dict[str, HeldPort] = {}
        if self.nodes not in self.node_counts:
            counts = ", ".join(map(str, sorted(self.node_counts)))
            raise UsageError(
                f"{self.nodes} is not a number of nodes for this scheme", hint=f"one of {counts}"
            )

    @abstractmethod
    def configure(self) -> None:
        """Write what configuration the servers need and append them to ``self.servers``.

        Called once, before the first start. Starts nothing. Ports come from :meth:`port`,
        programs from :func:`electctl.lab.server.find_program` (MissingDependency).
        """

    @abstractmethod
    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The backend URL for clients that reach the :attr:`entrances` at ``addresses``.

        These are the servers' own addresses, or those of proxies in front of them, in order.
        """

    def settle(self) -> None:  # noqa: B027  (most schemes have nothing to wait for)
        """Wait until the servers, which all answer, are one cluster (quorum, replication).

        Raises Unreachable when they do not get there.
        """

    def version(self) -> str:
        """The servers' name and version, as in "redis 7.0.15"; only the name where none is told.

        Asks the first server's program, ``PROGRAM --version``. Call it after :meth:`start`.
        """
        program = Path(self.servers[0].argv[0])
        name = program.name.removesuffix("-server")
        try:
            told = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return name
        found = _VERSION.search(told)
        return f"{name} {found[0]}" if found else name

    @property
    def entrances(self) -> list[Server]:
        """The servers that clients connect to."""
        return self.servers

    @property
    def url(self) -> str:
        """The backend URL of the cluster, straight to its servers."""
        return self.url_for([server.address for server in self.entrances])

    def port(self, name: str) -> int:
        """The port of that name: free, held for as long as this object lives, kept over restarts.

        Raises Unreachable if the port that it had before is taken now.
        """
        if name not in self._ports:
            book = self.home / "ports.json"
            known = json.loads(book.read_text()) if book.exists() else {}
            try:
                self._ports[name] = HeldPort(known.get(name, 0))
            except OSError as error:
                raise Unreachable(
                    f"port {known[name]} of {name} is taken: {error.strerror}",
                    hint=f"end what listens there, or remove {self.home}",
                ) from error
            known[name] = self._ports[name].number
            self.home.mkdir(parents=True, exist_ok=True)
            book.write_text(json.dumps(known))
        return self._ports[name].number

    def start(self) -> None:
        """Start every server that is not alive and wait until the cluster answers. Idempotent.

        If one cannot start, all are stopped and its error is raised.
        """
        if not self._configured:
            self.servers.clear()
            self.configure()
            self._configured = True
        started = [server for server in self.servers if not server.alive]
        try:
            # Members of a quorum answer only when the others run: all are started, then waited for.
            for server in started:
                server.spawn()
            for server in started:
                server.wait_ready()
            self.settle()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every server; what they stored stays in ``home``."""
        for server in reversed(self.servers):
            server.stop()

    def close(self) -> None:
        """Stop every server and let go of the ports."""
        self.stop()
        for held in self._ports.values():
            held.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def make_cluster(
    scheme: str, home: Path, nodes: int | None = None, *, breakable: bool = False
) -> Cluster:
    """The cluster of a scheme, not started. ``nodes`` None is the scheme's default.

    ``breakable`` makes it one that faults can be done to (:attr:`Cluster.breakable`).

    Raises UsageError for an unknown scheme or a node count that makes no sense, Unsupported where
    a scheme has no servers of its own to start.
    """
    found = registry.plugin(scheme)
    if found.lab is None:
        raise Unsupported(
            f"{scheme}:// has no lab: it has no servers of its own to start",
            hint="electctl backends lists what each scheme can do",
        )
    cluster = registry.load_part(found, found.lab)(home, nodes, scheme=scheme)
    if not isinstance(cluster, Cluster):
        raise ConfigError(f"{found.lab} is not a Cluster")
    cluster.breakable = breakable
    return cluster
