"""One term as a machine: events in, instructions out, time as an argument.

What this does not guarantee: that a process tree can be killed (uninterruptible sleep), nor that
the store hears of a release. Both are given a bounded time, and then said.

What it does guarantee, whatever order the events come in (``tests/test_term.py`` checks each on
random input): the leadership is never released while the command, a hook that runs as the leader,
or any descendant of theirs may live; nothing is started once an end is due; the term finishes.

A term goes through these stages, and from any of them to ``releasing`` when an end is due::

    waiting → [checking] → [preparing] → running → [marking] → [holding] → releasing → [afterwards]
    elected?   done mark    on-elected   command    done mark   min-hold               on-lost

Without a command, ``leading`` stands in the place of ``running``. The machine knows no process, no
socket and no store: :mod:`electctl.campaign.supervisor` carries out what it says.
"""

from __future__ import annotations

from typing import Literal

from electctl import lease
from electctl.campaign import orders
from electctl.campaign.channel import CannotStart, Exited, GuardianDied, Started, TreeGone
from electctl.campaign.orders import Finish, Instruction, Tell
from electctl.errors import (
    CannotRun,
    CommandNotFound,
    ElectctlError,
    Inconclusive,
    LeadershipLost,
    MissingDependency,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
)

Stage = Literal[
    "waiting",
    "checking",
    "preparing",
    "running",
    "leading",
    "marking",
    "holding",
    "releasing",
    "afterwards",
    "finished",
]
#: Why the term ends; the first one counts, but a loss while the command runs beats a signal.
Cause = Literal["completed", "signal", "lost", "failed"]

#: Seconds of waiting after which the leader is looked up, once.
LOOK_AFTER = 2.0
#: Seconds that a killed tree may take to be gone before it counts as unkillable.
STUCK_LIMIT = 10.0
#: Seconds within which a second signal belongs to the first: timeout(1) sends SIGTERM to its child
#: and to its group, systemd (SendSIGHUP=) SIGHUP on the heels of it.
SAME_REQUEST = 0.25
#: Seconds that the store may take over a release, and over a done mark after the lease's end.
ANSWER_LIMIT = 5.0
NO_GUARDIAN = "the guardian process died before the command could start"

LOST = {
    "expired": "the lease expired before the renewal reached the server, so we lost leadership",
    "deleted": "the store no longer holds our grant, so we lost leadership",
    "evicted": "we were asked to stop (electctl evict), so we gave up leadership",
    "guardian_died": "the guardian process died, so the command was killed and leadership given up",
    "stuck": "a process of the command cannot be killed, so leadership is not released: "
    "it runs out by itself",
}


class Term:
    """One campaign for one term. Call :meth:`begin` once, then :meth:`handle` for every event."""

    def __init__(self, plan: orders.Plan) -> None:
        self.plan = plan
        self.stage: Stage = "waiting"
        self.cause: Cause | None = None
        self.token: int | None = None
        #: The command's own exit code, 128+n for signal n; None if it never ran to an end.
        self.command_exit: int | None = None
        self.signum: int | None = None
        self.lost_reason: str | None = None
        self.elected_at: float | None = None
        self.lost_at: float | None = None
        self.stopped_at: float | None = None
        #: Seconds from the end of the command's last process to the moment at which the store may
        #: have given the leadership away; None unless a command ran and is wholly gone.
        self.margin: float | None = None
        #: Whether a job was started of which not every process is known to be gone.
        self.tree_alive = False
        self._grace = 0.0
        self._valid_until = 0.0
        self._confirmed = 0.0
        self._terminate_at = float("inf")
        self._job: orders.Job = "command"
        self._job_exited = False
        self._signalled_at: float | None = None
        self._lost_told = False
        self._guardian_dead = False
        self._note = ""
        self._error: ElectctlError | None = None
        self._mark_error: ElectctlError | None = None
        # Timers; None where not set.
        self._look_at: float | None = None
        self._kill_at: float | None = None
        self._abandon_at: float | None = None
        self._hold_until: float | None = None
        self._answer_by: float | None = None

    def begin(self, now: float) -> list[Instruction]:
        """The first instructions; the attempt itself is started by the caller."""
        self._look_at = now + LOOK_AFTER
        return [Tell("campaigning")]

    def wake_at(self) -> float | None:
        """When the next Tick is due; None if only an event can bring this further."""
        timers = (
            self._look_at,
            self._kill_at,
            self._abandon_at,
            self._hold_until,
            self._answer_by,
        )
        return min((timer for timer in timers if timer is not None), default=None)

    def handle(self, event: orders.Event, now: float) -> list[Instruction]:
        """Take in one event; return what must be done, in order."""
        out: list[Instruction] = []
        if not self.finished:
            out += self._take(event, now)
        if not self.finished:
            out += self._on_time(now)
        return out

    @property
    def finished(self) -> bool:
        """Whether Finish has been given."""
        return self.stage == "finished"

    def was_told(self, finish: Finish) -> bool:
        """Whether the event ``lost`` said already what ``finish`` says."""
        return self._lost_told and finish.message == LOST.get(self.lost_reason or "")

    # Events --------------------------------------------------------------------------------------

    def _take(self, event: orders.Event, now: float) -> list[Instruction]:
        match event:
            case orders.Elected() if self.stage == "waiting":
                return self._elected(event, now)
            case orders.AttemptFailed(error=error) if self.stage == "waiting":
                self._fail(error)
                return self._finish()
            case orders.Signalled(signum=signum):
                return self._signalled(signum, now)
            case orders.MarkRead() if self.stage == "checking":
                return self._mark_read(event, now)
            case orders.MarkWritten(error=error) if self.stage == "marking":
                return self._mark_written(error, now)
            case orders.GivenBack(error=error) if self.stage == "releasing":
                return self._given_back(error)
            case orders.HookEnded() if self.stage == "afterwards":
                return self._finish()
            case lease.Extended():
                return self._extended(event)
            case lease.RenewalFailed(cause=cause):
                return [Tell("renewal_failed", {"cause": cause, "remaining": self._left(now)})]
            case lease.StopRequested():
                return self._lose("evicted", now)
            case lease.StepDown(reason=reason):
                return self._lose(reason, now)
            case lease.Ended(reason=reason) if reason != "released":
                return self._lose(reason, now, kill=True)
            case GuardianDied():
                return self._guardian_died(now)
            case Started() | CannotStart() | Exited() | TreeGone() if self.tree_alive:
                return self._from_guardian(event, now)
        return []

    def _extended(self, event: lease.Extended) -> list[Instruction]:
        self._valid_until = event.valid_until
        self._confirmed = event.since
        self._terminate_at = event.terminate_at
        fed: list[Instruction] = [orders.Feed(event.terminate_at, event.kill_at)]
        # The first comes with the grant itself, before we hear of it.
        return fed if self.stage == "waiting" else [*fed, Tell("renewed")]

    def _elected(self, event: orders.Elected, now: float) -> list[Instruction]:
        self.token = event.token
        self.elected_at = now
        self._grace = event.grace
        self._look_at = None
        return [Tell("elected", {"remaining": self._left(now)}), *self._next(now)]

    def _from_guardian(
        self, event: Started | CannotStart | Exited | TreeGone, now: float
    ) -> list[Instruction]:
        match event:
            case Started(pid=pid):
                return [Tell("command_started", {"pid": pid})] if self._job == "command" else []
            case CannotStart():
                self._clear_tree()
                return self._cannot_start(event, now) + self._next(now)
            case Exited():
                return [] if self._job_exited else self._exited(event, now)
            case TreeGone(at=at):
                self._clear_tree()
                return self._command_gone(at) + self._next(now)

    def _cannot_start(self, event: CannotStart, now: float) -> list[Instruction]:
        if now >= self._terminate_at:
            return self._lose("expired", now)
        if self._job == "on_elected":
            return [_warning(f"--on-elected: {event.message}")]
        kind = CommandNotFound if event.exit_code == CommandNotFound.exit_code else CannotRun
        hint = "is it installed on this host, and in PATH?" if kind is CommandNotFound else None
        self._fail(kind(event.message, hint=hint))
        return []

    def _exited(self, event: Exited, now: float) -> list[Instruction]:
        self._job_exited = True
        # The guardian now stops what is left of the tree, and gives it grace at most.
        self._set_abandon(now + self._grace)
        if self._job == "on_elected":
            how = f"--on-elected ended with exit code {event.status}"
            return [_warning(how)] if event.status else []
        self.command_exit = event.status
        told: list[Instruction] = [Tell("command_exited", {"exit": event.status})]
        if self.cause is None and (event.overdue or now >= self._terminate_at):
            # SIGTERM was due: the guardian kept the deadline while we were stopped or starved, if
            # with a renewal in hand. What the command says of itself is moot.
            return told + self._lose("expired", now)
        self.cause = self.cause or "completed"
        return told

    def _command_gone(self, at: float) -> list[Instruction]:
        if self._job != "command":
            return []
        self.stopped_at = at
        end = self._valid_until
        if self.lost_reason == "deleted":
            end = min(end, self._confirmed)  # at any time since then
        self.margin = end - at
        return [Tell("command_gone", {"margin_ms": round(self.margin * 1000)}, at)]

    def _guardian_died(self, now: float) -> list[Instruction]:
        self._guardian_dead = True
        if self.stage == "waiting":
            self._fail(CannotRun(NO_GUARDIAN))
            return [orders.Cancel()]
        return self._lose("guardian_died", now, kill=True) if self.tree_alive else []

    def _signalled(self, signum: int, now: float) -> list[Instruction]:
        self._signalled_at = now if self._signalled_at is None else self._signalled_at
        again = now - self._signalled_at >= SAME_REQUEST
        if signum == self.signum and not again:
            return []
        self.signum = self.signum or signum
        self.cause = self.cause or "signal"
        if self.stage == "waiting":
            return self._finish() if again else [orders.Cancel()]
        if self.tree_alive:
            if again:
                return self._kill(now)
            self._kill_at = self._signalled_at + self._grace
            self._set_abandon(self._kill_at)
            return [orders.Forward(signum)]
        if self.stage in ("checking", "leading", "holding"):
            return self._give_back(now)
        if again and self.stage == "releasing":
            return self._finish()
        return [orders.StopOnLost()] if again and self.stage == "afterwards" else []

    def _mark_read(self, event: orders.MarkRead, now: float) -> list[Instruction]:
        if event.error is not None:
            self._fail(event.error)
        elif event.done:
            self.cause = self.cause or "completed"
            self._note = event.done
            return self._give_back(now)
        return self._next(now)

    def _mark_written(self, error: ElectctlError | None, now: float) -> list[Instruction]:
        self._answer_by, self._mark_error = None, error
        return self._next(now)

    def _given_back(self, error: ElectctlError | None) -> list[Instruction]:
        self._answer_by = None
        out: list[Instruction] = []
        if error is not None:
            out.append(_warning(f"the release was not delivered, it runs out: {error.message}"))
        elif self.lost_reason not in ("expired", "deleted"):
            out.append(Tell("released"))
        if self._lost_told and self.plan.on_lost:
            self.stage = "afterwards"
            return [*out, orders.RunOnLost(self.lost_reason or "")]
        return out + self._finish()

    # Ends ----------------------------------------------------------------------------------------

    def _lose(self, reason: str, now: float, *, kill: bool = False) -> list[Instruction]:
        if self.stage in ("releasing", "afterwards"):
            return []
        # An eviction that the lease's end overtakes is no longer ours to grant.
        if self.lost_reason in (None, "evicted"):
            self.lost_reason = reason
        if self.cause is None or (self.tree_alive and not self._job_exited):
            self.cause = "lost"
        if self.stage == "waiting":
            return []  # over before we heard that we lead: Elected comes next, and finds it so
        # An eviction gives up nothing before the tree is gone: it is told with the release.
        out = [] if self.lost_reason == "evicted" else self._tell_lost(now)
        if self.tree_alive:
            if kill:
                return out + self._kill(now)
            self._set_abandon(now + self._grace)
            return [*out, orders.StopTree(self._grace)]
        if self.stage in ("checking", "leading", "holding"):
            out += self._give_back(now)
        return out

    def _tell_lost(self, now: float) -> list[Instruction]:
        if self._lost_told or self.lost_reason is None:
            return []
        self._lost_told = True
        self.lost_at = now
        message = LOST[self.lost_reason]
        return [Tell("lost", {"reason": self.lost_reason, "message": message})]

    def _kill(self, now: float) -> list[Instruction]:
        self._kill_at = None
        self._set_abandon(now)
        return [orders.KillTree()]

    def _set_abandon(self, killed_by: float) -> None:
        due = killed_by + STUCK_LIMIT
        self._abandon_at = due if self._abandon_at is None else min(due, self._abandon_at)

    def _clear_tree(self) -> None:
        self.tree_alive = False
        self._kill_at = self._abandon_at = None

    def _fail(self, error: ElectctlError) -> None:
        if self.cause is None:
            self.cause = "failed"
            self._error = error

    def _on_time(self, now: float) -> list[Instruction]:
        def due(timer: float | None) -> bool:
            return timer is not None and now >= timer

        if due(self._abandon_at):
            self.lost_reason = "stuck"
            self.cause = "lost"
            return self._tell_lost(now) + self._finish()
        if due(self._kill_at):
            return self._kill(now)
        if due(self._look_at):
            self._look_at = None
            return [orders.Look()]
        if due(self._hold_until):
            return self._give_back(now)
        if due(self._answer_by):
            error = OutcomeUnknown("the store did not answer in time")
            return (
                self._mark_written(error, now)
                if self.stage == "marking"
                else self._given_back(error)
            )
        return []

    # The way forward -----------------------------------------------------------------------------

    def _next(self, now: float) -> list[Instruction]:
        """Enter the stage that follows; nothing of ours may be alive here."""
        match self.stage:
            case "waiting" | "checking" | "preparing" if self.cause is not None:
                return self._give_back(now)
            case "waiting" if self.plan.once:
                self.stage = "checking"
                return [orders.ReadMark()]
            case "waiting" | "checking" if self.plan.on_elected:
                return self._start("preparing", "on_elected", now)
            case "waiting" | "checking" | "preparing" if self.plan.command:
                return self._start("running", "command", now)
            case "waiting" | "checking" | "preparing":
                self.stage = "leading"
                return []
            case "running" if self._earned_mark():
                self.stage = "marking"
                self._answer_by = max(now, self._valid_until) + ANSWER_LIMIT
                return [orders.WriteMark()]
            case "running" | "marking" if self._may_hold():
                self.stage = "holding"
                self._hold_until = (self.elected_at or now) + self.plan.min_hold
                return []
        return self._give_back(now)

    def _start(self, stage: Stage, job: orders.Job, now: float) -> list[Instruction]:
        if self._guardian_dead:
            self._fail(CannotRun(NO_GUARDIAN))
            return self._give_back(now)
        self.stage = stage
        self._job = job
        self._job_exited = False
        self.tree_alive = True
        return [orders.StartJob(job)]

    def _earned_mark(self) -> bool:
        return self.plan.once and self.cause == "completed" and self.command_exit == 0

    def _may_hold(self) -> bool:
        return (
            self.cause == "completed"
            and self.signum is None
            and self.lost_reason is None
            and self.plan.min_hold > 0
        )

    def _give_back(self, now: float) -> list[Instruction]:
        told = self._tell_lost(now)
        self.stage = "releasing"
        self._hold_until = None
        self._answer_by = now + ANSWER_LIMIT
        return [*told, orders.Release()]

    def _left(self, now: float) -> float:
        return round(max(0.0, self._valid_until - now), 3)

    # The verdict ---------------------------------------------------------------------------------

    def _finish(self) -> list[Instruction]:
        self.stage = "finished"
        self._look_at = self._kill_at = self._abandon_at = None
        self._hold_until = self._answer_by = None
        return [self._verdict()]

    def _verdict(self) -> Finish:
        match self.cause:
            case "completed":
                return self._completed()
            case "lost":
                return Finish("lost", LeadershipLost.exit_code, LOST[self.lost_reason or "expired"])
            case "signal":
                return self._interrupted()
            case _:
                error = self._error or CannotRun("the command was not run")
                return failed(error, self.plan.conflict_exit)

    def _completed(self) -> Finish:
        match self._mark_error:
            case None:
                return Finish("completed", self.command_exit or 0, self._note)
            case LeadershipLost():
                return Finish(
                    "lost",
                    LeadershipLost.exit_code,
                    "the command succeeded, but leadership was lost before its done mark was "
                    "written: it will run again",
                )
            case error:
                return Finish(
                    "completed",
                    Inconclusive.exit_code,
                    "the command succeeded, but its done mark may be missing, and it may run "
                    f"again: {error.message}",
                    error.hint,
                )

    def _interrupted(self) -> Finish:
        if self.elected_at is not None and not self.plan.command:
            return Finish("completed", 0)
        if self.command_exit is not None:
            return Finish("interrupted", self.command_exit)
        return Finish("interrupted", 128 + (self.signum or 0))


def _warning(message: str) -> Tell:
    return Tell("warning", {"message": message})


def failed(error: ElectctlError, conflict_exit: int) -> Finish:
    """How a campaign ends that ``error`` kept from leading."""
    outcome: orders.Outcome = "not_elected"
    code = error.exit_code
    match error:
        case NotElected():
            code = conflict_exit
        case Unreachable() | MissingDependency() | OutcomeUnknown():
            outcome, code = "unreachable", Unreachable.exit_code
        case Refused():
            outcome = "refused"
        case CannotRun() | CommandNotFound():
            outcome = "cannot_run"
        case LeadershipLost():
            outcome = "lost"
    return Finish(outcome, code, error.message, error.hint)
