"""What the lab needs of a scheme: how its servers are started, and where they listen.

A backend implements :class:`Cluster` in its ``lab.py`` (named by ``Plugin.lab``), on top of
:class:`electctl.lab.server.Server`. Tests, drills and ``electctl lab`` all start servers this way
and no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from electctl.lab.server import Server


class Cluster(ABC):
    """Servers of one scheme under ``home``, a directory of their own.

    Entering starts them and waits until they answer; leaving stops them and keeps ``home``.
    Raises MissingDependency with the Debian package to install when a program is not there.
    """

    #: Node counts that make sense, the default first.
    node_counts: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, home: Path, nodes: int = 1) -> None:
        self.home = home
        self.nodes = nodes
        self.servers: list[Server] = []

    @abstractmethod
    def start(self) -> None:
        """Start every server and wait until the cluster answers. Idempotent."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The backend URL of the running cluster."""

    def stop(self) -> None:
        """Stop every server; what they stored stays in ``home``."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
