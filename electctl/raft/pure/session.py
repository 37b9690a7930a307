"""One client's session for one election, sans-I/O: open, queue, renew, save, close.

What this does not guarantee: that the store was told of an end here; a session that nobody renews
ends in the store by itself. Nor does it count how long a leadership is valid: it tells when each
confirmed renewal was sent, and :mod:`electctl.core.lease` counts from there.

The answer to "enter" or a notice that we lead is a hint only: leadership begins with a renewal
that names our token, so its validity is always counted from the sending of a request.

A command is sent again until it is answered. Its sequence number makes it act once (Ongaro's
thesis, section 6.3); they go out one at a time, so that they arrive in order.

Times are seconds on :func:`electctl.base.clock.now`, passed in.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from msgspec import Struct

from electctl.core import lease
from electctl.raft.pure.commands import (
    ClientCommand,
    Close,
    Done,
    Enter,
    Entered,
    Full,
    Gone,
    Open,
    Opened,
    Result,
    Save,
    Stale,
)
from electctl.raft.pure.courier import Answered, Courier, FromServer, SendTo, WayLost, Woken
from electctl.raft.pure.requests import Applied, Notice, Renew, Renewed, Submit

#: Seconds without an answer, at most, before another node is asked.
_PATIENCE = 2.5
#: How often a TTL a session is renewed that only waits.
KEEP_ALIVES = 3


class Stage(Enum):
    """How far a session has come."""

    OPENING = "opening"
    ENTERING = "entering"
    WAITING = "waiting"
    LEADING = "leading"
    CLOSING = "closing"
    OVER = "over"


# Events ------------------------------------------------------------------------------------------


class RenewNow(Struct, frozen=True):
    """Renew under the caller's ``number``. Ignored unless we lead."""

    number: int


class Write(Struct, frozen=True):
    """Write a checkpoint under our grant. Ignored unless we lead, and while it is under way.

    ``version`` grows with each value; the store never goes back to a lower one of this grant.
    """

    slot: str
    value: bytes
    version: int


class GiveUp(Struct, frozen=True):
    """Give back what we have, and end the session."""


SessionEvent = Woken | FromServer | WayLost | RenewNow | Write | GiveUp


# Instructions ------------------------------------------------------------------------------------


class Led(Struct, frozen=True):
    """A renewal, first sent at ``since``, has confirmed that we lead under ``token``."""

    token: int
    since: float


class Verdict(Struct, frozen=True):
    """What became of a :class:`RenewNow`."""

    event: lease.Renewed | lease.RenewalRefused | lease.RenewalUnknown


class Saved(Struct, frozen=True):
    """What became of a :class:`Write`: True written, False refused, None unknown.

    ``full``: refused because the cluster's table may not grow; we go on leading.
    """

    slot: str
    value: bytes
    version: int
    outcome: bool | None
    full: bool = False


class TwinSeen(Struct, frozen=True):
    """Somebody else who is alive came before us under our id. We go on waiting."""


class TableFull(Struct, frozen=True):
    """The cluster takes no more sessions, or no more names. The session ends."""


class Over(Struct, frozen=True):
    """The session has ended, or nobody answered within its TTL; nothing more will come."""


SessionInstruction = SendTo | Led | Verdict | Saved | TwinSeen | TableFull | Over


class Session:
    """Call :meth:`start` once, then :meth:`handle` for every event."""

    def __init__(
        self,
        servers: tuple[int, ...],
        election: str,
        candidate: str,
        ttl: float,
        request_timeout: float,
    ) -> None:
        self.stage = Stage.OPENING
        self.token: int | None = None
        self._election = election
        self._candidate = candidate
        self._ttl = ttl
        self._request_timeout = request_timeout
        # However long the lease, a node that is silent is not the only one to be asked.
        self._courier = Courier(servers, min(request_timeout, _PATIENCE))
        self._number = 0
        self._seq = 0
        self._commands: deque[ClientCommand] = deque()
        self._under_way: int | None = None
        #: Renewals under way: request id → the number that the caller gave it; 0 is our own.
        self._renewals: dict[int, int] = {}
        self._renew_at: float | None = None
        self._close_until: float | None = None
        self._out: list[SessionInstruction] = []

    @property
    def number(self) -> int:
        """The session's number in the store; 0 while it has none."""
        return self._number

    @property
    def queued(self) -> bool:
        """Whether we wait, and nothing hints at more."""
        return self.stage is Stage.WAITING and not self._renewals

    @property
    def leads(self) -> bool:
        """Whether we lead, until something says otherwise."""
        return self.stage is Stage.LEADING

    @property
    def over(self) -> bool:
        """Whether :class:`Over` has been said."""
        return self.stage is Stage.OVER

    def start(self, now: float) -> list[SessionInstruction]:
        """The first instructions."""
        self._out = []
        self._open(now)
        return self._out

    def wake_at(self) -> float | None:
        """When :class:`Woken` is due; None if nothing is left to happen by itself."""
        if self.over:
            return None
        times = (self._courier.wake_at(), self._renew_at, self._close_until)
        return min((at for at in times if at is not None), default=None)

    def handle(self, event: SessionEvent, now: float) -> list[SessionInstruction]:
        """Take in one event at time ``now``; return what must be done, in order."""
        self._out = []
        if self.stage is Stage.OVER:
            return self._out
        carried = event if isinstance(event, FromServer | WayLost) else Woken()
        for item in self._courier.handle(carried, now):
            self._take(item, now)
        self._pass_time(now)
        match event:
            case FromServer(message=Notice(session=number)):
                if number == self._number and self.stage is Stage.WAITING:
                    self._renew(now)
            case WayLost() if self.queued:
                # Notices went that way too.
                self._renew(now)
            case RenewNow(number=number) if self.stage is Stage.LEADING:
                self._renew(now, number)
            case Write() if self.stage is Stage.LEADING:
                self._write(event, now)
            case GiveUp():
                self._give_up(now)
        return self._out

    # Time ----------------------------------------------------------------------------------------

    def _pass_time(self, now: float) -> None:
        if self._renew_at is not None and now >= self._renew_at:
            self._renew(now)
        if self._close_until is not None and now >= self._close_until:
            self._finish()

    # Requests ------------------------------------------------------------------------------------

    def _submit(self, command: ClientCommand, now: float) -> None:
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
        until = now + self._request_timeout
        request, send = self._courier.send(Renew(self._number), now, until)
        self._renewals[request] = number
        self._renew_at = None if number else now + self._ttl / KEEP_ALIVES
        self._out.append(send)

    def _drop_renewals(self) -> None:
        for request in self._renewals:
            self._courier.drop(request)
        self._renewals = {}

    def _take(self, item: Answered | SendTo, now: float) -> None:
        if isinstance(item, SendTo):
            self._out.append(item)
            return
        number = item.exchange.request.id
        if number in self._renewals:
            self._renewal_answered(item, self._renewals.pop(number), now)
        elif number == self._under_way and isinstance(item.reply, Applied):
            command = self._commands.popleft()
            self._under_way = None
            self._command_answered(command, item, item.reply.result, now)
            if self._under_way is None:
                self._send_next(now)

    # Answers -------------------------------------------------------------------------------------

    def _command_answered(
        self, command: ClientCommand, answered: Answered, result: Result, now: float
    ) -> None:
        match command, result:
            case Open(), Opened(session=number) if self.stage is Stage.OPENING:
                self._number = number
                self.stage = Stage.ENTERING
                enter = Enter(number, self._next_seq(), self._election, self._candidate)
                self._submit(enter, now)
            case Enter(), Entered(token=token) if self.stage is Stage.ENTERING:
                self.stage = Stage.WAITING
                self._renew_at = now + self._ttl / KEEP_ALIVES
                if token is not None:
                    self._renew(now)
            case Save(), _:
                once = answered.exchange.copies == 1
                self._saved(command, _outcome(result, once=once), full=result == Full())
            case Close(), _:
                self._finish()
            case Open() | Enter(), Full() if self.stage in (Stage.OPENING, Stage.ENTERING):
                self._out.append(TableFull())
                self._give_up(now)
            case _:
                self._session_lost(now)

    def _saved(self, save: Save, outcome: bool | None, *, full: bool = False) -> None:
        self._out.append(Saved(save.slot, save.value, save.version, outcome, full))

    def _renewal_answered(self, answered: Answered, number: int, now: float) -> None:
        if self.stage is Stage.WAITING:
            self._waiting_answered(answered, now)
        elif self.stage is Stage.LEADING and number:
            self._out.append(Verdict(self._verdict(answered, number)))

    def _verdict(
        self, answered: Answered, number: int
    ) -> lease.Renewed | lease.RenewalRefused | lease.RenewalUnknown:
        if not isinstance(answered.reply, Renewed):
            return lease.RenewalUnknown(number, "no answer in time")
        standing = answered.reply.standing
        if standing is None or standing.token != self.token:
            return lease.RenewalRefused(number, "deleted" if standing is None else "evicted")
        since = answered.exchange.since
        return lease.Renewed(number, since, self._ttl, standing.stop_requested)

    def _waiting_answered(self, answered: Answered, now: float) -> None:
        if not isinstance(answered.reply, Renewed):
            self._renew(now)
            return
        standing = answered.reply.standing
        if standing is None or not standing.entered:
            self._session_lost(now)
        elif standing.token is not None:
            self._led(standing.token, answered.exchange.since, now)
        elif answered.reply.twin:
            self._out.append(TwinSeen())

    def _session_lost(self, now: float) -> None:
        if self.stage in (Stage.ENTERING, Stage.WAITING):
            self._open(now)

    # Stages --------------------------------------------------------------------------------------

    def _open(self, now: float) -> None:
        self.stage = Stage.OPENING
        self._renew_at = None
        self._drop_renewals()
        self._submit(Open(round(self._ttl * 1000)), now)

    def _led(self, token: int, since: float, now: float) -> None:
        if now >= since + self._ttl - lease.drift_allowance(self._ttl):
            # The answer took so long that nothing is left of what it confirms.
            self._renew(now)
            return
        self.stage = Stage.LEADING
        self.token = token
        self._renew_at = None
        self._drop_renewals()
        self._out.append(Led(token, since))

    def _write(self, write: Write, now: float) -> None:
        assert self.token is not None
        for command in self._commands:
            if isinstance(command, Save) and (command.slot, command.version) == (
                write.slot,
                write.version,
            ):
                return
        slot, value, version = write.slot, write.value, write.version
        save = Save(self._number, self._next_seq(), self.token, slot, value, version)
        self._submit(save, now)

    def _give_up(self, now: float) -> None:
        if self.stage is Stage.OPENING:
            self._finish()
        elif self.stage is not Stage.CLOSING:
            # What else is under way is superseded by it.
            self.stage = Stage.CLOSING
            self._forget_commands()
            self._drop_renewals()
            self._renew_at = None
            self._close_until = now + self._ttl
            self._submit(Close(self._number, self._next_seq()), now)

    def _forget_commands(self) -> None:
        for command in self._commands:
            if isinstance(command, Save):
                self._saved(command, None)
        self._commands.clear()
        if self._under_way is not None:
            self._courier.drop(self._under_way)
            self._under_way = None

    def _finish(self) -> None:
        self._forget_commands()
        self.stage = Stage.OVER
        self._renew_at = self._close_until = None
        self._out.append(Over())


def _outcome(result: Result, *, once: bool) -> bool | None:
    """What the answer to a save says; ``once``: it was sent once only."""
    match result:
        case Done():
            return True
        case Stale() | Full():
            return False
        case Gone() if once:
            return False
        case _:
            # An earlier copy may have acted before the session ended.
            return None
