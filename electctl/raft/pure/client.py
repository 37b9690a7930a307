"""One candidacy that keeps itself alive, sans-I/O: a session, and the lease that it is good for.

What this does not guarantee: that the store was told when leadership ends here. It guarantees that
this client takes itself for the leader only between a confirmed renewal and the end of the validity
that :class:`electctl.core.lease.Lease` counts from before that renewal was sent.

It is what ``electctl.core.leadership`` and the backend are together, with the time as an argument:
the simulation runs it. The backend drives :class:`electctl.raft.pure.session.Session` itself.

Times are seconds on :func:`electctl.base.clock.now`, passed in.
"""

from __future__ import annotations

from msgspec import Struct

from electctl.core import lease
from electctl.raft.pure.courier import FromServer, SendTo, WayLost, Woken
from electctl.raft.pure.session import (
    GiveUp,
    Led,
    Over,
    RenewNow,
    Saved,
    Session,
    SessionEvent,
    SessionInstruction,
    TableFull,
    TwinSeen,
    Verdict,
    Write,
)

__all__ = [
    "Client",
    "Elected",
    "Ended",
    "Event",
    "Extended",
    "FromServer",
    "GiveUp",
    "Instruction",
    "Over",
    "SaveValue",
    "Saved",
    "StepDown",
    "StopRequested",
    "WayLost",
    "Woken",
]

# Events ------------------------------------------------------------------------------------------


class SaveValue(Struct, frozen=True):
    """Write the next checkpoint under our grant. Ignored unless we lead."""

    slot: str
    value: bytes


Event = Woken | FromServer | WayLost | SaveValue | GiveUp


# Instructions ------------------------------------------------------------------------------------


class Elected(Struct, frozen=True):
    """We lead under ``token`` until ``valid_until``."""

    token: int
    valid_until: float


class Extended(Struct, frozen=True):
    """We lead until ``valid_until``."""

    valid_until: float


class StopRequested(Struct, frozen=True):
    """Somebody asked the holder to stop."""


class StepDown(Struct, frozen=True):
    """Stop acting: the end of validity is near."""


class Ended(Struct, frozen=True):
    """We no longer lead."""

    reason: lease.Reason


Instruction = SendTo | Elected | Extended | StopRequested | StepDown | Ended | Saved | Over


class Client:
    """Call :meth:`start` once, then :meth:`handle` for every event."""

    def __init__(
        self, servers: tuple[int, ...], election: str, candidate: str, timing: lease.Timing
    ) -> None:
        self._timing = timing
        self._session = Session(servers, election, candidate, timing.ttl, timing.request_timeout)
        self._lease: lease.Lease | None = None
        self._version = 0
        self._out: list[Instruction] = []

    def start(self, now: float) -> list[Instruction]:
        """The first instructions."""
        self._out = []
        self._absorb(self._session.start(now), now)
        return self._out

    def remaining(self, now: float) -> float:
        """Seconds for which it is still safe to act as the leader."""
        return 0.0 if self._lease is None else self._lease.remaining(now)

    def wake_at(self) -> float | None:
        """When :class:`Woken` is due; None once nothing is left to happen."""
        times = [self._session.wake_at()]
        if self._lease is not None:
            times.append(self._lease.wake_at())
        return min((at for at in times if at is not None), default=None)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in one event at time ``now``; return what must be done, in order."""
        self._out = []
        # Time first, as everywhere.
        self._lease_event(lease.Tick(), now)
        match event:
            case GiveUp() if self.remaining(now) > 0:
                self._lease_event(lease.Released(), now)
            case SaveValue(slot=slot, value=value):
                self._version += 1
                self._tell_session(Write(slot, value, self._version), now)
            case _:
                self._tell_session(event, now)
        return self._out

    def _tell_session(self, event: SessionEvent, now: float) -> None:
        self._absorb(self._session.handle(event, now), now)

    def _absorb(self, instructions: list[SessionInstruction], now: float) -> None:
        for instruction in instructions:
            match instruction:
                case SendTo() | Saved() | Over():
                    self._out.append(instruction)
                case Led(token=token, since=since):
                    self._elected(token, since, now)
                case Verdict(event=event):
                    self._lease_event(event, now)
                case TableFull():
                    pass  # Over follows
                case TwinSeen():
                    self._tell_session(GiveUp(), now)

    def _elected(self, token: int, since: float, now: float) -> None:
        self._lease = lease.Lease(self._timing, since=since, ttl=self._timing.ttl)
        self._out.append(Elected(token, self._lease.valid_until))
        self._obey(self._lease.start(now), now)

    def _lease_event(self, event: lease.Event, now: float) -> None:
        if self._lease is not None:
            self._obey(self._lease.handle(event, now), now)

    def _obey(self, instructions: list[lease.Instruction], now: float) -> None:
        for instruction in instructions:
            match instruction:
                case lease.SendRenewal(seq=number):
                    self._tell_session(RenewNow(number), now)
                case lease.Extended(valid_until=valid_until):
                    self._out.append(Extended(valid_until))
                case lease.StopRequested():
                    self._out.append(StopRequested())
                case lease.StepDown():
                    self._out.append(StepDown())
                case lease.Ended(reason=reason):
                    self._out.append(Ended(reason))
                    self._tell_session(GiveUp(), now)
                case lease.RenewalFailed():
                    pass
