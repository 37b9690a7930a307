"""What drives a node: when it ticks, what it takes in at once, and that it writes, then sends.

What this does not do: read a clock, write or send; whoever holds the node does, in the order of
what :meth:`Driver.turn` returns. The node on sockets (:mod:`electctl.raft.io.server`) and the
simulated one (:mod:`electctl.simulate.server`) are both driven by it, so what is simulated is what
runs.

Events that wait are taken in together; what follows from them is carried out after one write for
all of them. To others that looks as if each had been carried out before the next event, and the
messages had been slow; a crash on the way looks as if the events had never come.

A tick comes a whole tick after the start, or after the tick before it, at least. So a leader, which
counts the part of a tick in which it was elected as a whole one
(:mod:`electctl.raft.pure.deadlines`), ends no lease before its TTL.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from electctl.raft.pure.messages import Persist
from electctl.raft.pure.replica import Replica, ReplicaEvent, ReplicaInstruction, Tell
from electctl.raft.pure.steps import Became, Campaign, Send, Tick

#: Events that one turn takes in at most.
BATCH = 256


class Write(Struct, frozen=True):
    """Make these durable, all or nothing, before anything that follows is carried out."""

    persists: tuple[Persist, ...]


Action = Write | Send | Tell | Became


class Driver:
    """Times are seconds on the node's own clock, which must not run backwards."""

    def __init__(self, replica: Replica, tick_length: float, *, batch: int = BATCH) -> None:
        self.replica = replica
        self._tick_length = tick_length
        self._batch = batch
        #: When the next tick is due; :meth:`turn` takes it in by itself. None is before
        #: :meth:`begin`.
        self.wake_at = math.inf

    def begin(self, now: float) -> list[Action]:
        """What a node does first. Nobody else can lead a node alone, so it waits for nobody."""
        self.wake_at = now + self._tick_length
        if self.replica.raft.peers:
            return []
        return _in_order(self.replica.handle(Campaign()))

    def turn(self, events: Iterable[ReplicaEvent], now: float) -> list[Action]:
        """Take in a tick that is due, and the first of the events; what must be done, in order.

        It takes no more from ``events`` than it handles. Raises Unsound: then the node must stop.
        """
        instructions: list[ReplicaInstruction] = []
        if now >= self.wake_at:
            # One, however late it is: a tick may come late, and never early.
            self.wake_at = now + self._tick_length
            instructions += self.replica.handle(Tick())
        for event in islice(events, self._batch):
            instructions += self.replica.handle(event)
        return _in_order(instructions)


def _in_order(instructions: list[ReplicaInstruction]) -> list[Action]:
    actions: list[Action] = []
    persists = []
    for item in instructions:
        if isinstance(item, Persist):
            persists.append(item)
        else:
            actions.append(item)
    return [Write(tuple(persists)), *actions] if persists else actions
