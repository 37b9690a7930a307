"""What Raft nodes say to each other, and what they keep.

What this does not guarantee: that a message arrives, once, in order, or that its sender is who it
says. :mod:`electctl.raft.pure.core` stands the first three; the transport answers for the last.

Names follow figure 2 of Ongaro and Ousterhout, "In Search of an Understandable Consensus
Algorithm (Extended Version)". ``term`` is the sender's term, save in a granted pre-vote, where it
is the term that was asked for.
"""

from __future__ import annotations

from msgspec import Struct

from electctl.raft.pure.commands import Command


class Entry(Struct, frozen=True):
    """One entry of the log."""

    index: int
    term: int
    command: Command


class Vote(Struct, frozen=True):
    """RequestVote (section 5.2); with ``pre`` only a question, which binds nobody (thesis, 9.6).

    ``handed``: the leader itself has asked for this election (thesis, 3.10 and 4.2.3).
    """

    term: int
    last_index: int
    last_term: int
    pre: bool
    handed: bool = False


class VoteReply(Struct, frozen=True):
    """The answer to :class:`Vote`."""

    term: int
    granted: bool
    pre: bool


class Append(Struct, frozen=True):
    """AppendEntries (section 5.3)."""

    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


class AppendReply(Struct, frozen=True):
    """``index`` is the last index known to match; if ``rejected``, the ``prev_index`` asked for.

    On a rejection the follower's log may agree with the leader's up to ``hint`` at most, where its
    term is ``hint_term``; the leader skips a whole term at a time (section 5.3, last part).
    """

    term: int
    index: int
    rejected: bool
    hint: int
    hint_term: int


class Heartbeat(Struct, frozen=True):
    """I lead. ``round`` numbers the leader's heartbeats, so that answers can be told apart."""

    term: int
    commit: int
    round: int


class HeartbeatReply(Struct, frozen=True):
    """The answer to the heartbeat of that round; round 0 to a leader of an earlier term."""

    term: int
    round: int


class Install(Struct, frozen=True):
    """InstallSnapshot (section 7) in one message: the state after the entry ``index``."""

    term: int
    index: int
    index_term: int
    state: bytes


class TimeoutNow(Struct, frozen=True):
    """From a leader that hands over (thesis, 3.10): stand for election at once."""

    term: int


Message = (
    Vote | VoteReply | Append | AppendReply | Heartbeat | HeartbeatReply | Install | TimeoutNow
)


class Snapshot(Struct, frozen=True):
    """The lease table after the entry ``index``, which had ``term``; stands for all before it."""

    index: int = 0
    term: int = 0
    state: bytes = b""


class Persist(Struct, frozen=True):
    """What must be durable, all or nothing, before any instruction after this one is carried out.

    Entries of the store from ``first`` on are replaced by ``entries``; None leaves them as they
    are. A new ``snapshot`` replaces the old one; entries up to its index may be forgotten.
    """

    term: int
    vote: int | None
    first: int | None
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None


class Stored(Struct, frozen=True):
    """What a store holds: all that a node knows when it starts."""

    term: int = 0
    vote: int | None = None
    snapshot: Snapshot = Snapshot()
    entries: tuple[Entry, ...] = ()
