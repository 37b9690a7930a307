"""One candidacy of one client, sans-I/O: open a session, queue, lead, save, leave.

What this does not guarantee: that the store was told when leadership ends here; a lease that
nobody renews ends in the store by itself. It guarantees that this client takes itself for the
leader only between a confirmed renewal and the end of the validity that
:class:`electctl.lease.Lease` counts from before that renewal was sent.

The answer to "enter" or a notice that we lead is a hint only: leadership begins with a renewal
that names our token, so its validity is always counted from the sending of a request.

Times are seconds on :func:`electctl.clock.now`, passed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from electctl import lease
from electctl.raft.commands import (
    ClientCommand,
    Close,
    Done,
    Enter,
    Entered,
    Gone,
    Open,
    Opened,
    Result,
    Save,
    Stale,
)
from electctl.raft.courier import Answered, Courier, SendTo
from electctl.raft.requests import Answer, Applied, Notice, Renew, Renewed, Submit


class Stage(Enum):
    """How far a candidacy has come."""

    OPENING = "opening"
    ENTERING = "entering"
    WAITING = "waiting"
    LEADING = "leading"
    CLOSING = "closing"
    OVER = "over"


# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Woken:
    """Time has passed; due at :meth:`Client.wake_at`."""


@dataclass(frozen=True, slots=True)
class FromServer:
    """``message`` came from the node ``server``."""

    server: int
    message: Answer | Notice


@dataclass(frozen=True, slots=True)
class SaveValue:
    """Write a checkpoint under our grant. Ignored unless we lead."""

    slot: str
    value: bytes


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop leading, or waiting, of our own accord."""


Event = Woken | FromServer | SaveValue | GiveUp


# Instructions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elected:
    """We lead under ``token`` until ``valid_until``."""

    token: int
    valid_until: float


@dataclass(frozen=True, slots=True)
class Extended:
    """We lead until ``valid_until``."""

    valid_until: float


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody asked the holder to stop."""


@dataclass(frozen=True, slots=True)
class StepDown:
    """Stop acting: the end of validity is near."""


@dataclass(frozen=True, slots=True)
class Ended:
    """We no longer lead."""

    reason: lease.Reason


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a :class:`SaveValue`: True written, False refused, None unknown."""

    slot: str
    value: bytes
    outcome: bool | None


@dataclass(frozen=True, slots=True)
class Over:
    """The candidacy is over; nothing more will come."""


Instruction = SendTo | Elected | Extended | StopRequested | StepDown | Ended | Saved | Over


class Client:
    """Call :meth:`start` once, then :meth:`handle` for every event."""

    def __init__(
        self, servers: tuple[int, ...], election: str, candidate: str, timing: lease.Timing
    ) -> None:
        self.stage = Stage.OPENING
        self.election = election
        self.token: int | None = None
        self._candidate = candidate
        self._timing = timing
        self._courier = Courier(servers, timing.request_timeout)
        self._session = 0
        self._seq = 0
        self._version = 0
        self._commands: deque[ClientCommand] = deque()
        self._under_way: int | None = None
        #: Renewals under way: request id → the number that the lease machine gave it.
        self._renewals: dict[int, int] = {}
        self._renew_at: float | None = None
        self._close_until: float | None = None
        self._lease: lease.Lease | None = None
        self._out: list[Instruction] = []

    def start(self, now: float) -> list[Instruction]:
        """The first instructions."""
        self._out = []
        self._open(now)
        return self._out

    def remaining(self, now: float) -> float:
        """Seconds for which it is still safe to act as the leader."""
        if self._lease is None or self.stage is not Stage.LEADING:
            return 0.0
        return self._lease.remaining(now)

    def wake_at(self) -> float | None:
        """When :class:`Woken` is due; None once nothing is left to happen."""
        times = [self._courier.wake_at(), self._renew_at, self._close_until]
        if self.stage is Stage.LEADING and self._lease is not None:
            times.append(self._lease.wake_at())
        return min((at for at in times if at is not None), default=None)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in one event at time ``now``; return what must be done, in order."""
        self._out = []
        if self.stage is Stage.OVER:
            return self._out
        # Time first: an answer that is handled after its deadline is late, however early it came.
        self._pass_time(now)
        match event:
            case FromServer(server=server, message=Answer() as answer):
                self._take(self._courier.receive(server, answer, now), now)
            case FromServer(message=Notice(session=session)):
                if session == self._session and self.stage is Stage.WAITING:
                    self._renew(now)
            case SaveValue(slot=slot, value=value):
                self._save(slot, value, now)
            case GiveUp():
                self._give_up(now)
        return self._out

    # Time ----------------------------------------------------------------------------------------

    def _pass_time(self, now: float) -> None:
        if self.stage is Stage.LEADING:
            self._lease_event(lease.Tick(), now)
        for item in self._courier.wake(now):
            self._take(item, now)
        if self._renew_at is not None and now >= self._renew_at:
            self._renew(now)
        if self._close_until is not None and now >= self._close_until:
            self._finish()

    # Requests ------------------------------------------------------------------------------------

    def _submit(self, command: ClientCommand, now: float) -> None:
        """One command at a time, so that sequence numbers arrive in order."""
        self._commands.append(command)
        if self._under_way is None:
            self._send_next(now)

    def _send_next(self, now: float) -> None:
        self._under_way = None
        if self._commands:
            ask = Submit(self._commands[0])
            self._under_way, send = self._courier.send(ask, now, float("inf"))
            self._out.append(send)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _renew(self, now: float, number: int = 0) -> None:
        until = now + self._timing.request_timeout
        request, send = self._courier.send(Renew(self._session), now, until)
        self._renewals[request] = number
        self._renew_at = None if number else now + self._timing.renew_interval
        self._out.append(send)

    def _take(self, item: Answered | SendTo | None, now: float) -> None:
        if isinstance(item, SendTo):
            self._out.append(item)
        elif isinstance(item, Answered):
            number = item.exchange.request.id
            if number in self._renewals:
                self._renewal_answered(item, self._renewals.pop(number), now)
            elif number == self._under_way and isinstance(item.reply, Applied):
                command = self._commands.popleft()
                self._under_way = None
                self._command_answered(command, item.reply.result, now)
                if self._under_way is None:
                    self._send_next(now)

    # Answers -------------------------------------------------------------------------------------

    def _command_answered(self, command: ClientCommand, result: Result, now: float) -> None:
        match command, result:
            case Open(), Opened(session=session) if self.stage is Stage.OPENING:
                self._session = session
                self.stage = Stage.ENTERING
                enter = Enter(session, self._next_seq(), self.election, self._candidate)
                self._submit(enter, now)
            case Enter(), Entered() if self.stage is Stage.ENTERING:
                self.stage = Stage.WAITING
                self._renew(now)
            case Save(slot=slot, value=value), _:
                self._save_answered(slot, value, result, now)
            case Close(), _:
                self._finish()
            case _:
                self._session_lost(now)

    def _save_answered(self, slot: str, value: bytes, result: Result, now: float) -> None:
        match result:
            case Done():
                outcome: bool | None = True
            case Stale():
                outcome = False
            case _:
                # An earlier copy may have acted before the session ended.
                outcome = None
        self._out.append(Saved(slot, value, outcome))
        if isinstance(result, Gone):
            self._session_lost(now)

    def _renewal_answered(self, answered: Answered, number: int, now: float) -> None:
        if self.stage is Stage.WAITING:
            self._waiting_answered(answered, now)
        elif self.stage is Stage.LEADING and number:
            self._lease_event(self._verdict(answered, number), now)

    def _verdict(self, answered: Answered, number: int) -> lease.Event:
        if not isinstance(answered.reply, Renewed):
            return lease.RenewalUnknown(number)
        standing = answered.reply.standing
        if standing is None or standing.token != self.token:
            return lease.RenewalRefused(number, "deleted" if standing is None else "evicted")
        since = answered.exchange.since
        return lease.Renewed(number, since, self._timing.ttl, standing.stop_requested)

    def _waiting_answered(self, answered: Answered, now: float) -> None:
        if not isinstance(answered.reply, Renewed):
            return
        standing = answered.reply.standing
        if standing is None or not standing.entered:
            self._session_lost(now)
        elif standing.token is not None:
            self._elected(standing.token, answered.exchange.since, now)

    def _session_lost(self, now: float) -> None:
        if self.stage is Stage.LEADING:
            self._close("deleted", now)
        elif self.stage in (Stage.ENTERING, Stage.WAITING):
            self._open(now)

    # Stages --------------------------------------------------------------------------------------

    def _open(self, now: float) -> None:
        self.stage = Stage.OPENING
        self._renew_at = None
        self._renewals = {}
        self._submit(Open(round(self._timing.ttl * 1000)), now)

    def _elected(self, token: int, since: float, now: float) -> None:
        held = lease.Lease(self._timing, since=since, ttl=self._timing.ttl)
        if now >= held.valid_until:
            return
        self.stage = Stage.LEADING
        self.token = token
        self._renew_at = None
        self._lease = held
        self._out.append(Elected(token, held.valid_until))
        self._obey(held.start(now), now)

    def _lease_event(self, event: lease.Event, now: float) -> None:
        assert self._lease is not None
        self._obey(self._lease.handle(event, now), now)

    def _obey(self, instructions: list[lease.Instruction], now: float) -> None:
        for instruction in instructions:
            match instruction:
                case lease.SendRenewal(seq=number):
                    self._renew(now, number)
                case lease.Extended(valid_until=valid_until):
                    self._out.append(Extended(valid_until))
                case lease.StopRequested():
                    self._out.append(StopRequested())
                case lease.StepDown():
                    self._out.append(StepDown())
                case lease.Ended(reason=reason):
                    self._close(reason, now)
                case lease.RenewalFailed():
                    pass

    def _save(self, slot: str, value: bytes, now: float) -> None:
        if self.stage is Stage.LEADING and self.token is not None:
            self._version += 1
            save = Save(self._session, self._next_seq(), self.token, slot, value, self._version)
            self._submit(save, now)

    def _give_up(self, now: float) -> None:
        match self.stage:
            case Stage.LEADING:
                self._lease_event(lease.Released(), now)
            case Stage.ENTERING | Stage.WAITING:
                self._close(None, now)
            case Stage.OPENING:
                self._finish()

    def _close(self, reason: lease.Reason | None, now: float) -> None:
        """Say goodbye; what else was under way is superseded by it."""
        self.stage = Stage.CLOSING
        if reason is not None:
            self._out.append(Ended(reason))
        self._forget_commands()
        self._renewals = {}
        self._renew_at = None
        self._close_until = now + self._timing.ttl
        self._submit(Close(self._session, self._next_seq()), now)

    def _forget_commands(self) -> None:
        for command in self._commands:
            if isinstance(command, Save):
                self._out.append(Saved(command.slot, command.value, None))
        self._commands.clear()
        if self._under_way is not None:
            self._courier.drop(self._under_way)
            self._under_way = None

    def _finish(self) -> None:
        self._forget_commands()
        self.stage = Stage.OVER
        self._close_until = None
        self._out.append(Over())
