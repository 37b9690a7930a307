"""What a scheme's cluster may offer to those who break it, beyond being started and stopped.

Each is a protocol that a backend's ``lab.py`` meets by having the methods; nobody names a backend.
A member is named by its place in ``members``. What this does not guarantee: that what was asked
for came to pass; :mod:`electctl.faults` looks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from electctl.lab.gate import Ways
from electctl.lab.server import Server


@runtime_checkable
class Led(Protocol):
    """Its members, or replicas, have a leader of their own; a lone server leads itself."""

    @property
    def members(self) -> list[Server]:
        """Those that keep the data."""

    @property
    def followers_serve(self) -> bool:
        """Whether clients that reach a follower alone are served."""

    def leading(self) -> int:
        """The member that leads the store. Raises LookupError or Unreachable if none is known."""

    def settled(self) -> bool:
        """Whether every member serves, and they are one store."""


@runtime_checkable
class Separable(Led, Protocol):
    """Its members meet through ``ways``, if it is :attr:`~electctl.lab.cluster.Cluster.breakable`.

    One that is cut off is not told: its links stay open and carry nothing, as behind a router that
    drops packets. Clients reach it all the same.
    """

    @property
    def ways(self) -> Ways:
        """By (from, to), the numbers of two members."""

    @property
    def votes(self) -> bool:
        """Whether a majority of the members decides."""


@runtime_checkable
class Replicated(Separable, Protocol):
    """A primary that does not wait for its replicas, and whoever promotes one of them."""

    def part_replicas(self) -> None:
        """From now on nothing that the primary takes reaches a replica."""

    def role(self, number: int) -> str:
        """What a member says that it is: ``primary`` or ``replica``. Raises Unreachable."""


@runtime_checkable
class Clocked(Led, Protocol):
    """Its servers tell the time of their own wall clocks."""

    @property
    def asks_libc(self) -> bool:
        """Whether they ask libc for the time; libfaketime reaches none that asks the kernel."""

    def clock(self, number: int) -> float:
        """In seconds since 1970. Raises Unreachable."""


@runtime_checkable
class Forgetful(Led, Protocol):
    """A server that is lost may lose what it had confirmed."""

    def forget(self, number: int) -> None:
        """Remove what a member, which is not running, has stored."""


@runtime_checkable
class Flushable(Protocol):
    """An operator can delete everything in it."""

    def flush(self) -> int:
        """Do so; how many entries that were. Raises Unreachable."""


@runtime_checkable
class Evicting(Protocol):
    """A store that throws entries away when it is out of memory, if it is configured so."""

    def crowd_out(self, election: str, seconds: float) -> AbstractContextManager[str]:
        """Fill its memory until the grant of ``election`` is gone; on leaving all is as before.

        Yields what was seen. Raises Unreachable if the grant is still there after ``seconds``.
        """
