"""The machine of one term: what it must never do, on random input; how each way of ending ends."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl import lease
from electctl.campaign import orders
from electctl.campaign.channel import CannotStart, Exited, GuardianDied, Started, TreeGone
from electctl.campaign.keep import FIRST_PAUSE, LONG_TERM, MAX_PAUSE, Keep
from electctl.campaign.term import ANSWER_LIMIT, SAME_REQUEST, STUCK_LIMIT, Term
from electctl.errors import (
    DuplicateId,
    ElectctlError,
    LeadershipLost,
    MissingDependency,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
)

GRACE = 0.5
TTL = 2.0

ENDS = (orders.Signalled, lease.StopRequested, lease.StepDown)


def extended(now: float) -> lease.Extended:
    return lease.Extended(now + TTL, now + TTL - GRACE - 0.1, now + TTL - 0.1, now)


@dataclass
class Checked:
    """A term whose every step is held against what must never happen."""

    plan: orders.Plan
    now: float = 100.0
    tree: bool = False
    released: int = 0
    end_due: bool = False
    said: list[orders.Instruction] = field(default_factory=list)
    finish: orders.Finish | None = None

    def __post_init__(self) -> None:
        self.term = Term(self.plan)
        self.note(self.term.begin(self.now))

    def feed(self, *events: orders.Event, after: float = 0.0) -> list[orders.Instruction]:
        """Feed events; what the last one led to."""
        said: list[orders.Instruction] = []
        for event in events:
            self.now += after
            self.before(event)
            said = self.term.handle(event, self.now)
            self.note(said)
        return said

    def before(self, event: orders.Event) -> None:
        if isinstance(event, TreeGone | CannotStart):
            self.tree = False
        lost = isinstance(event, lease.Ended) and event.reason != "released"
        if lost or isinstance(event, ENDS):
            self.end_due = True

    def note(self, said: Sequence[orders.Instruction]) -> None:
        for instruction in said:
            assert self.finish is None, f"{instruction} after the end"
            match instruction:
                case orders.StartJob():
                    assert not self.tree, "two jobs at once"
                    assert not self.end_due, "started although an end was due"
                    assert not self.released, "started after the release"
                    self.tree = True
                case orders.Release():
                    assert not self.tree, "released while a process may live"
                    self.released += 1
                    assert self.released == 1, "released twice"
                case orders.Finish():
                    self.finish = instruction
            self.said.append(instruction)
        assert self.tree == self.term.tree_alive or self.finish is not None
        wake = self.term.wake_at()
        assert wake is None or self.finish is None
        assert not (self.end_due and self.term.stage == "leading"), "it leads on"

    def told(self) -> list[str]:
        return [tell.event for tell in self.said if isinstance(tell, orders.Tell)]

    def elect(self) -> None:
        self.feed(extended(self.now), orders.Elected(7, GRACE))

    def run(self) -> None:
        """Elect, and have the command run."""
        self.elect()
        self.feed(Started(42))

    def end(self, status: int) -> None:
        self.feed(Exited(status, 0), TreeGone(self.now))

    def tick_to_end(self) -> None:
        """Nobody answers any more: time alone, and the limit of the on-lost hook, end it."""
        for _ in range(20):
            if self.finish is not None:
                return
            wake = self.term.wake_at()
            if wake is None:
                self.feed(orders.HookEnded())
            else:
                self.now = max(self.now, wake)
                self.feed(lease.Tick())
        raise AssertionError(f"it does not end: {self.term.stage}")


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
)
answers = st.one_of(st.none(), st.sampled_from(ERRORS))
events: st.SearchStrategy[orders.Event] = st.one_of(
    st.just(orders.Elected(7, GRACE)),
    st.builds(orders.AttemptFailed, st.sampled_from(ERRORS)),
    st.builds(orders.Signalled, st.sampled_from([signal.SIGINT, signal.SIGTERM])),
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
    st.builds(Exited, st.sampled_from([0, 1, 143]), st.just(0)),
    st.just(TreeGone(101.0)),
    st.just(GuardianDied()),
    st.just(lease.Tick()),
)


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
        assert checked.now - began <= GRACE + STUCK_LIMIT + TTL + 4.0 + 3 * ANSWER_LIMIT
        assert 0 <= checked.finish.exit_code <= 255

    @given(plans, st.lists(events, max_size=12))
    def test_what_ended_says_nothing_more(
        self, plan: orders.Plan, late: list[orders.Event]
    ) -> None:
        checked = Checked(plan)
        checked.feed(orders.AttemptFailed(NotElected("no")))
        for event in late:
            assert checked.feed(event) == []

    @given(st.lists(events, max_size=30))
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


class TestHowItEnds:
    def test_completed(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.end(3)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 3)
        assert checked.told() == [
            "campaigning",
            "elected",
            "command_started",
            "command_exited",
            "command_gone",
            "released",
        ]
        assert checked.term.margin == pytest.approx(TTL)

    @pytest.mark.parametrize(
        ("error", "outcome", "code"),
        [
            (NotElected("no"), "not_elected", 9),
            (Unreachable("gone"), "unreachable", 69),
            (MissingDependency("none"), "unreachable", 69),
            (OutcomeUnknown("?"), "unreachable", 69),
            (Refused("who"), "refused", 77),
            (DuplicateId("twice"), "not_elected", 78),
        ],
    )
    def test_never_elected(self, error: ElectctlError, outcome: str, code: int) -> None:
        checked = Checked(orders.Plan(conflict_exit=9))
        checked.feed(orders.AttemptFailed(error))
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == (outcome, code)
        assert checked.finish.message == error.message

    def test_told_to_stop_while_waiting(self) -> None:
        checked = Checked(orders.Plan())
        assert checked.feed(orders.Signalled(signal.SIGINT)) == [orders.Cancel()]
        checked.feed(orders.AttemptFailed(NotElected("cancelled")))
        assert checked.finish == orders.Finish("interrupted", 130)

    def test_elected_just_after_being_told_to_stop(self) -> None:
        checked = Checked(orders.Plan())
        checked.feed(orders.Signalled(signal.SIGTERM))
        checked.elect()
        assert checked.released == 1
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("interrupted", 143)

    @pytest.mark.parametrize("command", [False, True])
    @pytest.mark.parametrize(
        ("over", "reason"),
        [
            (lease.Ended("expired"), "expired"),
            (lease.StepDown("expired"), "expired"),
            (lease.Ended("deleted"), "deleted"),
            (lease.StopRequested(), "evicted"),
        ],
    )
    def test_over_before_it_is_known_that_we_lead(
        self, command: bool, over: lease.Instruction, reason: str
    ) -> None:
        """Stopped or starved between the store's answer and the word of it."""
        checked = Checked(orders.Plan(command=command))
        checked.feed(extended(checked.now), over)
        assert checked.feed(orders.Elected(7, GRACE))[-1] == orders.Release()
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert checked.term.lost_reason == reason

    def test_told_to_stop_without_a_command_is_success(self) -> None:
        checked = Checked(orders.Plan(command=False))
        checked.elect()
        checked.feed(orders.Signalled(signal.SIGTERM), orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 0)

    def test_signal_is_forwarded_then_kills_after_grace(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        assert checked.feed(orders.Signalled(signal.SIGINT)) == [orders.Forward(signal.SIGINT)]
        assert checked.feed(lease.Tick(), after=GRACE / 2) == []
        assert checked.feed(lease.Tick(), after=GRACE) == [orders.KillTree()]
        checked.end(137)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("interrupted", 137)

    def test_second_signal_kills_at_once(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(orders.Signalled(signal.SIGINT))
        again = checked.feed(orders.Signalled(signal.SIGINT), after=SAME_REQUEST)
        assert again == [orders.KillTree()]

    def test_signals_on_the_heels_of_the_first_leave_the_command_its_grace(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(orders.Signalled(signal.SIGTERM))
        assert checked.feed(orders.Signalled(signal.SIGTERM)) == []
        hangup = checked.feed(orders.Signalled(signal.SIGHUP), after=SAME_REQUEST / 2)
        assert hangup == [orders.Forward(signal.SIGHUP)]
        assert checked.feed(lease.Tick(), after=GRACE - SAME_REQUEST / 2) == [orders.KillTree()]

    def test_signal_does_not_stop_the_renewal(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(orders.Signalled(signal.SIGTERM))
        later = extended(checked.now + 1)
        assert orders.Feed(later.terminate_at, later.kill_at) in checked.feed(later)

    @pytest.mark.parametrize(("kill", "reason"), [(False, "expired"), (True, "deleted")])
    def test_lost_while_the_command_runs(self, kill: bool, reason: lease.Reason) -> None:
        checked = Checked(orders.Plan(on_lost=True))
        checked.run()
        said = checked.feed(lease.Ended(reason) if kill else lease.StepDown(reason))
        assert (orders.KillTree() if kill else orders.StopTree(GRACE)) in said
        checked.end(0)
        assert checked.feed(orders.GivenBack()) == [orders.RunOnLost(reason)]
        checked.feed(orders.HookEnded())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert "released" not in checked.told()
        assert checked.term.command_exit == 0

    def test_lost_while_stopping_on_a_signal(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(orders.Signalled(signal.SIGTERM), lease.StepDown("expired"))
        checked.end(143)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79

    def test_evicted(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        assert checked.feed(lease.StopRequested()) == [orders.StopTree(GRACE)]
        assert "lost" not in checked.told()
        checked.end(143)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79
        assert checked.term.lost_reason == "evicted"
        assert checked.told()[-2:] == ["lost", "released"]

    def test_resumed_after_a_stop_that_outlasted_the_lease(self) -> None:
        """The guardian's word that the command was killed comes before the lease's end is seen."""
        checked = Checked(orders.Plan())
        checked.run()
        at = checked.now + TTL - 0.1
        checked.feed(Exited(137, 9), after=60.0)
        checked.feed(TreeGone(at), lease.Ended("expired"), orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert checked.term.margin == pytest.approx(0.1)

    def test_deleted_grant_may_have_gone_right_after_it_was_confirmed(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(extended(checked.now))
        checked.feed(lease.Ended("deleted"), after=0.5)
        checked.feed(Exited(137, 9), TreeGone(checked.now + 0.02))
        assert checked.term.margin == pytest.approx(-0.52)

    def test_terminated_under_a_deadline_that_had_been_put_off_too_late(self) -> None:
        """The guardian stopped the command before it heard of the renewal."""
        checked = Checked(orders.Plan(once=True))
        checked.elect()
        checked.feed(orders.MarkRead(), Started(42), extended(checked.now + 60))
        checked.feed(Exited(0, 0, overdue=True), TreeGone(checked.now), orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert orders.WriteMark() not in checked.said

    def test_guardian_died_while_the_command_ran(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        assert orders.KillTree() in checked.feed(GuardianDied())
        checked.feed(TreeGone(checked.now), orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79
        assert checked.term.lost_reason == "guardian_died"

    @pytest.mark.parametrize("elected", [False, True])
    def test_guardian_died_while_waiting(self, elected: bool) -> None:
        """It withdraws, so as to keep nobody from leading who can run the command."""
        checked = Checked(orders.Plan())
        assert checked.feed(GuardianDied()) == [orders.Cancel()]
        if elected:
            checked.elect()
            checked.feed(orders.GivenBack())
        else:
            checked.feed(orders.AttemptFailed(NotElected("cancelled")))
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("cannot_run", 126)

    @pytest.mark.parametrize("code", [126, 127])
    def test_command_cannot_be_run(self, code: int) -> None:
        checked = Checked(orders.Plan(min_hold=60.0))
        checked.elect()
        checked.feed(CannotStart(code, "x: no"), orders.GivenBack())
        assert checked.finish == orders.Finish("cannot_run", code, "x: no")

    def test_refused_start_after_the_deadline_is_a_loss(self) -> None:
        checked = Checked(orders.Plan())
        checked.elect()
        checked.feed(CannotStart(126, "x: its deadline has passed"), after=TTL)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79

    def test_tree_that_cannot_be_killed_is_not_released(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(lease.StepDown("expired"))
        checked.tick_to_end()
        assert checked.finish is not None
        assert checked.finish.exit_code == 79
        assert "cannot be killed" in checked.finish.message
        assert checked.released == 0
        assert checked.term.margin is None

    def test_release_that_the_store_does_not_answer(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.end(0)
        checked.feed(lease.Tick(), after=ANSWER_LIMIT)
        assert checked.finish == orders.Finish("completed", 0)
        assert checked.told()[-1] == "warning"


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
        assert checked.finish == orders.Finish("completed", 0)

    def test_told_to_stop_during_on_elected_runs_no_command(self) -> None:
        checked = Checked(orders.Plan(on_elected=True))
        checked.elect()
        checked.feed(Started(41), orders.Signalled(signal.SIGTERM))
        checked.end(143)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("interrupted", 143)
        assert checked.term.command_exit is None
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
        assert checked.finish == orders.Finish("completed", 0, "done by a")
        assert checked.term.command_exit is None

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
            orders.Tell("command_gone", {"margin_ms": 2000}, checked.now),
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
        assert checked.finish == orders.Finish("completed", 0)


class TestKeep:
    def test_pause_doubles_to_a_limit_and_starts_afresh_after_a_long_term(self) -> None:
        keep = Keep(True, None, lambda: 1.0)
        short = [keep.after("completed", 0.1, told_to_stop=False) for _ in range(9)]
        assert short[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
        assert short[-1] == MAX_PAUSE
        assert keep.after("lost", LONG_TERM, told_to_stop=False) == FIRST_PAUSE

    def test_ends(self) -> None:
        assert Keep(False, None, lambda: 1.0).after("completed", 1, told_to_stop=False) is None
        keep = Keep(True, 2, lambda: 1.0)
        assert keep.after("unreachable", None, told_to_stop=False) is None
        assert keep.after("lost", 1.0, told_to_stop=True) is None
        assert keep.after("lost", 1.0, told_to_stop=False) is None
        assert keep.terms == 2
        keep = Keep(True, None, lambda: 1.0)
        keep.after("lost", 1.0, told_to_stop=False)
        assert keep.after("unreachable", None, told_to_stop=False) is not None
        assert keep.after("not_elected", None, told_to_stop=False) is None
        assert keep.after("cannot_run", 1.0, told_to_stop=False) is None
