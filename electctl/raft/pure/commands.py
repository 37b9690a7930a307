"""What the replicated log carries, and what applying it answers.

What this does not say: who may submit what. :class:`electctl.raft.pure.replica.Replica` takes only
:data:`ClientCommand` from outside; a leader alone proposes the others.

A client first opens a session; its number is the log index of that entry. Every later command of
the client carries the session and a sequence number, so that a command that is sent again acts
once (Ongaro's thesis, section 6.3). A delayed command of a session that has ended acts never.
"""

from __future__ import annotations

from msgspec import Struct

#: The sequence number of who closes a session that is not their own: after all of its own.
LAST_SEQ = 1 << 62

# Commands ----------------------------------------------------------------------------------------


class Noop(Struct, frozen=True):
    """Changes nothing. A new leader commits one to learn what is committed (thesis, 6.4)."""


class Open(Struct, frozen=True):
    """Start a session. It must be renewed within ``ttl_ms`` milliseconds, again and again."""

    ttl_ms: int


class Enter(Struct, frozen=True):
    """Join the queue of an election; the first in it leads."""

    session: int
    seq: int
    election: str
    candidate: str


class Leave(Struct, frozen=True):
    """Give up the leadership, or the place in the queue. The session stays open."""

    session: int
    seq: int


class Save(Struct, frozen=True):
    """Write a checkpoint if the session leads under ``token``.

    ``version`` grows with each value under one token: a lower one is ignored.
    """

    session: int
    seq: int
    token: int
    slot: str
    value: bytes
    version: int


class Close(Struct, frozen=True):
    """Leave, and end the session."""

    session: int
    seq: int


class Expire(Struct, frozen=True):
    """End a session that the leader has not heard of in time. Proposed by leaders only."""

    session: int


class Evict(Struct, frozen=True):
    """Ask the holder of ``token`` to stop; with ``force`` take its leadership away at once.

    It names the term of leadership, so it can be repeated and can never hit a later one. Forced,
    it can make two leaders: the holder goes on until its own count of validity ends.
    """

    election: str
    token: int
    force: bool


class Stamp(Struct, frozen=True):
    """Note what a wall clock shows (Unix time, seconds), so that entries before this one have an
    age. It decides nothing but what counts as long unused.
    """

    at: int


class Sweep(Struct, frozen=True):
    """Remove an election's checkpoints, if it is over and ``used`` is the entry of its last use."""

    election: str
    used: int


SessionCommand = Enter | Leave | Save | Close
ClientCommand = Open | Enter | Leave | Save | Close | Evict | Stamp | Sweep
Command = Noop | Open | Enter | Leave | Save | Close | Expire | Evict | Stamp | Sweep


def weight(command: Command) -> int:
    """The size of what may be large in a command: a value, or the names that a client chose."""
    match command:
        case Save(slot=slot, value=value):
            return len(slot) + len(value)
        case Enter(election=election, candidate=candidate):
            return len(election) + len(candidate)
        case Evict(election=election) | Sweep(election=election):
            return len(election)
        case _:
            return 0


# Results -----------------------------------------------------------------------------------------


class Opened(Struct, frozen=True):
    """The session's number."""

    session: int


class Entered(Struct, frozen=True):
    """In the queue, or leading under ``token`` if that is not None."""

    token: int | None


class Done(Struct, frozen=True):
    """It was done, or there was nothing left to do."""


class Stale(Struct, frozen=True):
    """Nothing was done: the token is not the one under which the session leads."""


class Superseded(Struct, frozen=True):
    """Nothing was done: a later command of the session has been applied."""


class Busy(Struct, frozen=True):
    """Nothing was done: the session has entered another election."""


class Gone(Struct, frozen=True):
    """Nothing was done: there is no such session (any more)."""


class Full(Struct, frozen=True):
    """Nothing was done: the table has as many sessions, or bytes, as it may have."""


Result = Opened | Entered | Done | Stale | Superseded | Busy | Gone | Full
