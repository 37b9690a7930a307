"""One simulated server: the real replica on a simulated disk, clock and scheduler.

What this does not do: decide when it crashes, pauses or starts; the world does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from electctl.raft.pure.commands import Command
from electctl.raft.pure.core import Raft
from electctl.raft.pure.driver import Action, Driver, Write
from electctl.raft.pure.leases import Effect, LeaseTable
from electctl.raft.pure.messages import Append, Install, Message, TimeoutNow, VoteReply
from electctl.raft.pure.replica import Replica, ReplicaEvent, ReplicaInstruction, Tell
from electctl.raft.pure.requests import Answer, Notice, Request
from electctl.raft.pure.snapshots import fill
from electctl.raft.pure.steps import Became, Role, Send, Settings
from electctl.simulate.disk import Disk
from electctl.simulate.invariants import Invariants
from electctl.simulate.sights import Sight
from electctl.simulate.step import Step, reign, step

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
    driver: type[Driver] = Driver
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
        tick: float,
        batch: int,
        sync: float,
        settings: Settings,
        compact_after: int,
        max_sessions: int,
        max_bytes: int,
    ) -> None:
        self.number = number
        self.name = str(number)
        self.alive = False
        self.steps = 0
        #: While above 0, a sync takes much longer.
        self.slow = 0
        #: Each is called once, when its moment comes.
        self.traps: dict[Moment, Callable[[], None]] = {}
        self.replica: Replica
        self._voters = voters
        self._world = world
        self._parts = parts
        self._draw = draw
        self._rate = rate
        self._tick = tick
        self._batch = batch
        self._sync = sync
        self._settings = settings
        self._compact_after = compact_after
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._seen = world.invariants.seen
        self._disk = parts.disk(draw, self._seen)
        self._incarnation = 0
        self._pauses = 0
        #: Its clock stands still while above 0, at :attr:`_stopped_at`: ticks come late.
        self._stops = 0
        self._stopped_at = 0.0
        self._syncing = False
        self._after_pause: Callable[[], None] | None = None
        #: What the table did in the step that is under way.
        self._effects: list[tuple[int, Command, Effect]] = []
        #: The steps of the turn that is under way.
        self._taken: list[Step] = []
        #: The steps of which a crash would undo something.
        self._unjudged: Sequence[Step] = ()
        self._inbox: deque[ReplicaEvent] = deque()
        world.after(draw.random() * tick, self.start)

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
        self.replica = self._watched()(
            raft,
            round(self._tick * 1000),
            compact_after=self._compact_after,
            restore=self._restore,
        )
        self._driver = self._parts.driver(self.replica, self._tick, batch=self._batch)
        self._go(self._driver.begin)

    def start_again(self) -> None:
        """After a crash; does nothing if it runs."""
        if not self.alive:
            self._world.log(f"server {self.name} starts")
            self.start()

    def _watched(self) -> type[Replica]:
        server = self

        class Watched(self._parts.replica):  # type: ignore[name-defined,misc]
            def handle(self, event: ReplicaEvent) -> list[ReplicaInstruction]:
                led = reign(self)
                instructions: list[ReplicaInstruction] = super().handle(event)
                effects, server._effects = tuple(server._effects), []
                server._taken.append(step(self, event, led, instructions, effects))
                return instructions

        return Watched

    def _restore(self, state: bytes) -> LeaseTable:
        server = self

        class Watched(self._parts.table):  # type: ignore[name-defined,misc]
            max_sessions = self._max_sessions
            max_bytes = self._max_bytes

            def apply(self, index: int, command: Command) -> Effect:
                effect: Effect = super().apply(index, command)
                server._effects.append((index, command, effect))
                return effect

        table: LeaseTable = Watched()
        if state:
            self._parts.fill(table, state)
            self._world.invariants.restored(self.number, state, table)
        return table

    def crash(self) -> None:
        """All is gone but what the disk kept."""
        self._seen[Sight.CRASH] += 1
        self.alive = False
        self._incarnation += 1
        self._syncing = False
        self._after_pause = None
        self._inbox.clear()
        self._effects.clear()
        self._disk.crash()
        self._learn_of_what_was_kept()

    def _learn_of_what_was_kept(self) -> None:
        """A write that outlived the crash may hold a table that nobody has seen being made."""
        kept = self._disk.load().snapshot.index
        for each in self._unjudged:
            for effect in each.effects:
                if effect[0] <= kept:
                    self._world.invariants.applied(self.number, *effect, self._world.now)
        self._unjudged = ()

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
        self._go_on()

    def stop_clock(self) -> None:
        """Time passes, but not on its clock; ticks are late."""
        self._stopped_at = self._clock()
        self._stops += 1

    def start_clock(self) -> None:
        """The clock shows the time again."""
        self._stops -= 1
        if self.alive:
            self._go_on()

    def deliver(self, event: ReplicaEvent) -> None:
        """An event has arrived."""
        if self.alive:
            self._inbox.append(event)
            self._go_on()

    # Turns ---------------------------------------------------------------------------------------

    def _clock(self) -> float:
        return self._stopped_at if self._stops else self._world.now * self._rate

    def _due(self) -> bool:
        return self._clock() >= self._driver.wake_at

    def _go_on(self) -> None:
        while (
            self.alive and not self._pauses and not self._syncing and (self._inbox or self._due())
        ):
            self._go(lambda now: self._driver.turn(self._arrived(), now))

    def _arrived(self) -> Iterator[ReplicaEvent]:
        while self._inbox:
            yield self._inbox.popleft()

    def _go(self, decide: Callable[[float], list[Action]]) -> None:
        """One turn, and the alarm for the next tick if there was one."""
        now, due = self._clock(), self._driver.wake_at
        if now - due > self._tick / 2:
            self._seen[Sight.LATE_TICK] += 1
        actions = decide(now)
        steps, self._taken = self._taken, []
        self.steps += len(steps)
        if len(steps) > 1:
            self._seen[Sight.BATCH] += 1
        if self._driver.wake_at != due:
            delay = (self._driver.wake_at - now) / self._rate
            self._world.after(delay + 1e-9, self._alarm(self._incarnation))
        if "lead" in self.traps and any(each.won for each in steps):
            self.traps.pop("lead")()
        if self.alive:
            self._unjudged = steps
            self._carry_out(actions, 0)

    def _alarm(self, incarnation: int) -> Callable[[], None]:
        def rung() -> None:
            if self._incarnation == incarnation:
                self._go_on()

        return rung

    def _carry_out(self, actions: Sequence[Action], done: int) -> None:
        if not any(isinstance(item, Write) for item in actions[done:]):
            steps, self._unjudged = self._unjudged, ()
            for each in steps:
                self._world.invariants.stepped(
                    self.number, self._incarnation, each, self._world.now
                )
        for place in range(done, len(actions)):
            match actions[place]:
                case Send(to=to, message=message):
                    self._world.send(self.name, str(to), message)
                    if isinstance(message, Install):
                        self._seen[Sight.SNAPSHOT] += 1
                    elif isinstance(message, TimeoutNow):
                        self._seen[Sight.HANDED] += 1
                case Tell(client=client, message=told):
                    self._world.send(self.name, client, told)
                case Became(role=role, term=term):
                    self._world.log(f"server {self.name} is {role.value} in term {term}")
                case Write() as write:
                    self._write(write, self._synced(actions, place))
                    return
        if self.traps:
            self._spring(actions)

    def _spring(self, actions: Sequence[Action]) -> None:
        if "vote" in self.traps and any(map(_votes, actions)):
            self.traps.pop("vote")()
        elif "append" in self.traps and any(map(_appends, actions)):
            self.traps.pop("append")()

    def _write(self, write: Write, then: Callable[[], None]) -> None:
        self._disk.begin(write)
        self._syncing = True
        delay = self._sync * self._draw.random() * (SLOW_SYNC if self.slow else 1.0)
        if self.slow:
            self._seen[Sight.SLOW_SYNC] += 1
        if "sync" in self.traps:
            self._world.after(delay / 2, self.traps.pop("sync"))
        self._world.after(delay, then)

    def _synced(self, actions: Sequence[Action], place: int) -> Callable[[], None]:
        incarnation = self._incarnation

        def synced() -> None:
            if self._incarnation != incarnation:
                return
            if self._pauses:
                self._after_pause = synced
                return
            self._disk.sync()
            self._syncing = False
            self._carry_out(actions, place + 1)
            self._go_on()

        return synced


def _votes(instruction: Action) -> bool:
    match instruction:
        case Send(message=VoteReply(granted=True, pre=False)) | Became(role=Role.CANDIDATE):
            return True
        case _:
            return False


def _appends(instruction: Action) -> bool:
    match instruction:
        case Send(message=Append(entries=entries)):
            return bool(entries)
        case _:
            return False
