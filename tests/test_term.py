"""The machine of one term: what it must never do, on random input; hooks, marks, the least hold."""

from __future__ import annotations

import signal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl.campaign import orders
from electctl.campaign.channel import (
    CannotStart,
    Exited,
    GuardianDied,
    Started,
    Stuck,
    TreeGone,
)
from electctl.campaign.stages import HEARD
from electctl.campaign.term import ANSWER_LIMIT, HOOK_LIMIT, SAME_REQUEST
from electctl.core import lease
from electctl.errors import (
    ElectctlError,
    InternalError,
    LeadershipLost,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
)
from tests.terms import GRACE, TTL, Checked, extended

ERRORS: list[ElectctlError] = [
    NotElected("no"),
    Unreachable("gone"),
    Refused("who are you"),
    OutcomeUnknown("?"),
    LeadershipLost("stale"),
]

plans = st.builds(
    orders.Plan,
    command=st.booleans(),
    on_elected=st.booleans(),
    on_lost=st.booleans(),
    once=st.booleans(),
    min_hold=st.sampled_from([0.0, 3.0]),
    wait=st.sampled_from([None, 0.0, 5.0]),
    stop=st.sampled_from(["main", "all"]),
    stop_timeout=st.sampled_from([None, 0.2, 60.0]),
    max_run=st.sampled_from([None, 1.0]),
)
answers = st.one_of(st.none(), st.sampled_from(ERRORS))
events: st.SearchStrategy[orders.Event] = st.one_of(
    st.just(orders.Elected(7, GRACE)),
    st.builds(orders.AttemptFailed, st.sampled_from(ERRORS)),
    st.builds(orders.Signalled, st.sampled_from([signal.SIGINT, signal.SIGTERM])),
    st.just(orders.Relayed(signal.SIGUSR1)),
    st.just(orders.Crashed(InternalError("a bug"))),
    st.builds(orders.MarkRead, st.sampled_from(["", "done"]), answers),
    st.builds(orders.MarkWritten, answers),
    st.builds(orders.GivenBack, answers),
    st.just(orders.HookEnded()),
    st.just(lease.Extended(103.0, 102.0, 102.5, 100.5)),
    st.just(lease.StopRequested()),
    st.just(lease.StepDown("expired")),
    st.builds(lease.Ended, st.sampled_from(["expired", "deleted", "released"])),
    st.just(lease.RenewalFailed("no answer")),
    st.just(Started(42)),
    st.just(CannotStart(127, "x: command not found")),
    st.just(CannotStart(126, "x: cannot fork", transient=True)),
    st.just(Stuck(1)),
    st.builds(Exited, st.sampled_from([0, 1, 143]), st.just(0)),
    st.builds(TreeGone, st.just(101.0), st.sampled_from([0, 2])),
    st.just(GuardianDied()),
    st.just(lease.Tick()),
)

#: Without what is worse than any exit code.
unbroken = events.filter(lambda event: not isinstance(event, orders.Crashed | Stuck))


class TestWhateverHappens:
    @given(plans, st.booleans(), st.lists(st.tuples(events, st.sampled_from([0.0, 0.1, 4.0]))))
    def test_never_released_over_a_living_tree_and_always_ends(
        self, plan: orders.Plan, elected: bool, steps: list[tuple[orders.Event, float]]
    ) -> None:
        checked = Checked(plan)
        if elected:
            checked.elect()
        for event, after in steps:
            checked.feed(event, after=after)
        # Told to stop twice, with nobody answering, it ends all the same.
        checked.feed(orders.Signalled(signal.SIGTERM))
        checked.feed(orders.Signalled(signal.SIGTERM), after=SAME_REQUEST)
        began = checked.now
        checked.tick_to_end()
        assert checked.finish is not None
        assert checked.now - began <= TTL + 4.0 + HOOK_LIMIT + 3 * ANSWER_LIMIT
        assert 0 <= checked.finish.exit_code <= 255

    @given(plans, st.lists(events, max_size=30))
    def test_crash_of_ours_is_said_whatever_comes_before_and_after(
        self, plan: orders.Plan, steps: list[orders.Event]
    ) -> None:
        checked = Checked(plan)
        for number, event in enumerate([*steps, orders.Crashed(InternalError("a bug")), *steps]):
            if number == len(steps) and checked.finish is not None:
                return  # over before
            checked.feed(event)
        checked.feed(TreeGone(checked.now), orders.GivenBack(), orders.HookEnded())
        checked.tick_to_end()
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("internal_error", 70)
        assert checked.finish.again == "no"

    def test_a_crash_after_what_would_pass_is_no_cause_to_go_on(self) -> None:
        checked = Checked(orders.Plan(command=True))
        checked.elect()
        checked.feed(CannotStart(126, "x: cannot fork", transient=True))
        checked.feed(orders.Crashed(InternalError("a bug")), TreeGone(checked.now))
        checked.feed(orders.GivenBack(), orders.HookEnded())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.again) == ("internal_error", "no")

    @given(plans, st.lists(events, max_size=30))
    def test_leadership_that_was_won_is_given_back_unless_something_cannot_be_killed(
        self, plan: orders.Plan, steps: list[orders.Event]
    ) -> None:
        checked = Checked(plan)
        checked.elect()
        for event in steps:
            checked.feed(event)
        checked.feed(orders.Signalled(signal.SIGTERM), TreeGone(checked.now))
        checked.feed(orders.MarkWritten(), orders.GivenBack(), orders.HookEnded())
        stuck = checked.term.ending.lost_reason == "stuck"
        assert checked.released == (0 if stuck else 1)

    @given(plans, st.lists(events, max_size=12))
    def test_what_ended_says_nothing_more(
        self, plan: orders.Plan, late: list[orders.Event]
    ) -> None:
        checked = Checked(plan)
        checked.feed(orders.AttemptFailed(NotElected("no")))
        for event in late:
            assert checked.feed(event) == []

    def test_every_event_has_its_stages(self) -> None:
        """Also those that a later change adds: the table is read without a default."""
        assert set(HEARD) == set(get_args(orders.Event))

    @given(
        st.lists(events.filter(lambda e: not isinstance(e, orders.Crashed | Stuck)), max_size=30)
    )
    def test_command_that_ended_by_itself_in_time_keeps_its_exit_code(
        self, later: list[orders.Event]
    ) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(Exited(5, 0))
        for event in later:
            checked.feed(event)
        checked.feed(TreeGone(checked.now), orders.GivenBack(), orders.HookEnded())
        checked.tick_to_end()
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("completed", 5)


class TestHooks:
    def test_on_elected_runs_first_and_its_failure_is_only_a_warning(self) -> None:
        checked = Checked(orders.Plan(on_elected=True))
        checked.elect()
        assert checked.said[-1] == orders.StartJob("on_elected")
        checked.feed(Started(41), Exited(1, 0))
        assert checked.told()[-1] == "warning"
        assert checked.feed(TreeGone(checked.now)) == [orders.StartJob("command")]
        checked.end(0)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 0, again="yes")

    def test_told_to_stop_during_on_elected_runs_no_command(self) -> None:
        checked = Checked(orders.Plan(on_elected=True))
        checked.elect()
        checked.feed(Started(41), orders.Signalled(signal.SIGTERM))
        checked.end(143)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("interrupted", 143)
        assert checked.term.ending.command_exit is None
        assert checked.term.margin is None

    def test_second_signal_cuts_on_lost_short(self) -> None:
        checked = Checked(orders.Plan(command=False, on_lost=True))
        checked.elect()
        checked.feed(lease.Ended("deleted"), orders.GivenBack())
        checked.feed(orders.Signalled(signal.SIGINT))
        again = checked.feed(orders.Signalled(signal.SIGINT), after=SAME_REQUEST)
        assert again == [orders.StopOnLost()]


class TestOnce:
    def begin(self, **more: float) -> Checked:
        checked = Checked(orders.Plan(once=True, **more))  # type: ignore[arg-type]
        checked.elect()
        assert checked.said[-1] == orders.ReadMark()
        return checked

    def test_done_already(self) -> None:
        checked = self.begin(min_hold=60.0)
        checked.feed(orders.MarkRead("done by a"), orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 0, "done by a", again="yes")
        assert checked.term.ending.command_exit is None

    @pytest.mark.parametrize(
        ("error", "outcome", "code"),
        [
            (None, "completed", 0),
            (LeadershipLost("stale"), "lost", 79),
            (OutcomeUnknown("?"), "completed", 3),
        ],
    )
    def test_mark_after_success(self, error: ElectctlError | None, outcome: str, code: int) -> None:
        checked = self.begin()
        checked.feed(orders.MarkRead())
        checked.feed(Started(42), Exited(0, 0))
        assert checked.feed(TreeGone(checked.now)) == [
            orders.Tell("command_gone", {"margin_ms": 2000, "left": 0}, checked.now),
            orders.WriteMark(),
        ]
        checked.feed(orders.MarkWritten(error), orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == (outcome, code)

    def test_no_mark_after_failure_nor_after_being_told_to_stop(self) -> None:
        failed, stopped = self.begin(), self.begin()
        for checked in (failed, stopped):
            checked.feed(orders.MarkRead(), Started(42))
        failed.end(1)
        stopped.feed(orders.Signalled(signal.SIGTERM))
        stopped.end(0)
        for checked in (failed, stopped):
            assert orders.WriteMark() not in checked.said
            assert checked.released == 1


class TestMinHold:
    def begin(self) -> Checked:
        checked = Checked(orders.Plan(min_hold=3.0))
        checked.run()
        checked.feed(extended(checked.now + 60))
        checked.end(0)
        assert checked.released == 0
        return checked

    def test_holds_since_election(self) -> None:
        checked = self.begin()
        assert checked.term.wake_at() == pytest.approx(103.0)
        assert checked.feed(lease.Tick(), after=3.0) == [orders.Release()]

    @pytest.mark.parametrize(
        "event",
        [orders.Signalled(signal.SIGTERM), lease.StopRequested(), lease.Ended("deleted")],
    )
    def test_cut_short_without_changing_the_exit_code(self, event: orders.Event) -> None:
        checked = self.begin()
        checked.feed(event, orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 0, again="yes")
