"""One simulated server: the real replica on a simulated disk, clock and scheduler.

What this does not do: decide when it crashes, pauses or starts; the world does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from electctl.raft.commands import Command
from electctl.raft.core import Raft
from electctl.raft.leases import Effect, LeaseTable
from electctl.raft.messages import Append, Install, Message, Persist, VoteReply
from electctl.raft.replica import Replica, ReplicaEvent, ReplicaInstruction, Tell
from electctl.raft.requests import Answer, Notice, Request
from electctl.raft.snapshots import fill
from electctl.raft.steps import Became, Role, Send, Settings, Tick
from electctl.simulate.disk import Disk
from electctl.simulate.invariants import Invariants
from electctl.simulate.sights import Sight

TICK = 0.1
SLOW_SYNC = 40.0

#: Where a trap may spring: in the middle of a sync; when it has become the leader, before anybody
#: hears of it; after the step in which it voted, or sent entries out.
Moment = Literal["sync", "lead", "vote", "append"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of. A test plants a bug by putting another class here."""

    raft: type[Raft] = Raft
    table: type[LeaseTable] = LeaseTable
    replica: type[Replica] = Replica
    fill: Callable[[LeaseTable, bytes], None] = fill
    disk: type[Disk] = Disk


class World(Protocol):
    """What a server needs of the world."""

    now: float
    invariants: Invariants

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call ``action`` after ``delay`` seconds of true time."""

    def send(
        self, sender: str, receiver: str, message: Message | Request | Answer | Notice
    ) -> None:
        """Put a message into the network."""

    def log(self, text: str) -> None:
        """A line for the trace."""


class Server:
    """Events wait while it is paused or its disk syncs; what it knew is lost in a crash."""

    def __init__(
        self,
        number: int,
        voters: frozenset[int],
        world: World,
        parts: Parts,
        draw: random.Random,
        *,
        rate: float,
        sync: float,
        settings: Settings,
        compact_after: int,
    ) -> None:
        self.number = number
        self.name = str(number)
        self.alive = False
        self.steps = 0
        #: While above 0, a sync takes much longer.
        self.slow = 0
        #: No ticks come; they may be late.
        self.ticks_late = 0
        #: Each is called once, when its moment comes.
        self.traps: dict[Moment, Callable[[], None]] = {}
        self.replica: Replica
        self._voters = voters
        self._world = world
        self._parts = parts
        self._draw = draw
        self._tick = TICK / rate
        self._sync = sync
        self._settings = settings
        self._compact_after = compact_after
        self._seen = world.invariants.seen
        self._disk = parts.disk(draw, self._seen)
        self._incarnation = 0
        self._pauses = 0
        self._syncing = False
        self._judged = False
        self._after_pause: Callable[[], None] | None = None
        #: What the table did in this step; it counts once the step's writes are durable.
        self._applied: deque[tuple[int, Command, Effect]] = deque()
        self._inbox: deque[ReplicaEvent] = deque()
        self.start()

    @property
    def leads(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.alive and self.replica.raft.role is Role.LEADER

    def start(self) -> None:
        """Start from the disk."""
        self.alive = True
        stored = self._disk.load()
        self._world.invariants.started(self.number, stored)
        raft = self._parts.raft(
            self.number,
            self._voters,
            stored,
            self._settings,
            lambda n: int(self._draw.random() * n),
        )
        self.replica = self._parts.replica(
            raft,
            round(TICK * 1000),
            compact_after=self._compact_after,
            restore=self._restore,
        )
        self._world.after(self._draw.random() * self._tick, self._ticker(self._incarnation))

    def _restore(self, state: bytes) -> LeaseTable:
        applied = self._applied

        class Watched(self._parts.table):  # type: ignore[name-defined,misc]
            def apply(self, index: int, command: Command) -> Effect:
                effect: Effect = super().apply(index, command)
                applied.append((index, command, effect))
                return effect

        table: LeaseTable = Watched()
        if state:
            self._parts.fill(table, state)
            self._world.invariants.restored(self.number, state, table)
        return table

    def _random_ticks(self, below: int) -> int:
        return int(self._draw.random() * below)

    def crash(self) -> None:
        """All is gone but what the disk kept."""
        self._seen[Sight.CRASH] += 1
        self.alive = False
        self._incarnation += 1
        self._syncing = False
        self._after_pause = None
        self._inbox.clear()
        self._applied.clear()
        self._disk.crash()

    def pause(self) -> None:
        """Stop in the middle of everything, as SIGSTOP does."""
        self._seen[Sight.PAUSE] += 1
        self._pauses += 1

    def resume(self) -> None:
        """Go on."""
        self._pauses -= 1
        if self._after_pause is not None and not self._pauses:
            action, self._after_pause = self._after_pause, None
            action()
        self._catch_up()

    def deliver(self, event: ReplicaEvent) -> None:
        """An event has arrived."""
        if self.alive:
            if self._pauses or self._syncing:
                self._inbox.append(event)
            else:
                self._step(event)

    def _ticker(self, incarnation: int) -> Callable[[], None]:
        world, tick, event = self._world, self._tick, Tick()

        def ticked() -> None:
            if self._incarnation == incarnation:
                if self.ticks_late:
                    self._seen[Sight.LATE_TICK] += 1
                else:
                    self.deliver(event)
                world.after(tick, ticked)

        return ticked

    def _step(self, event: ReplicaEvent) -> None:
        self.steps += 1
        self._judged = False
        replica = self.replica
        led = replica.raft.term if replica.raft.role is Role.LEADER else None
        instructions = replica.handle(event)
        if instructions or self._applied:
            if "lead" in self.traps and led is None and replica.raft.role is Role.LEADER:
                self.traps.pop("lead")()
            if self.alive:
                self._carry_out(instructions, 0, led)

    def _carry_out(
        self, instructions: Sequence[ReplicaInstruction], done: int, led: int | None
    ) -> None:
        if not self._judged and not self._hangs_on(instructions[done:]):
            self._judged = True
            self._judge(instructions)
        for place in range(done, len(instructions)):
            match instructions[place]:
                case Send(to=to, message=message):
                    self._world.send(self.name, str(to), message)
                    if isinstance(message, Install):
                        self._seen[Sight.SNAPSHOT] += 1
                case Tell(client=client, message=message) as tell:
                    self._world.invariants.told(self.number, self.replica, tell)
                    self._world.send(self.name, client, message)
                case Became(role=role, term=term):
                    self._world.log(f"server {self.name} is {role.value} in term {term}")
                case Persist() as persist:
                    self._write(persist, self._synced(instructions, place, led))
                    return
        if self.traps:
            self._spring(instructions)

    def _hangs_on(self, left: Sequence[ReplicaInstruction]) -> bool:
        """Whether a crash now would undo any of the step: then that has never been the case.

        The snapshot that is made of what has just been applied undoes nothing.
        """
        for item in left:
            if isinstance(item, Persist) and (item.snapshot is None or not self._applied):
                return True
        return False

    def _judge(self, instructions: Sequence[ReplicaInstruction]) -> None:
        self._tell_applied(self.replica.applied)
        self._world.invariants.stepped(
            self.number, self._incarnation, self.replica, instructions, self._world.now
        )

    def _tell_applied(self, last: int) -> None:
        invariants, now = self._world.invariants, self._world.now
        while self._applied and self._applied[0][0] <= last:
            invariants.applied(self.number, *self._applied.popleft(), now)

    def _spring(self, instructions: Sequence[ReplicaInstruction]) -> None:
        if "vote" in self.traps and any(map(_votes, instructions)):
            self.traps.pop("vote")()
        elif "append" in self.traps and any(map(_appends, instructions)):
            self.traps.pop("append")()

    def _write(self, persist: Persist, then: Callable[[], None]) -> None:
        self._disk.begin(persist)
        self._syncing = True
        delay = self._sync * self._draw.random() * (SLOW_SYNC if self.slow else 1.0)
        if self.slow:
            self._seen[Sight.SLOW_SYNC] += 1
        if "sync" in self.traps:
            self._world.after(delay / 2, self.traps.pop("sync"))
        self._world.after(delay, then)

    def _synced(
        self, instructions: Sequence[ReplicaInstruction], place: int, led: int | None
    ) -> Callable[[], None]:
        incarnation = self._incarnation
        persist = instructions[place]
        assert isinstance(persist, Persist)

        def synced() -> None:
            if self._incarnation != incarnation:
                return
            if self._pauses:
                self._after_pause = synced
                return
            self._disk.sync()
            self._syncing = False
            raft = self.replica.raft
            if persist.snapshot is not None:
                self._tell_applied(persist.snapshot.index)
            leads_on = raft.role is Role.LEADER and raft.term == led
            self._world.invariants.persisted(self.number, persist, leads_on=leads_on)
            self._carry_out(instructions, place + 1, led)
            self._catch_up()

        return synced

    def _catch_up(self) -> None:
        while self._inbox and self.alive and not self._pauses and not self._syncing:
            self._step(self._inbox.popleft())


def _votes(instruction: ReplicaInstruction) -> bool:
    match instruction:
        case Send(message=VoteReply(granted=True, pre=False)) | Became(role=Role.CANDIDATE):
            return True
        case _:
            return False


def _appends(instruction: ReplicaInstruction) -> bool:
    match instruction:
        case Send(message=Append(entries=entries)):
            return bool(entries)
        case _:
            return False
