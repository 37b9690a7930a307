"""The machine of one term: how each way of ending ends."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from electctl import lease
from electctl.campaign import orders
from electctl.campaign.channel import CannotStart, Exited, GuardianDied, Started, TreeGone
from electctl.campaign.term import ANSWER_LIMIT, SAME_REQUEST
from electctl.errors import (
    DuplicateId,
    ElectctlError,
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
