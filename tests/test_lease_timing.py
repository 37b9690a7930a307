"""The plan of a leadership's timing, single cases of the machine, and one missed renewal.

What this does not show: what any order of events does (tests/test_lease.py), nor what threads
make of it (tests/test_leadership.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from electctl.core.lease import (
    MARGIN,
    Ended,
    Event,
    Extended,
    Instruction,
    Lease,
    Released,
    RenewalFailed,
    RenewalRefused,
    RenewalUnknown,
    Renewed,
    SendRenewal,
    StepDown,
    StopRequested,
    Superseded,
    Tick,
    Timing,
    drift_allowance,
    ttl_granted,
)
from electctl.errors import UnsafeTiming
from electctl_redis.traits import TRAITS

# One missed renewal ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Miss:
    """Renewal ``index`` brings no answer: refused at once, or only after the time-out."""

    index: int
    at_once: bool


def run_terms(
    timing: Timing, round_trips: list[float], miss: Miss | None, lease_class: type[Lease] = Lease
) -> list[Instruction]:
    """Run a leadership event by event, as :class:`electctl.core.leadership.Leadership` does."""
    since = 1000.0
    lease = lease_class(timing, since=since, ttl=timing.ttl)
    confirmed = since  # the send time that the next confirmation is worth, with a lag of 1
    at = since + round_trips[0]
    log = lease.start(at)
    replies: list[tuple[float, Event]] = []
    fresh = list(log)
    for _ in range(40 * len(round_trips)):
        for instruction in fresh:
            if isinstance(instruction, SendRenewal):
                seq, trip = instruction.seq, round_trips[instruction.seq % len(round_trips)]
                if miss is not None and seq == miss.index:
                    pause = 0.0 if miss.at_once else timing.request_timeout
                    replies.append((at + pause, RenewalUnknown(seq, "lost")))
                else:
                    worth, confirmed = (confirmed, at) if timing.proof_lag else (at, at)
                    replies.append((at + trip, Renewed(seq, worth, timing.ttl)))
                if seq > len(round_trips):
                    return log
        due = lease.wake_at()
        if due is None:
            return log
        if replies and replies[0][0] <= due:
            at, event = replies.pop(0)
        else:
            at, event = due, Tick()
        fresh = lease.handle(event, at)
        log += fresh
    raise AssertionError("it made no progress")


def plans() -> st.SearchStrategy[Timing]:
    """Every plan that is not refused, for random TTL, grace and scheme."""

    def build(ttl: float, grace: float | None, lag: int, more: int, slow: float) -> Timing | None:
        try:
            plain = Timing.plan(ttl, grace, renewals=3 + lag + more, proof_lag=lag)
            timeout = plain.request_timeout * slow
            return Timing.plan(
                ttl, grace, renewals=3 + lag + more, proof_lag=lag, fixed_timeout=timeout
            )
        except UnsafeTiming:
            return None

    plan = st.builds(
        build,
        st.floats(0.1, 120),
        st.none() | st.floats(0, 60),
        st.sampled_from([0, 1]),
        st.integers(0, 2),
        st.sampled_from([0.2, 1.0, 1.4]),
    )
    return plan.filter(lambda timing: timing is not None)  # type: ignore[return-value]


@given(
    plans(),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=10),
    st.integers(1, 8),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_one_missed_renewal_is_survived_whichever_it_is(
    timing: Timing, shares: list[float], index: int, at_once: bool
) -> None:
    # A round trip longer than the interval delays the next renewal, too: no plan reckons with that.
    limit = min(timing.room - timing.drift, timing.request_timeout, timing.renew_interval)
    trips = [limit * share * (1 - 1e-9) for share in shares]
    log = run_terms(timing, trips, Miss(min(index, len(trips) - 2), at_once))
    assert any(isinstance(i, RenewalFailed) for i in log)
    assert not any(isinstance(i, StepDown | Ended) for i in log)


def test_the_room_is_exact() -> None:
    """A round trip longer than the room, after the one that was missed, is one too many."""
    timing = Timing.plan(10.0)
    limit = timing.room - timing.drift
    slow = [0.0, 0.0, 0.0, limit + 0.01, 0.0, 0.0]
    assert any(isinstance(i, StepDown) for i in run_terms(timing, slow, Miss(2, False)))
    slow[3] = limit - 0.01
    assert not any(isinstance(i, StepDown) for i in run_terms(timing, slow, Miss(2, False)))


# The plan ----------------------------------------------------------------------------------------


@given(st.floats(), st.none() | st.floats(), st.integers(0, 7), st.integers(0, 2))
def test_a_plan_is_kept_or_refused_by_name(
    ttl: float, grace: float | None, renewals: int, lag: int
) -> None:
    try:
        timing = Timing.plan(ttl, grace, renewals=renewals, proof_lag=lag)
    except UnsafeTiming as error:
        refusal: UnsafeTiming | None = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.exit_code == 78
        assert refusal.hint
        named = ("is not a positive time", "is not a time", "cannot survive one", "is unsafe:")
        assert any(text in refusal.message for text in named)
        return
    assert 0 < timing.renew_interval < timing.ttl
    assert 0 <= timing.grace < timing.ttl
    assert timing.room > timing.drift > 0


@given(st.floats(0.001, 1e4), st.none() | st.floats(0, 1e4))
def test_only_unsafe_timing_is_refused(ttl: float, grace: float | None) -> None:
    """The inequality, written down a second time from DESIGN's rule 3 alone."""
    kept = min(5.0, ttl / 3) if grace is None else grace
    interval = (ttl - kept - 0.1) / 3
    slack = interval - (0.01 * ttl + 0.05)
    assume(abs(slack) > 1e-9)
    if slack > 0:
        assert Timing.plan(ttl, grace).renew_interval == pytest.approx(interval)
    else:
        with pytest.raises(UnsafeTiming, match=r"must exceed the drift allowance"):
            Timing.plan(ttl, grace)


def test_the_default_plan_is_the_one_that_the_documentation_gives() -> None:
    timing = Timing.plan(10.0)
    assert timing.grace == pytest.approx(10 / 3)
    assert timing.renew_interval == pytest.approx((10 - 10 / 3 - 0.1) / 3)
    lease = Lease(timing, since=100.0, ttl=10.0)
    assert lease.valid_until == pytest.approx(110 - 0.1 - 0.05)
    assert lease.kill_at == pytest.approx(lease.valid_until - 0.1)
    assert lease.terminate_at == pytest.approx(lease.kill_at - 10 / 3)


@given(st.floats(1, 100), st.floats(0, 0.99), st.booleans())
def test_a_store_that_says_by_itself_that_the_grant_is_gone_ends_it_at_once(
    ttl: float, part: float, asked: bool
) -> None:
    lease = Lease(Timing.plan(ttl), since=5.0, ttl=ttl)
    lease.start(5.0)
    at = 5 + part * (lease.valid_until - 5)
    if asked:
        lease.handle(Tick(), at)
    out = lease.handle(Superseded("deleted"), at)
    assert out[-1] == Ended("deleted")
    assert lease.remaining(at) == 0
    assert lease.wake_at() is None
    assert not any(isinstance(each, SendRenewal) for each in out)
    for late in (Superseded("expired"), Renewed(1, at, ttl), Released()):
        assert lease.handle(late, at) == []
    assert lease.reason in ("deleted", "expired")  # the latter where it was stepping down


CORE = replace(TRAITS, ttl_step=0)
SCHEME = replace(CORE, drift="scheme")


@given(st.floats(1, 1e4), st.floats(0.7, 1))
def test_a_scheme_that_takes_drift_off_itself_does_not_pay_twice(ttl: float, part: float) -> None:
    ours, own = Timing.of(CORE, ttl), Timing.of(SCHEME, ttl)
    assert own == ours, "a plan reckons with the allowance, whoever takes it off"
    left = ttl - drift_allowance(ttl)
    granted = ttl_granted(SCHEME, left, ttl)
    assert granted == pytest.approx(ttl)
    assert own.granted(granted, None).renew_interval == pytest.approx(ours.renew_interval)
    by_core, by_scheme = Lease(ours, since=5, ttl=ttl), Lease(own, since=5, ttl=granted)
    assert by_scheme.valid_until == pytest.approx(5 + left)
    assert by_scheme.valid_until == pytest.approx(by_core.valid_until)
    renewed = ttl * part
    renewed_left = renewed - drift_allowance(renewed)
    for lease, event in (
        (by_core, Renewed(1, 6, renewed)),
        (by_scheme, Renewed(1, 6, ttl_granted(SCHEME, renewed_left, ttl))),
    ):
        lease.start(5.0)
        lease.handle(Tick(), 5 + ours.renew_interval)
        lease.handle(event, 6)
    assert by_scheme.valid_until == pytest.approx(by_core.valid_until)


@given(st.floats(1, 1e4), st.floats(0, 1, exclude_max=True))
def test_what_a_scheme_takes_off_beyond_our_allowance_stays_off(ttl: float, more: float) -> None:
    left = (ttl - drift_allowance(ttl)) * (1 - more)
    lease = Lease(Timing.plan(ttl), since=5, ttl=ttl_granted(SCHEME, left, ttl))
    assert lease.valid_until == pytest.approx(5 + left)


@given(st.floats(1, 1e4), st.floats(0, 2))
def test_a_scheme_that_takes_off_less_than_our_allowance_gains_nothing(
    ttl: float, less: float
) -> None:
    """Down to nothing, which is the defect, and to a store that granted more than was asked."""
    left = ttl - drift_allowance(ttl) + less * drift_allowance(ttl)
    lease = Lease(Timing.plan(ttl), since=5, ttl=ttl_granted(SCHEME, left, ttl))
    assert lease.valid_until <= 5 + ttl - drift_allowance(ttl)


def test_a_plan_is_refused_alike_whoever_takes_the_allowance_off() -> None:
    for traits in (CORE, SCHEME):
        with pytest.raises(UnsafeTiming, match=r"must exceed the drift allowance"):
            Timing.of(traits, 0.35)


def test_a_request_time_out_of_a_longer_ttl_must_fit_the_grant() -> None:
    asked = Timing.plan(30.0)
    with pytest.raises(UnsafeTiming, match="drift allowance"):
        Timing.plan(10.0, fixed_timeout=asked.request_timeout)


# Single cases ------------------------------------------------------------------------------------


def held(ttl: float = 9.0, since: float = 0.0, known: float = 0.0) -> Lease:
    lease = Lease(Timing.plan(ttl), since=since, ttl=ttl)
    lease.start(known)
    return lease


def send_one(lease: Lease) -> tuple[int, float]:
    due = lease.wake_at()
    assert due is not None
    (instruction,) = lease.handle(Tick(), due)
    assert isinstance(instruction, SendRenewal)
    return instruction.seq, due


@pytest.mark.parametrize(
    ("known", "expected"),
    [(0.0, [Extended]), (2.5, [Extended, SendRenewal]), (7.0, [Extended, StepDown])],
)
def test_a_grant_known_late_is_renewed_at_once_or_not_taken(
    known: float, expected: list[type[Instruction]]
) -> None:
    lease = Lease(Timing.plan(9.0), since=0.0, ttl=9.0)
    assert [type(i) for i in lease.start(known)] == expected


def test_a_grant_known_after_its_end_never_leads() -> None:
    lease = Lease(Timing.plan(9.0), since=0.0, ttl=9.0)
    assert lease.start(8.9)[-1] == Ended("expired")
    assert lease.remaining(8.9) == 0


def test_a_confirmation_after_the_deadline_is_late_however_early_it_arrived() -> None:
    lease = held()
    seq, sent = send_one(lease)
    before = lease.valid_until
    out = lease.handle(Renewed(seq, sent, 9.0), lease.terminate_at)
    assert out == [StepDown("expired")]
    assert lease.valid_until == before


def test_a_reply_to_a_renewal_given_up_extends_nothing() -> None:
    lease = held()
    seq, sent = send_one(lease)
    lease.handle(RenewalUnknown(seq), sent + 0.1)
    second, _ = send_one(lease)
    before = lease.valid_until
    assert lease.handle(Renewed(seq, sent, 9.0), sent + 0.9) == []
    assert lease.valid_until == before
    assert second == seq + 1


def test_a_renewal_that_failed_at_once_is_tried_again_after_a_pause() -> None:
    lease = held()
    seq, sent = send_one(lease)
    assert lease.handle(RenewalUnknown(seq, "refused"), sent) == [RenewalFailed("refused")]
    assert lease.wake_at() == pytest.approx(sent + lease.timing.renew_interval / 4)


def test_a_renewal_that_timed_out_is_tried_again_at_once() -> None:
    lease = held()
    seq, sent = send_one(lease)
    out = lease.handle(RenewalUnknown(seq), sent + lease.timing.request_timeout)
    assert out == [RenewalFailed(""), SendRenewal(seq + 1)]


def test_a_smaller_grant_moves_the_deadlines_back_and_is_renewed_sooner() -> None:
    lease = held()
    seq, sent = send_one(lease)
    before = lease.valid_until
    (out,) = lease.handle(Renewed(seq, sent, 6.0), sent + 0.01)
    assert isinstance(out, Extended)
    assert out.valid_until == pytest.approx(sent + 6 - drift_allowance(6.0))
    assert out.valid_until < before
    due = lease.wake_at()
    assert due is not None
    assert due == pytest.approx(sent + (6.0 - lease.timing.grace - MARGIN) / 3)
    assert due < out.terminate_at


def test_a_grant_too_small_to_act_in_steps_down() -> None:
    lease = held()
    seq, sent = send_one(lease)
    out = lease.handle(Renewed(seq, sent, 3.0), sent + 0.01)
    assert [type(i) for i in out] == [Extended, StepDown]


def test_a_proof_older_than_the_one_we_have_shortens_nothing() -> None:
    lease = held(since=5.0, known=5.0)
    seq, sent = send_one(lease)
    before = lease.valid_until
    assert lease.handle(Renewed(seq, 4.0, 9.0), sent + 0.01) == []
    assert lease.valid_until == before


@pytest.mark.parametrize("given_up", [False, True])
def test_a_refusal_ends_it_also_of_a_renewal_given_up(given_up: bool) -> None:
    lease = held()
    seq, sent = send_one(lease)
    if given_up:
        lease.handle(RenewalUnknown(seq), sent)
        send_one(lease)
    assert lease.handle(RenewalRefused(seq), sent + 0.9) == [Ended("deleted")]
    assert lease.remaining(sent + 0.9) == 0


def test_a_refusal_of_a_renewal_never_sent_is_nobody_s() -> None:
    lease = held()
    assert lease.handle(RenewalRefused(1), 0.1) == []
    assert lease.state == "held"


def test_a_stop_is_passed_on_once_and_leadership_goes_on() -> None:
    lease = held()
    for expected in (1, 0):
        seq, sent = send_one(lease)
        out = lease.handle(Renewed(seq, sent, 9.0, stop_requested=True), sent)
        assert out.count(StopRequested()) == expected
    assert lease.state == "held"


def test_released_ends_it_from_every_state() -> None:
    """Letting go while stepping down does not hide that no renewal came."""
    for at, reason in ((0.0, "released"), (7.0, "expired")):
        lease = held()
        lease.handle(Tick(), at)
        assert lease.handle(Released(), at) == [Ended("released")]
        assert lease.reason == reason


def test_nothing_happens_after_the_end() -> None:
    lease = held()
    seq, sent = send_one(lease)
    lease.handle(Released(), sent)
    for event in (Tick(), Released(), Renewed(seq, sent, 9.0), RenewalRefused(seq)):
        assert lease.handle(event, sent + 1) == []


# Planted bugs ------------------------------------------------------------------------------------


class NoSecondTry(Lease):
    """Waits a whole interval after a renewal that timed out."""

    def _take(self, event: Event, now: float) -> list[Instruction]:
        out = super()._take(event, now)
        if isinstance(event, RenewalUnknown):
            self._next_renewal = now + self.timing.renew_interval
        return out


class GivesUpAtOnce(Lease):
    """Steps down at the first renewal that fails."""

    def _take(self, event: Event, now: float) -> list[Instruction]:
        out = super()._take(event, now)
        return [*out, *self._end("expired")] if isinstance(event, RenewalUnknown) else out


@pytest.mark.parametrize("mutant", [NoSecondTry, GivesUpAtOnce])
def test_the_missed_renewal_finds_a_planted_bug(mutant: type[Lease]) -> None:
    timing = Timing.plan(9.0)
    trips = [0.8 * (timing.room - timing.drift)] * 8
    found = [
        any(isinstance(i, StepDown | Ended) for i in run_terms(timing, trips, miss, mutant))
        for miss in itertools.starmap(Miss, itertools.product(range(1, 6), [False, True]))
    ]
    assert any(found)


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.5, 1.5])
def test_the_margin_is_what_sigkill_comes_before_the_end(margin: float) -> None:
    timing = Timing.plan(10.0, 2.0, margin=margin)
    found = Lease(timing, since=100.0, ttl=10.0)
    assert found.valid_until - found.kill_at == pytest.approx(margin)
    assert found.kill_at - found.terminate_at == pytest.approx(2.0)
    assert timing.renew_interval == pytest.approx((10.0 - 2.0 - margin) / 3)


@pytest.mark.parametrize("margin", [0.0, -0.1, float("inf"), float("nan")])
def test_a_margin_is_a_positive_time(margin: float) -> None:
    with pytest.raises(UnsafeTiming, match="margin"):
        Timing.plan(10.0, margin=margin)


def test_the_largest_margin_leaves_room_for_a_second_renewal() -> None:
    """By the same inequality as the grace: what is left must exceed the drift allowance."""
    largest = 10.0 - 2.0 - 3 * 0.15  # a third of (ttl - grace - margin) is the room
    Timing.plan(10.0, 2.0, margin=largest - 0.01)
    with pytest.raises(UnsafeTiming, match=r"ttl - grace - 7\.5"):
        Timing.plan(10.0, 2.0, margin=largest + 0.001)
