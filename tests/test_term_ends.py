"""The machine of one term: how each way of ending ends."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace

from electctl.campaign import orders
from electctl.campaign.channel import (
    CannotStart,
    Exited,
    GuardianDied,
    Started,
    Stuck,
    TreeGone,
)
from electctl.campaign.ending import failed
from electctl.campaign.job import Tree
from electctl.campaign.term import ANSWER_LIMIT, LATENESS, SAME_REQUEST, WITHDRAW_LIMIT, Term
from electctl.core import lease
from electctl.errors import (
    CannotRun,
    DuplicateId,
    ElectctlError,
    InternalError,
    MissingDependency,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
)
from tests.terms import GRACE, TTL, Checked, extended


class TestHowItEnds:
    def test_completed(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.end(3)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 3, again="yes")
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
        assert checked.term.ending.lost_reason == reason

    def test_told_to_stop_without_a_command_is_success(self) -> None:
        checked = Checked(orders.Plan(command=False))
        checked.elect()
        checked.feed(orders.Signalled(signal.SIGTERM), orders.GivenBack())
        assert checked.finish == orders.Finish("completed", 0)

    def test_signal_is_forwarded_and_the_command_has_its_grace(self) -> None:
        """The guardian kills what is left after it; the term has no timer for that."""
        checked = Checked(orders.Plan())
        checked.run()
        told = checked.feed(orders.Signalled(signal.SIGINT))
        assert told == [orders.StopTree(GRACE, "all", signal.SIGINT)]
        assert checked.term.wake_at() is None
        checked.end(137)
        checked.feed(orders.GivenBack())
        assert checked.finish == orders.Finish("interrupted", 137)

    def test_ordinary_stop_may_be_of_the_main_process_and_take_its_time(self) -> None:
        plan = orders.Plan(stop="main", stop_timeout=60.0)
        for event, signum in (
            (orders.Signalled(signal.SIGHUP), signal.SIGHUP),
            (lease.StopRequested(), signal.SIGTERM),
        ):
            checked = Checked(plan)
            checked.run()
            assert checked.feed(event) == [orders.StopTree(60.0, "main", signum)]
            # A loss has its own limit, and spares nobody.
            lost = checked.feed(lease.StepDown("expired"))
            assert orders.StopTree(GRACE, "all", signal.SIGTERM) in lost

    def test_on_elected_is_stopped_whole(self) -> None:
        checked = Checked(orders.Plan(on_elected=True, stop="main"))
        checked.elect()
        told = checked.feed(Started(41), orders.Signalled(signal.SIGTERM))
        assert told == [orders.StopTree(GRACE, "all", signal.SIGTERM)]

    def test_max_run(self) -> None:
        checked = Checked(orders.Plan(max_run=3.0, stop_timeout=60.0, once=True))
        checked.elect()
        checked.feed(orders.MarkRead(), Started(42), extended(checked.now + 60))
        assert checked.term.wake_at() == pytest.approx(checked.now + 3.0)
        told = checked.feed(lease.Tick(), after=3.0)
        assert told == [orders.StopTree(60.0, "all", signal.SIGTERM)]
        checked.end(0)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("interrupted", 124)
        assert "--max-run" in checked.finish.message
        assert checked.finish.again == "yes"
        assert orders.WriteMark() not in checked.said

    def test_command_that_ends_in_time_is_not_touched_by_max_run(self) -> None:
        checked = Checked(orders.Plan(max_run=3.0))
        checked.run()
        checked.feed(Exited(0, 0))
        assert checked.feed(lease.Tick(), after=9.0) == []

    def test_what_the_terminal_has_sent_to_the_command_is_not_sent_again(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        typed = orders.Signalled(signal.SIGINT, reached_command=True)
        assert checked.feed(typed) == [orders.StopTree(GRACE, "all", 0)]
        hangup = orders.Signalled(signal.SIGHUP, reached_command=True)
        assert checked.feed(hangup) == []

    def test_what_is_not_for_us_goes_to_the_command_itself(self) -> None:
        checked = Checked(orders.Plan())
        assert checked.feed(orders.Relayed(signal.SIGUSR1)) == []
        checked.run()
        told = checked.feed(orders.Relayed(signal.SIGUSR1))
        assert told == [orders.Forward(signal.SIGUSR1, "main")]
        assert checked.term.ending.cause is None

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
        assert hangup == [orders.Forward(signal.SIGHUP, "all")]
        assert orders.KillTree() not in checked.said

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
        assert (
            orders.KillTree() if kill else orders.StopTree(GRACE, "all", signal.SIGTERM)
        ) in said
        checked.end(0)
        assert checked.feed(orders.GivenBack()) == [orders.Drop(), orders.RunOnLost(reason)]
        checked.feed(orders.HookEnded())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert "released" not in checked.told()
        assert checked.term.ending.command_exit == 0

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
        told = checked.feed(lease.StopRequested())
        assert told == [orders.StopTree(GRACE, "all", signal.SIGTERM)]
        assert "lost" not in checked.told()
        checked.end(143)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79
        assert checked.term.ending.lost_reason == "evicted"
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
        assert checked.term.ending.lost_reason == "guardian_died"

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
        assert (checked.finish.outcome, checked.finish.exit_code) == ("lost", 79)
        assert checked.term.ending.lost_reason == "guardian_died"
        assert checked.finish.again == "no"

    @pytest.mark.parametrize("stage", ["checking", "preparing"])
    def test_guardian_died_before_the_command(self, stage: str) -> None:
        checked = Checked(orders.Plan(once=stage == "checking", on_elected=True))
        checked.elect()
        assert checked.term.stage == stage
        checked.feed(GuardianDied())
        checked.feed(TreeGone(checked.now), orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79
        assert checked.released == 1

    @pytest.mark.parametrize("stage", ["leading", "marking", "holding"])
    def test_guardian_died_where_it_has_nothing_to_stop(self, stage: str) -> None:
        plan = orders.Plan(command=stage != "leading", once=stage == "marking", min_hold=60.0)
        checked = Checked(plan)
        checked.elect()
        if stage == "marking":
            checked.feed(orders.MarkRead())
        if plan.command:
            checked.end(0)
        assert checked.term.stage == stage
        checked.feed(GuardianDied())
        assert checked.told()[-1] == "warning"
        checked.feed(orders.MarkWritten(), orders.Signalled(signal.SIGTERM), orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("completed", 0)

    def test_guardian_died_before_the_term(self) -> None:
        term = Term(orders.Plan())
        assert [finish.exit_code for finish in term.handle(GuardianDied(), 1.0)] == [79]  # type: ignore[union-attr]

    @pytest.mark.parametrize("code", [126, 127])
    def test_command_cannot_be_run(self, code: int) -> None:
        checked = Checked(orders.Plan(min_hold=60.0))
        checked.elect()
        checked.feed(CannotStart(code, "x: no"), orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.hint is None or code == 127  # what is not found may be elsewhere
        assert replace(checked.finish, hint=None) == orders.Finish("cannot_run", code, "x: no")

    def test_refused_start_after_the_deadline_is_a_loss(self) -> None:
        checked = Checked(orders.Plan())
        checked.elect()
        checked.feed(CannotStart(126, "x: its deadline has passed"), after=TTL)
        checked.feed(orders.GivenBack())
        assert checked.finish is not None
        assert checked.finish.exit_code == 79

    def test_host_without_a_process_to_spare_is_worth_another_try(self) -> None:
        checked = Checked(orders.Plan())
        checked.elect()
        checked.feed(CannotStart(126, "x: cannot fork", transient=True), orders.GivenBack())
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.again) == ("cannot_run", "once_led")

    def test_what_was_left_behind_is_counted_and_said(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.end(0, left=2)
        assert checked.term.left == 2
        assert "left 2 processes running" in str(checked.said[-2])
        stopped = Checked(orders.Plan())
        stopped.run()
        stopped.feed(orders.Signalled(signal.SIGTERM))
        stopped.end(143, left=2)
        assert "warning" not in stopped.told(), "we stopped it, so that is no news"

    def test_crash_of_a_helper_gives_the_leadership_back_once_the_tree_is_gone(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        told = checked.feed(orders.Crashed(InternalError("a bug")))
        assert told == [orders.StopTree(GRACE, "all", signal.SIGTERM)]
        checked.feed(Exited(143, 15))
        assert checked.released == 0
        checked.feed(TreeGone(checked.now), orders.GivenBack())
        assert checked.finish == orders.Finish("internal_error", 70, "a bug")
        assert checked.term.ending.command_exit == 143
        assert "Crashed" in "".join(checked.term.trail.lines())

    def test_tree_that_cannot_be_killed_is_not_released(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(lease.StepDown("expired"))
        checked.feed(Stuck(1))
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
        assert checked.finish == orders.Finish("completed", 0, again="yes")
        assert checked.told()[-1] == "warning"


class TestStoreThatIsSilent:
    """The attempt is in the hands of a client library that may block for as long as it likes."""

    @pytest.mark.parametrize(
        ("wait", "at"), [(None, 10.6), (20.0, 10.6), (5.0, 5.6), (1.0, 3.6), (0.0, 10.6)]
    )
    def test_no_contact_is_looked_at_in_time(self, wait: float | None, at: float) -> None:
        contact = min(wait or 10.0, 10.0)
        checked = Checked(orders.Plan(wait=wait, contact=contact))
        began = checked.now
        said: list[orders.Instruction] = []
        while orders.CheckAttempt() not in said:
            wake = checked.term.wake_at()
            assert wake is not None
            said = checked.feed(lease.Tick(), after=wake - checked.now)
        assert checked.now == pytest.approx(began + at)
        checked.feed(orders.AttemptFailed(Unreachable("no answer")))
        assert checked.finish is not None
        assert checked.finish.exit_code == 69

    def test_wait_that_is_over_is_looked_at_also_after_a_first_contact(self) -> None:
        checked = Checked(orders.Plan(wait=20.0))
        checked.feed(lease.Tick(), after=11.0)
        assert checked.said[-1] == orders.CheckAttempt()
        assert checked.term.wake_at() == pytest.approx(100.0 + 20.0 + LATENESS + WITHDRAW_LIMIT)

    def test_told_to_stop(self) -> None:
        checked = Checked(orders.Plan())
        checked.feed(orders.Signalled(signal.SIGTERM))
        checked.feed(lease.Tick(), after=WITHDRAW_LIMIT)
        assert checked.finish == orders.Finish("interrupted", 143)

    @pytest.mark.parametrize(("again", "ends"), [(0.0, False), (2 * SAME_REQUEST, True)])
    def test_told_once_more_while_it_is_given_back(self, again: float, ends: bool) -> None:
        checked = Checked(orders.Plan(command=False))
        checked.elect()
        checked.feed(orders.Signalled(signal.SIGTERM))
        assert checked.term.stage == "releasing"
        checked.feed(orders.Signalled(signal.SIGTERM), after=again)
        assert (checked.finish is not None) is ends

    def test_when_we_led_last_is_when_it_was_lost_and_not_when_it_is_told(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        lost_at = checked.now + 1
        checked.feed(lease.Ended("deleted"), after=1)
        checked.feed(Exited(137, 9), TreeGone(lost_at + 3), after=3)
        said = [tell for tell in checked.said if isinstance(tell, orders.Tell)]
        (lost,) = [tell.details for tell in said if tell.event == "lost"]
        assert lost["led_until_ns"] == round(lost_at * 1e9)

    def test_what_was_killed_late_is_gone_when_it_is_gone(self) -> None:
        tree = Tree()
        tree.start("command")
        assert tree.take(Stuck(1))
        assert tree.take(TreeGone(1.0))
        assert not tree.alive

    def test_what_cannot_be_killed_hides_no_crash(self) -> None:
        checked = Checked(orders.Plan())
        checked.run()
        checked.feed(orders.Crashed(InternalError("oops")), Stuck(1))
        assert checked.finish is not None
        assert (checked.finish.outcome, checked.finish.exit_code) == ("internal_error", 70)

    def test_what_kept_us_from_leading_is_not_tried_again_unless_it_is_transient(self) -> None:
        error = CannotRun("no guardian")
        assert failed(error, 75).again == "no"
        assert failed(error, 75, transient=True).again == "once_led"
