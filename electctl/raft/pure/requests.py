"""What a client asks of a node, and what it is told.

What an answer does not guarantee: that the client gets it. What is not answered, or answered with
:class:`Retry`, may have acted; the client sends it again under the same session and sequence
number.
"""

from __future__ import annotations

from msgspec import Struct

from electctl.raft.pure.commands import ClientCommand, Result
from electctl.raft.pure.leases import Checkpoint, Standing


class Submit(Struct, frozen=True):
    """Commit this command and tell its result."""

    command: ClientCommand


class Renew(Struct, frozen=True):
    """Give the session its full TTL again, and tell how it stands."""

    session: int


class LookElection(Struct, frozen=True):
    """Who leads and who waits."""

    election: str


class LookCheckpoint(Struct, frozen=True):
    """The last value of that slot."""

    election: str
    slot: str


class Follow(Struct, frozen=True):
    """Who leads and who waits: now, and again whenever that has changed, under the same id.

    It ends with the connection, or with :class:`Retry` when the node leads no more.
    """

    election: str


class LookLeft(Struct, frozen=True):
    """Elections that are over and have left checkpoints: the next after that name."""

    after: str


Ask = Submit | Renew | LookElection | LookCheckpoint | Follow | LookLeft


class Request(Struct, frozen=True):
    """``id`` is the client's own and comes back with the answer."""

    id: int
    ask: Ask


class Applied(Struct, frozen=True):
    """The command was committed and applied, with this result."""

    result: Result


class Renewed(Struct, frozen=True):
    """The session was given its full TTL; None: there is no such session (any more).

    ``twin``: another live session of this candidate comes before it in the same election.
    """

    standing: Standing | None
    twin: bool


class ElectionSeen(Struct, frozen=True):
    """One election at a moment after the question was asked. ``token`` is None when vacant.

    ``session`` is the holder's; without a renewal it ends ``left_ms`` milliseconds later.
    """

    holder: str
    token: int | None
    session: int
    ttl_ms: int
    left_ms: int
    waiting: tuple[str, ...]


class CheckpointSeen(Struct, frozen=True):
    """The value at a moment after the question was asked; None if there is none."""

    checkpoint: Checkpoint | None


class Left(Struct, frozen=True):
    """One of them: the entry of its last use, and when that was at the latest (Unix time in
    seconds; 0: since the last time that was noted).
    """

    election: str
    used: int
    at: int


class LeftSeen(Struct, frozen=True):
    """In the order of their names; none if there are no more."""

    found: tuple[Left, ...]


class Retry(Struct, frozen=True):
    """Ask again, at ``leader`` if that is known; a command may or may not have acted."""

    leader: int | None


Reply = Applied | Renewed | ElectionSeen | CheckpointSeen | LeftSeen | Retry


class Answer(Struct, frozen=True):
    """The reply to request ``id``."""

    id: int
    reply: Reply


class Notice(Struct, frozen=True):
    """Not asked for: something has happened to this session. A hint: renew it now to see.

    It has been granted its election, or this node no longer leads.
    """

    session: int


#: What a server sends to a client of its own accord or as an answer.
Told = Answer | Notice
