"""The simulated clients: candidates that lead whenever they can, and a reader.

What they do not do: run a command. What a leader does here is write checkpoints, and it takes
itself for the leader exactly as long as its own count of validity says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from electctl.core.lease import Timing, drift_allowance
from electctl.raft.pure.client import (
    Client,
    Elected,
    Ended,
    Event,
    Extended,
    GiveUp,
    Instruction,
    Over,
    Saved,
    SaveValue,
    StepDown,
    StopRequested,
)
from electctl.raft.pure.commands import Evict, Open
from electctl.raft.pure.courier import Answered, Courier, FromServer, SendTo, WayLost, Woken
from electctl.raft.pure.messages import Message
from electctl.raft.pure.requests import (
    Answer,
    CheckpointSeen,
    Follow,
    LookCheckpoint,
    Notice,
    Request,
    Submit,
)
from electctl.simulate.invariants import Invariants
from electctl.simulate.sights import Sight
from electctl.verify.linear.history import Operation

SLOT = "progress"


class World(Protocol):
    """What a client needs of the world."""

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


class Alarm:
    """Calls back at a time on a clock that runs at ``rate``; only the earliest time counts."""

    def __init__(self, world: World, rate: float, action: Callable[[], None]) -> None:
        self._world = world
        self._rate = rate
        self._action = action
        self._at: float | None = None

    def clock(self) -> float:
        """The reading of this clock."""
        return 1000.0 + self._world.now * self._rate

    def true_time(self, reading: float) -> float:
        """The true time at which this clock reads that."""
        return (reading - 1000.0) / self._rate

    def set(self, reading: float | None) -> None:
        """Ring at that reading, or sooner."""
        if reading in (None, math.inf) or (self._at is not None and self._at <= reading):
            return
        self._at = reading
        delay = max(0.0, self.true_time(reading) - self._world.now) + 1e-9
        self._world.after(delay, lambda: self._ring(reading))

    def _ring(self, reading: float) -> None:
        if self._at == reading:
            self._at = None
            self._action()


class Candidate:
    """Campaigns again and again under one name; each candidacy has an address of its own."""

    def __init__(
        self,
        name: str,
        election: str,
        servers: tuple[int, ...],
        ttl: float,
        rate: float,
        world: World,
        client: type[Client],
        draw: random.Random,
        *,
        stubborn: bool,
    ) -> None:
        self.election = election
        self.address = ""
        self.last_valid = 0.0
        self._history: list[Operation] = []
        self.name = name
        self._servers = servers
        self._timing = Timing.plan(ttl)
        self._world = world
        self._draw = draw
        self._class = client
        self._stubborn = stubborn
        self._alarm = Alarm(world, rate, self._woken)
        self._life = 0
        self._client: Client | None = None
        self._token = 0
        self._valid_until = 0.0
        self._version = 0
        self._calls: dict[bytes, tuple[float, tuple[int, int]]] = {}
        self._pauses = 0
        self._inbox: list[Event] = []
        self._campaign()

    @property
    def leads(self) -> bool:
        """By its own count."""
        client = self._client
        return client is not None and client.remaining(self._alarm.clock()) > 0

    def crash(self) -> None:
        """Gone, with all it knew; :meth:`restart` begins anew."""
        self._world.invariants.seen[Sight.CLIENT_CRASH] += 1
        self._leave()
        self._client = None
        self._inbox = []
        for value in list(self._calls):
            self._recorded(value, None)

    def restart(self) -> None:
        """A new process under the same name."""
        if self._client is None:
            self._campaign()

    def pause(self) -> None:
        """Stop as SIGSTOP does: the clock goes on, nothing is handled."""
        self._world.invariants.seen[Sight.CLIENT_PAUSE] += 1
        self._pauses += 1

    def resume(self) -> None:
        """Go on with what has come in the meantime."""
        self._pauses -= 1
        if not self._pauses:
            inbox, self._inbox = self._inbox, []
            for event in inbox:
                self._handle(event)
            self._handle(Woken())

    def save(self) -> None:
        """Write the next checkpoint, if it leads."""
        if not self._pauses and self.leads:
            self._version += 1
            value = f"{self.address}:{self._version}".encode()
            self._calls[value] = self._world.now, (self._token, self._version)
            self._handle(SaveValue(SLOT, value))

    def release(self) -> None:
        """Give up the leadership, if it leads."""
        if self.leads:
            self._handle(GiveUp())

    def leave(self) -> None:
        """Give up, also if it only waits."""
        self._handle(GiveUp())

    def operations(self) -> list[Operation]:
        """All that it wrote; what is still under way has an unknown outcome."""
        unknown = [
            Operation("write", call, None, (stamp, value))
            for value, (call, stamp) in self._calls.items()
        ]
        return self._history + unknown

    def deliver(self, address: str, server: str, message: Answer | Notice) -> None:
        """A message for one of this client's addresses; an old one is nobody's any more."""
        if address == self.address:
            self._handle(FromServer(int(server), message))

    def lose_way(self, server: int) -> None:
        """The connection to a server broke."""
        self._handle(WayLost(server))

    def _campaign(self) -> None:
        self._life += 1
        self.address = f"{self.name}.{self._life}"
        self._version = 0
        self._client = self._class(self._servers, self.election, self.name, self._timing)
        self._carry_out(self._client.start(self._alarm.clock()))

    def _woken(self) -> None:
        self._handle(Woken())

    def _handle(self, event: Event) -> None:
        if self._client is None:
            return
        if self._pauses:
            self._inbox.append(event)
            return
        self._carry_out(self._client.handle(event, self._alarm.clock()))

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        world = self._world
        for instruction in instructions:
            match instruction:
                case SendTo(server=server, request=request):
                    world.invariants.asked(self.address, request, world.now)
                    world.send(self.address, str(server), request)
                case Elected(token=token, valid_until=reading):
                    self._token = token
                    since, until = self._interval(reading)
                    world.log(f"{self.address} leads {self.election} under {token} to {until:.3f}")
                    world.invariants.elected(
                        self.address, self.election, token, since, until, world.now
                    )
                    self.last_valid = until
                case Extended(valid_until=reading):
                    since, until = self._interval(reading)
                    world.invariants.extended(self.address, self.election, since, until, world.now)
                    self.last_valid = until
                case StopRequested() | StepDown():
                    world.after(self._last_words(), self.release)
                case Ended(reason=reason):
                    world.log(f"{self.address} has ended: {reason}")
                    self._leave()
                case Saved(value=value, outcome=outcome):
                    self._recorded(value, outcome)
                case Over():
                    self._client = None
                    world.after(0.1 + self._draw.random(), self._again(self._life))
        if self._client is not None:
            self._alarm.set(self._client.wake_at())

    def _last_words(self) -> float:
        """Seconds until it has stopped acting; one that is stubborn may have to be ended."""
        if self._stubborn and self._client is not None:
            return self._draw.random() * 1.5 * self._client.remaining(self._alarm.clock())
        return 0.05

    def _interval(self, valid_until: float) -> tuple[float, float]:
        """From when and until when a validity counts, in true time."""
        ttl = self._timing.ttl
        since = valid_until - ttl + drift_allowance(ttl)
        return self._alarm.true_time(since), self._alarm.true_time(valid_until)

    def _again(self, life: int) -> Callable[[], None]:
        def again() -> None:
            if self._client is None and self._life == life:
                self._campaign()

        return again

    def _leave(self) -> None:
        self._world.invariants.ended(self.address, self.election)

    def _recorded(self, value: bytes, outcome: bool | None) -> None:
        call, stamp = self._calls.pop(value)
        if outcome is not False:
            back = self._world.now if outcome else None
            self._history.append(Operation("write", call, back, (stamp, value)))


class Reader:
    """Reads checkpoints, follows elections, and evicts."""

    def __init__(self, servers: tuple[int, ...], world: World) -> None:
        self.address = "reader"
        #: election → what was read.
        self.history: dict[str, list[Operation]] = {}
        #: When what was asked that nobody answered, in true time.
        self.unanswered: list[tuple[float, str]] = []
        self._world = world
        self._courier = Courier(servers, 0.7)
        self._alarm = Alarm(world, 1.0, self._woken)

    def follow(self, election: str) -> None:
        """Be told of every change, from now on."""
        self._ask(Follow(election))

    def look(self, election: str) -> None:
        """Read the checkpoint."""
        self._ask(LookCheckpoint(election, SLOT))

    def open_sessions(self, count: int) -> None:
        """Open sessions that nobody will renew: entries for the log, and expiries later."""
        for _ in range(count):
            self._ask(Submit(Open(1500)))

    def evict(self, election: str, *, force: bool) -> None:
        """Ask the present holder to stop, or take its grant away."""
        token = self._world.invariants.tokens.get(election)
        if token is not None:
            self._ask(Submit(Evict(election, token, force)))

    def deliver(self, address: str, server: str, message: Answer | Notice) -> None:
        """An answer."""
        self._handle(FromServer(int(server), message))

    def lose_way(self, server: int) -> None:
        """The connection to a server broke."""
        self._handle(WayLost(server))

    def _ask(self, ask: LookCheckpoint | Follow | Submit) -> None:
        now = self._alarm.clock()
        until = math.inf if isinstance(ask, Follow) else now + 4.0
        _, send = self._courier.send(ask, now, until)
        self._take(send)

    def _woken(self) -> None:
        self._handle(Woken())

    def _handle(self, event: Woken | FromServer | WayLost) -> None:
        for item in self._courier.handle(event, self._alarm.clock()):
            self._take(item)
        self._alarm.set(self._courier.wake_at())

    def _take(self, item: Answered | SendTo) -> None:
        match item:
            case SendTo(server=server, request=request):
                self._world.invariants.asked(self.address, request, self._world.now)
                self._world.send(self.address, str(server), request)
            case Answered(exchange=exchange, reply=None):
                asked = self._alarm.true_time(exchange.since)
                self.unanswered.append((asked, str(exchange.request)))
            case Answered(exchange=exchange, reply=CheckpointSeen(checkpoint=found)):
                ask = exchange.request.ask
                assert isinstance(ask, LookCheckpoint)
                self._world.log(f"reader read {found} of {ask.election}")
                read = Operation(
                    "read",
                    self._alarm.true_time(exchange.since),
                    self._world.now,
                    answer=None if found is None else found.value,
                )
                self.history.setdefault(ask.election, []).append(read)
        self._alarm.set(self._courier.wake_at())
