"""Why a term ends, and what that comes to: outcome, exit code, words.

What this does not guarantee: an exit code of its own for each cause; ``--result`` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from electctl.campaign import orders
from electctl.campaign.orders import Finish
from electctl.errors import (
    CannotRun,
    CommandNotFound,
    ElectctlError,
    Inconclusive,
    InternalError,
    LeadershipLost,
    MissingDependency,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
)

#: The first one counts, with two exceptions: a loss while the command runs, and a crash of ours.
Cause = Literal["completed", "signal", "max_run", "lost", "failed", "crashed"]
LostReason = Literal["expired", "deleted", "evicted", "guardian_died", "stuck"]

#: What timeout(1) exits with when time ran out.
TIMED_OUT = 124

LOST: dict[LostReason, str] = {
    "expired": "the lease expired before the renewal reached the server, so we lost leadership",
    "deleted": "the store no longer holds our grant, so we lost leadership",
    "evicted": "we were asked to stop (electctl evict), so we gave up leadership",
    "guardian_died": "the guardian process died, so what ran was killed and leadership given up",
    "stuck": "a process of the command cannot be killed, so leadership is not released: "
    "it runs out by itself",
}


@dataclass(slots=True)
class Ending:
    """What is known so far of how a term ends."""

    cause: Cause | None = None
    lost_reason: LostReason | None = None
    #: The first signal that told us to stop.
    signum: int | None = None
    #: The command's own exit code, 128+n for signal n; None if it never ran to an end.
    command_exit: int | None = None
    note: str = ""
    error: ElectctlError | None = None
    mark_error: ElectctlError | None = None
    #: What the system lacked may be there again soon.
    transient: bool = False

    def because(self, cause: Cause) -> None:
        """An end is due; the first cause counts."""
        self.cause = self.cause or cause

    def fail(self, error: ElectctlError, *, transient: bool = False) -> None:
        """``error`` keeps us from going on."""
        if self.cause is None:
            self.cause, self.error, self.transient = "failed", error, transient

    def lose(self, reason: LostReason, *, running: bool) -> None:
        """Leadership is over or given up; ``running``: how the command ends was still open."""
        # An eviction that the lease's end overtakes is no longer ours to grant.
        if self.lost_reason in (None, "evicted"):
            self.lost_reason = reason
        if self.cause is None or (running and self.cause != "crashed"):
            self.cause = "lost"

    def crash(self, error: InternalError) -> None:
        """A bug of ours counts before all else; the first one of several."""
        if self.cause != "crashed":
            self.cause, self.error, self.transient = "crashed", error, False

    def stuck(self) -> None:
        """A process of the job cannot be killed."""
        self.lost_reason = "stuck"
        if self.cause != "crashed":
            self.cause = "lost"

    def finish(self, plan: orders.Plan, *, elected: bool) -> Finish:
        """The verdict."""
        match self.cause:
            case "completed":
                return self._completed()
            case "lost":
                return self._lost()
            case "signal":
                return self._interrupted(plan, elected=elected)
            case "max_run":
                limit = f"{plan.max_run:g} s" if plan.max_run is not None else "its time"
                message = f"the command ran for {limit} (--max-run), so it was stopped"
                return Finish("interrupted", TIMED_OUT, message, again="yes")
            case _:
                error = self.error or CannotRun("the command was not run")
                return failed(error, plan.conflict_exit, transient=self.transient)

    def _completed(self) -> Finish:
        match self.mark_error:
            case None:
                return Finish("completed", self.command_exit or 0, self.note, again="yes")
            case LeadershipLost():
                message = (
                    "the command succeeded, but leadership was lost before its done mark was "
                    "written: it will run again"
                )
                return Finish("lost", LeadershipLost.exit_code, message, again="yes")
            case error:
                message = (
                    "the command succeeded, but its done mark may be missing, and it may run "
                    f"again: {error.message}"
                )
                return Finish("completed", Inconclusive.exit_code, message, error.hint, "yes")

    def _lost(self) -> Finish:
        reason = self.lost_reason or "expired"
        finish = Finish("lost", LeadershipLost.exit_code, LOST[reason], again="yes")
        match reason:
            case "guardian_died":
                # It can be forked only before there are threads.
                hint = "start the campaign again: systemd does so with Restart=on-failure"
                return Finish(finish.outcome, finish.exit_code, finish.message, hint)
            case "stuck":
                return Finish(finish.outcome, finish.exit_code, finish.message)
        return finish

    def _interrupted(self, plan: orders.Plan, *, elected: bool) -> Finish:
        if elected and not plan.command:
            return Finish("completed", 0)
        if self.command_exit is not None:
            return Finish("interrupted", self.command_exit)
        return Finish("interrupted", 128 + (self.signum or 0))


def failed(error: ElectctlError, conflict_exit: int, *, transient: bool = False) -> Finish:
    """How a campaign ends that ``error`` kept from leading."""
    outcome: orders.Outcome = "not_elected"
    code = error.exit_code
    again: orders.Again = "once_led" if transient else "no"
    match error:
        case NotElected():
            code = conflict_exit
        case Unreachable() | OutcomeUnknown():
            outcome, code, again = "unreachable", Unreachable.exit_code, "once_led"
        case MissingDependency():
            outcome = "unreachable"
        case Refused():
            outcome = "refused"
        case CannotRun() | CommandNotFound():
            outcome = "cannot_run"
        case LeadershipLost():
            outcome, again = "lost", "yes"
        case InternalError():
            outcome = "internal_error"
    return Finish(outcome, code, error.message, error.hint, again)
