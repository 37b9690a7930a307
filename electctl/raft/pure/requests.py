"""What a client asks of a node, and what it is told.

What an answer does not guarantee: that the client gets it. What is not answered, or answered with
:class:`Retry`, may have acted; the client sends it again under the same session and sequence
number.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.raft.pure.commands import ClientCommand, Result
from electctl.raft.pure.leases import Checkpoint, Standing


@dataclass(frozen=True, slots=True)
class Submit:
    """Commit this command and tell its result."""

    command: ClientCommand


@dataclass(frozen=True, slots=True)
class Renew:
    """Give the session its full TTL again, and tell how it stands."""

    session: int


@dataclass(frozen=True, slots=True)
class LookElection:
    """Who leads and who waits."""

    election: str


@dataclass(frozen=True, slots=True)
class LookCheckpoint:
    """The last value of that slot."""

    election: str
    slot: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Who leads and who waits: now, and again whenever that has changed, under the same id.

    It ends with the connection, or with :class:`Retry` when the node leads no more.
    """

    election: str


@dataclass(frozen=True, slots=True)
class LookLeft:
    """Elections that are over and have left checkpoints: the next after that name."""

    after: str


Ask = Submit | Renew | LookElection | LookCheckpoint | Follow | LookLeft


@dataclass(frozen=True, slots=True)
class Request:
    """``id`` is the client's own and comes back with the answer."""

    id: int
    ask: Ask


@dataclass(frozen=True, slots=True)
class Applied:
    """The command was committed and applied, with this result."""

    result: Result


@dataclass(frozen=True, slots=True)
class Renewed:
    """The session was given its full TTL; None: there is no such session (any more).

    ``twin``: another live session of this candidate comes before it in the same election.
    """

    standing: Standing | None
    twin: bool


@dataclass(frozen=True, slots=True)
class ElectionSeen:
    """One election at a moment after the question was asked. ``token`` is None when vacant.

    ``session`` is the holder's; without a renewal it ends ``left_ms`` milliseconds later.
    """

    holder: str
    token: int | None
    session: int
    ttl_ms: int
    left_ms: int
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """The value at a moment after the question was asked; None if there is none."""

    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Left:
    """One of them: the entry of its last use, and when that was at the latest (Unix time in
    seconds; 0: since the last time that was noted).
    """

    election: str
    used: int
    at: int


@dataclass(frozen=True, slots=True)
class LeftSeen:
    """In the order of their names; none if there are no more."""

    found: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again, at ``leader`` if that is known; a command may or may not have acted."""

    leader: int | None


Reply = Applied | Renewed | ElectionSeen | CheckpointSeen | LeftSeen | Retry


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to request ``id``."""

    id: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Notice:
    """Not asked for: something has happened to this session. A hint: renew it now to see.

    It has been granted its election, or this node no longer leads.
    """

    session: int


#: What a server sends to a client of its own accord or as an answer.
Told = Answer | Notice
