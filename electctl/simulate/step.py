"""One event that a server handled, and how it stood right after: what the invariants judge.

What this does not say: when it counts. A driver takes in several events and then writes; a crash
before that undoes them all.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from electctl.raft.pure.commands import Command
from electctl.raft.pure.leases import Effect
from electctl.raft.pure.replica import Replica, ReplicaEvent, ReplicaInstruction
from electctl.raft.pure.steps import Became, Role, Tick


class Step(Struct, frozen=True):
    """``led``: the term in which it led before; ``heirs``: it leads anew, and finds a queue.

    ``effects`` are what the table did: index, command, effect.
    """

    ticked: bool
    instructions: Sequence[ReplicaInstruction]
    effects: tuple[tuple[int, Command, Effect], ...]
    led: int | None
    leads: bool
    heirs: bool
    term: int
    commit: int
    applied: int
    last_index: int

    @property
    def won(self) -> bool:
        """Whether it became the leader in this step."""
        return self.leads and self.led is None


def reign(replica: Replica) -> int | None:
    """The term in which the server leads; None if it does not."""
    raft = replica.raft
    return raft.term if raft.role is Role.LEADER else None


def step(
    replica: Replica,
    event: ReplicaEvent,
    led: int | None,
    instructions: Sequence[ReplicaInstruction],
    effects: tuple[tuple[int, Command, Effect], ...],
) -> Step:
    """The step that the server has just taken."""
    raft = replica.raft
    elected = any(isinstance(i, Became) and i.role is Role.LEADER for i in instructions)
    return Step(
        isinstance(event, Tick),
        instructions,
        effects,
        led,
        raft.role is Role.LEADER,
        elected and any(election.queue for election in replica.table.elections.values()),
        raft.term,
        raft.commit,
        replica.applied,
        raft.log.last_index,
    )
