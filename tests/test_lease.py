"""The timing machine against a modelled store, a lossy network and a process that may be paused.

What this does not show: that a backend reports ``since`` truthfully (tests/test_conformance_*.py),
single cases and the plan
(tests/test_lease_timing.py), nor what threads make of it (tests/test_leadership.py).

The model keeps true time (our clock). The store's clock runs up to 1 % faster or slower, and it
may expire a grant up to 50 ms early, which is what the drift allowance covers. A list of planted
bugs shows that the properties can fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from electctl.core.lease import (
    DRIFT_FIXED,
    DRIFT_RATE,
    MARGIN,
    Ended,
    Event,
    Extended,
    Instruction,
    Lease,
    Released,
    RenewalRefused,
    RenewalUnknown,
    Renewed,
    SendRenewal,
    StepDown,
    StopRequested,
    Tick,
    Timing,
)
from electctl.errors import UnsafeTiming

EPS = 1e-6  # rounding of doubles near 1e5 s, the size of an uptime

#: Shares of a TTL, most of them short enough for the leadership to live on.
SHORT = st.sampled_from([0.01, 0.05, 0.1, 0.2]) | st.floats(0.001, 0.4)


# The world around the machine --------------------------------------------------------------------


@dataclass
class Store:
    """Grants for ``ttl`` seconds of its own clock; one that has run out or is deleted is gone."""

    rate: float
    early: float
    expires: float = -math.inf  # in true time
    gone: bool = False

    def grant(self, at: float, ttl: float) -> None:
        # A store never takes back what it promised before, also when it now promises less.
        self.expires = max(self.expires, at + ttl / self.rate - self.early)

    def renew(self, at: float, ttl: float) -> bool:
        self.gone = self.gone or at >= self.expires
        if not self.gone:
            self.grant(at, ttl)
        return not self.gone


@dataclass(frozen=True)
class Request:
    seq: int
    sent: float


@dataclass(frozen=True)
class Reply:
    seq: int
    sent: float
    ttl: float | None  # None: refused


class World(RuleBasedStateMachine):
    """Every rule is one thing that can happen; the invariants hold after each."""

    lease_class: ClassVar[type[Lease]] = Lease

    @initialize(
        began=st.floats(0, 1e5),
        ttl=st.floats(0.6, 60),
        grace_share=st.floats(0, 0.4),
        rate=st.sampled_from([0.99, 1.0, 1.01]) | st.floats(0.99, 1.01),
        early=st.sampled_from([0.0, DRIFT_FIXED]) | st.floats(0, DRIFT_FIXED),
        known_after=st.sampled_from([0.0, 0.01, 0.1, 0.3]) | st.floats(0, 1.2),
    )
    def elected(
        self,
        began: float,
        ttl: float,
        grace_share: float,
        rate: float,
        early: float,
        known_after: float,
    ) -> None:
        try:
            self.timing = Timing.plan(ttl, ttl * grace_share)
        except UnsafeTiming:
            self.timing = Timing.plan(ttl)
        self.now = began
        self.store = Store(rate, early)
        self.store.grant(began, ttl)
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.sent: dict[int, float] = {}
        self.log: list[Instruction] = []
        self.deadlines = Extended(math.inf, math.inf, math.inf, began)
        self.lease = self.lease_class(self.timing, since=began, ttl=ttl)
        # The grant may become known only after its own deadlines.
        self.now += ttl * known_after
        self.carry_out(self.lease.start(self.now))

    # What the process does

    def feed(self, event: Event) -> None:
        self.carry_out(self.lease.handle(event, self.now))

    def carry_out(self, instructions: list[Instruction]) -> None:
        before = self.log[-1] if self.log else None
        for instruction in instructions:
            ended = any(isinstance(i, Ended) for i in self.log)
            stepping = any(isinstance(i, StepDown) for i in self.log)
            assert not ended, f"{instruction} after {before}"
            match instruction:
                case SendRenewal(seq=seq):
                    assert not stepping, "a renewal after stepping down"
                    assert seq == len(self.sent) + 1, "sequence numbers have gaps or repeat"
                    self.sent[seq] = self.now
                    self.requests.append(Request(seq, self.now))
                case Extended():
                    assert not stepping, "came back from stepping down"
                    self.check_deadlines(instruction)
                    self.deadlines = instruction
                case StepDown():
                    assert not stepping, "stepped down twice"
                    assert self.now >= self.deadlines.terminate_at
                case Ended(reason="expired"):
                    assert self.now >= self.deadlines.valid_until
                case StopRequested():
                    assert StopRequested() not in self.log, "asked twice for one stop"
            self.log.append(instruction)
        if self.lease.state != "ended":
            due = self.lease.wake_at()
            assert due is not None
            assert due > self.now, "the next tick lies in the past"

    def check_deadlines(self, new: Extended) -> None:
        assert new.kill_at == pytest.approx(new.valid_until - MARGIN, abs=EPS)
        assert new.terminate_at == pytest.approx(new.kill_at - self.timing.grace, abs=EPS)
        assert self.now < self.deadlines.terminate_at, "a renewal that was late extended"

    # Time

    @rule(share=SHORT)
    def time_passes(self, share: float) -> None:
        """The process runs: it wakes when it said it would."""
        until = self.now + share * self.timing.ttl
        while (due := self.lease.wake_at()) is not None and due <= until:
            self.now = max(self.now, due)
            before = len(self.log)
            self.feed(Tick())
            assert len(self.log) > before, "woke for nothing"
        self.now = until
        before = len(self.log)
        self.feed(Tick())
        assert len(self.log) == before, "something was due before it said so"

    @rule(share=SHORT | st.floats(0.001, 1.5))
    def paused(self, share: float) -> None:
        """Time passes and nothing runs; the next rule is what happens first after it."""
        self.now += share * self.timing.ttl

    @precondition(lambda self: self.lease.wake_at() is not None)
    @rule()
    def sleep_until_due(self) -> None:
        due = self.lease.wake_at()
        assert due is not None
        self.now = max(self.now, due)
        self.feed(Tick())

    # The network

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), again=st.booleans(), share=st.sampled_from([0.3, 0.7, 1.0, 1.3]))
    def request_arrives(self, data: st.DataObject, again: bool, share: float) -> None:
        """In any order; ``again`` leaves a copy on the way. The store may grant less or more."""
        request = data.draw(st.sampled_from(self.requests))
        if not again:
            self.requests.remove(request)
        ttl = self.timing.ttl * share
        granted = ttl if self.store.renew(self.now, ttl) else None
        self.replies.append(Reply(request.seq, request.sent, granted))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def request_lost(self, data: st.DataObject) -> None:
        self.requests.remove(data.draw(st.sampled_from(self.requests)))

    @precondition(lambda self: self.replies)
    @rule(
        data=st.data(),
        again=st.booleans(),
        stop=st.booleans(),
        delay=st.sampled_from([0.0, 0.05, 0.2, 0.4]),
    )
    def reply_arrives(self, data: st.DataObject, again: bool, stop: bool, delay: float) -> None:
        """In any order; the process may sleep over it for a while."""
        self.now += delay * self.timing.ttl
        reply = data.draw(st.sampled_from(self.replies))
        if not again:
            self.replies.remove(reply)
        if reply.ttl is None:
            self.feed(RenewalRefused(reply.seq))
            assert self.lease.state == "ended", "a refusal was ignored"
        else:
            self.feed(Renewed(reply.seq, reply.sent, reply.ttl, stop_requested=stop))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def client_gives_up(self, data: st.DataObject) -> None:
        """The request may still act, and its reply may still come."""
        seq = data.draw(st.sampled_from(sorted(self.sent)))
        patience = data.draw(st.sampled_from([0.0, 1.0]) | st.floats(0, 100))
        self.feed(RenewalUnknown(seq, retry_after=patience))

    @rule()
    def round_trip(self) -> None:
        """All is well for once: everything on the way arrives, oldest first."""
        for request in self.requests:
            granted = self.timing.ttl if self.store.renew(self.now, self.timing.ttl) else None
            self.replies.append(Reply(request.seq, request.sent, granted))
        self.requests.clear()
        for reply in self.replies:
            self.feed(
                RenewalRefused(reply.seq)
                if reply.ttl is None
                else Renewed(reply.seq, reply.sent, reply.ttl)
            )
        self.replies.clear()

    # The end

    @rule(how=st.sampled_from(["deleted", "released", *["neither"] * 10]))
    def comes_to_an_end(self, how: str) -> None:
        if how == "deleted":
            self.store.gone = True
        elif how == "released":
            self.feed(Released())
            assert self.lease.state == "ended"

    # What must hold

    @invariant()
    def never_valid_beyond_the_grant(self) -> None:
        """Asked of the machine as it is, also in the middle of a pause: remaining() needs no tick.

        A deletion is left out: no clock can know of it.
        """
        if self.lease.remaining(self.now) > 0:
            assert self.now < self.store.expires + EPS
        if self.lease.state != "ended":
            assert self.lease.valid_until <= self.store.expires + EPS

    @invariant()
    def remaining_is_the_time_to_the_last_deadline(self) -> None:
        left = self.lease.remaining(self.now)
        assert left >= 0
        assert left <= max(0.0, self.deadlines.valid_until - self.now) + EPS

    @invariant()
    def ended_is_final(self) -> None:
        ended = [i for i in self.log if isinstance(i, Ended)]
        assert (self.lease.state == "ended") == bool(ended)
        assert len(ended) <= 1
        if ended:
            assert self.log[-1] == ended[0]
            assert self.lease.remaining(self.now) == 0
            assert self.lease.wake_at() is None

    @invariant()
    def stepping_down_is_said(self) -> None:
        said = any(isinstance(i, StepDown) for i in self.log)
        if self.lease.state == "held":
            assert not said
        if self.lease.state == "stepping_down":
            assert said


def test_the_machine_keeps_every_invariant_in_a_hostile_world() -> None:
    run_state_machine_as_test(
        World, settings=settings(max_examples=300, stateful_step_count=30, deadline=None)
    )


# Planted bugs ------------------------------------------------------------------------------------


class ValidFromReceipt(Lease):
    """Counts the TTL from the moment at which the confirmation came."""

    def handle(self, event: Event, now: float) -> list[Instruction]:
        if isinstance(event, Renewed):
            event = Renewed(event.seq, now, event.ttl, event.stop_requested)
        return super().handle(event, now)


class DriftDropped(Lease):
    """Trusts the store's clock to run like ours."""

    def _renewed(self, event: Renewed, now: float) -> list[Instruction]:
        out = super()._renewed(event, now)
        self.valid_until = self.since + event.ttl
        return out


class HalfTheDrift(Lease):
    """Allows 1 %, and forgets the 50 ms."""

    def _renewed(self, event: Renewed, now: float) -> list[Instruction]:
        out = super()._renewed(event, now)
        self.valid_until = self.since + event.ttl * (1 - DRIFT_RATE)
        return out


class LateExtends(Lease):
    """Takes a confirmation in first and looks at the clock then."""

    def handle(self, event: Event, now: float) -> list[Instruction]:
        if self.state == "ended":
            return []
        return [*self._take(event, now), *self._on_time(now)]


class BackFromTheBrink(Lease):
    """Lets a confirmation undo a step-down."""

    def _renewed(self, event: Renewed, now: float) -> list[Instruction]:
        self.state = "held"
        return super()._renewed(event, now)


class UnknownExtends(Lease):
    """Takes no news for good news."""

    def _take(self, event: Event, now: float) -> list[Instruction]:
        if isinstance(event, RenewalUnknown) and event.seq == self._outstanding:
            event = Renewed(event.seq, self._sent_at, self.timing.ttl)
        return super()._take(event, now)


class OlderReplyExtends(Lease):
    """Takes any confirmation for one of the renewal sent last."""

    def _take(self, event: Event, now: float) -> list[Instruction]:
        if isinstance(event, Renewed):
            event = Renewed(self._seq, self._sent_at, event.ttl)
            self._outstanding = self._seq
        return super()._take(event, now)


class RefusalIgnored(Lease):
    """Tries again although the store said no."""

    def _take(self, event: Event, now: float) -> list[Instruction]:
        if isinstance(event, RenewalRefused):
            event = RenewalUnknown(event.seq)
        return super()._take(event, now)


class LastsBeyondItsEnd(Lease):
    """Tells what is left of the validity after leadership has ended."""

    def remaining(self, now: float) -> float:
        return max(0.0, self.valid_until - now)


class EndsTwice(Lease):
    """Goes on taking events in after the end."""

    def handle(self, event: Event, now: float) -> list[Instruction]:
        out = self._expire(now)
        return out + self._take(event, now)


class SleepsTooLong(Lease):
    """Forgets its deadlines while a request is on its way."""

    def wake_at(self) -> float | None:
        due = super().wake_at()
        return due if self._outstanding is None or due is None else self.valid_until + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(ValidFromReceipt, marks=pytest.mark.slow),
        DriftDropped,
        HalfTheDrift,
        LateExtends,
        BackFromTheBrink,
        UnknownExtends,
        OlderReplyExtends,
        pytest.param(RefusalIgnored, marks=pytest.mark.slow),
        LastsBeyondItsEnd,
        EndsTwice,
        SleepsTooLong,
    ],
)
def test_the_hostile_world_finds_a_planted_bug(mutant: type[Lease]) -> None:
    world = type(f"World{mutant.__name__}", (World,), {"lease_class": mutant})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            world,
            settings=settings(
                max_examples=5000,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
