"""What goes into the core and what comes out: events and instructions.

What this does not say: in which order events may come. Any order is allowed; what a network or a
scheduler does to them is the core's business (:mod:`electctl.raft.pure.core`).
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from electctl.raft.pure.commands import Command
from electctl.raft.pure.messages import Entry, Message, Persist, Snapshot


class Settings(Struct, frozen=True):
    """Times in ticks, sizes in entries. A follower waits 1 to 2 × ``election_ticks``.

    A message holds no more entries than ``batch``, nor than have ``batch_bytes`` of checkpoints
    together, so that neither end is long at it; but at least one.
    """

    heartbeat_ticks: int = 2
    election_ticks: int = 10
    batch: int = 64
    batch_bytes: int = 1 << 20
    window: int = 256


class Role(Enum):
    """What a node is in its term (section 5.1); a pre-candidate still asks (thesis, 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


# Events ------------------------------------------------------------------------------------------


class Tick(Struct, frozen=True):
    """One tick of this node's clock has passed."""


class Campaign(Struct, frozen=True):
    """Do not wait for the time-out: find out now whether an election could be won."""


class HandOver(Struct, frozen=True):
    """Let another node lead, if this one does; :attr:`Raft.heir` tells which shall."""


class Receive(Struct, frozen=True):
    """``message`` came from the node ``sender``."""

    sender: int
    message: Message


class Propose(Struct, frozen=True):
    """Append the commands to the log. Does nothing on a node that does not lead, or hands over."""

    commands: tuple[Command, ...]


class Confirm(Struct, frozen=True):
    """Prove that we still lead: :attr:`Raft.covering` tells which round will be the proof."""


class Compact(Struct, frozen=True):
    """Drop the log up to ``index``, which is committed: ``state`` is the table after it."""

    index: int
    state: bytes


Event = Tick | Campaign | HandOver | Receive | Propose | Confirm | Compact


# Instructions: carry them out in order -----------------------------------------------------------


class Send(Struct, frozen=True):
    """Send ``message`` to the node ``to``; it may be lost."""

    to: int
    message: Message


class Commit(Struct, frozen=True):
    """These entries are committed, the next in order."""

    entries: tuple[Entry, ...]


class Restore(Struct, frozen=True):
    """Replace the table by this snapshot's; entries after it follow."""

    snapshot: Snapshot


class Became(Struct, frozen=True):
    """The role, the term or the leader has changed."""

    role: Role
    term: int
    leader: int | None


class Confirmed(Struct, frozen=True):
    """A majority has answered heartbeat ``round`` in this term, so we led when it was sent."""

    round: int


Instruction = Persist | Send | Commit | Restore | Became | Confirmed
