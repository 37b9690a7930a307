"""One term as a machine: events in, instructions out, time as an argument.

What this does not guarantee: that a process tree can be killed (uninterruptible sleep), nor that
the store hears of a release. The first is the guardian's to say, the second gets a bounded time.

What it does guarantee, whatever order the events come in (``tests/test_term.py`` checks each on
random input): the leadership is never released while the command, a hook that runs as the leader,
or any descendant of theirs may live; nothing is started once an end is due; the term finishes.

A term goes through these stages, and from any of them to ``releasing`` when an end is due::

    new → waiting → [checking] → [preparing] → running → [marking] → [holding] → releasing → [afterwards]
          elected?   done mark    on-elected   command    done mark   min-hold               on-lost

Without a command, ``leading`` stands in the place of ``running``. The tables of
:mod:`electctl.campaign.stages` say what each begins with, what it does when an end is due, and
which events it hears. What may be alive is in :mod:`electctl.campaign.job`, what the end comes to
in :mod:`electctl.campaign.ending`. The machine knows no process, no socket and no store: :mod:`electctl.campaign.supervisor` carries
out what it says.
"""  # noqa: E501 - the drawing

from __future__ import annotations

import signal
from typing import Literal, assert_never

from electctl.campaign import channel, orders
from electctl.campaign.ending import LOST, Ending, LostReason
from electctl.campaign.job import Force, Tree, Word
from electctl.campaign.orders import Finish, Instruction, Tell
from electctl.campaign.stages import HEARD, STAGES, Stage
from electctl.campaign.trail import Trail
from electctl.core import lease
from electctl.errors import CannotRun, CommandNotFound, ElectctlError, OutcomeUnknown

Alarm = Literal["look", "check", "give_up", "max_run", "held", "answer"]

#: Seconds of waiting after which the leader is looked up, once.
LOOK_AFTER = 2.0
#: Seconds within which a second signal belongs to the first: timeout(1) sends SIGTERM to its child
#: and to its group, systemd (SendSIGHUP=) SIGHUP on the heels of it.
SAME_REQUEST = 0.25
#: Seconds that the store may take over a release, and over a done mark after the lease's end.
ANSWER_LIMIT = 5.0
#: Seconds that the attempt may take to withdraw once it is told to, before we go without it.
WITHDRAW_LIMIT = 1.0
#: Seconds that one try may take, however short the wait.
ONE_TRY = 3.0
#: Seconds by which an attempt may be late with its own word that its time is up.
LATENESS = 0.6
#: Seconds that an on-lost hook may take.
HOOK_LIMIT = 30.0


class Term:
    """One campaign for one term. Call :meth:`begin` once, then :meth:`handle` for every event."""

    def __init__(self, plan: orders.Plan) -> None:
        self.plan = plan
        self.stage: Stage = "new"
        self.tree = Tree()
        self.ending = Ending()
        self.trail = Trail()
        self.token: int | None = None
        self.elected_at: float | None = None
        #: When the loss was told; None while it was not.
        self.lost_at: float | None = None
        self.stopped_at: float | None = None
        #: Seconds from the end of the command's last process to the moment at which the store may
        #: have given the leadership away; None unless a command ran and is wholly gone.
        self.margin: float | None = None
        #: How many processes of the command were there after its own end, and were stopped.
        self.left: int | None = None
        self._grace = 0.0
        self._valid_until = 0.0
        self._led_until: float | None = None
        self._confirmed = 0.0
        self._terminate_at = float("inf")
        self._signalled_at: float | None = None
        self._guarded = True
        self._give_up_at = 0.0
        self._alarms: dict[Alarm, float] = {}

    def begin(self, now: float) -> list[Instruction]:
        """The first instructions."""
        out = [Tell("campaigning"), *self._enter("waiting", now)]
        self.trail.note(now, "new", "begin", self.stage, out)
        return out

    def wake_at(self) -> float | None:
        """When the next Tick is due; None if only an event can bring this further."""
        return min(self._alarms.values(), default=None)

    def handle(self, event: orders.Event, now: float) -> list[Instruction]:
        """Take in one event; return what must be done, in order.

        Raises KeyError on what is no event.
        """
        before = self.stage
        out = self._take(event, now) if before in HEARD[type(event)] else []
        out += self._on_time(now)
        if out or before != self.stage:
            self.trail.note(now, before, event, self.stage, out)
        return out

    @property
    def finished(self) -> bool:
        """Whether Finish has been given."""
        return self.stage == "finished"

    def was_told(self, finish: Finish) -> bool:
        """Whether the event ``lost`` said already what ``finish`` says."""
        reason = self.ending.lost_reason
        return self.lost_at is not None and reason is not None and finish.message == LOST[reason]

    def _take(self, event: orders.Event, now: float) -> list[Instruction]:
        match event:
            case orders.Elected():
                return self._elected(event, now)
            case orders.AttemptFailed():
                self.ending.fail(event.error, transient=event.transient)
                return self._finish()
            case orders.Signalled():
                return self._signalled(event, now)
            case orders.Relayed(signum=signum):
                return self.tree.relay(signum)
            case orders.Crashed():
                return self._crashed(event, now)
            case orders.MarkRead():
                return self._mark_read(event, now)
            case orders.MarkWritten(error=error):
                self.ending.mark_error = error
                return self._next(now)
            case orders.GivenBack(error=error):
                return self._given_back(error, now)
            case orders.HookEnded():
                return self._finish()
            case lease.Extended():
                return self._extended(event)
            case lease.RenewalFailed(cause=cause):
                return [Tell("renewal_failed", {"cause": cause, "remaining": self._left(now)})]
            case lease.StopRequested():
                return self._lose("evicted", Force.ASKED, now)
            case lease.StepDown(reason=reason) if reason != "released":
                return self._lose(reason, Force.STOPPED, now)
            case lease.Ended(reason=reason) if reason != "released":
                return self._lose(reason, Force.KILLED, now)
            case channel.GuardianDied():
                return self._guardian_died(now)
            case lease.Tick() | lease.SendRenewal() | lease.StepDown() | lease.Ended():
                return []
            case _:
                return self._from_guardian(event, now) if self.tree.take(event) else []

    # The store's word ------------------------------------------------------------

    def _elected(self, event: orders.Elected, now: float) -> list[Instruction]:
        self.token = event.token
        self.elected_at = now
        self._grace = event.grace
        told: list[Instruction] = [orders.Hold(), Tell("elected", {"remaining": self._left(now)})]
        return told + self._next(now)

    def _extended(self, event: lease.Extended) -> list[Instruction]:
        self._valid_until = event.valid_until
        self._confirmed = event.since
        self._terminate_at = event.terminate_at
        fed: list[Instruction] = [orders.Feed(event.terminate_at, event.kill_at)]
        # The first comes with the grant itself, before we hear of it.
        return fed if self.stage == "waiting" else [*fed, Tell("renewed")]

    def _mark_read(self, event: orders.MarkRead, now: float) -> list[Instruction]:
        if event.error is not None:
            self.ending.fail(event.error)
        elif event.done:
            self.ending.because("completed")
            self.ending.note = event.done
            return self._give_back(now)
        return self._next(now)

    def _given_back(self, error: ElectctlError | None, now: float) -> list[Instruction]:
        out: list[Instruction] = []
        if error is not None:
            out.append(_warning(f"the release was not delivered, it runs out: {error.message}"))
        else:
            out.append(orders.Drop())
            if self.ending.lost_reason not in ("expired", "deleted"):
                out.append(Tell("released", {"led_until_ns": self._end_ns()}))
        if self.lost_at is not None and self.plan.on_lost:
            hook = orders.RunOnLost(self.ending.lost_reason or "")
            return [*out, *self._enter("afterwards", now), hook]
        return out + self._finish()

    # The guardian's word --------------------------------------------------------------------------

    def _from_guardian(self, event: Word, now: float) -> list[Instruction]:
        match event:
            case channel.Started(pid=pid):
                command = self.tree.job == "command"
                return [Tell("command_started", {"pid": pid})] if command else []
            case channel.CannotStart():
                return self._cannot_start(event, now) + self._next(now)
            case channel.Exited():
                return self._exited(event, now)
            case channel.TreeGone():
                return self._tree_gone(event) + self._next(now)
            case channel.Stuck():
                self.ending.stuck()
                return self._tell_lost(now) + self._finish()
            case _:
                assert_never(event)

    def _cannot_start(self, event: channel.CannotStart, now: float) -> list[Instruction]:
        if now >= self._terminate_at:
            return self._lose("expired", Force.STOPPED, now)
        if self.tree.job == "on_elected":
            return [_warning(f"--on-elected: {event.message}")]
        unknown = event.exit_code == CommandNotFound.exit_code
        kind = CommandNotFound if unknown else CannotRun
        hint = "is it installed on this host, and in PATH?" if unknown else None
        self.ending.fail(kind(event.message, hint=hint), transient=event.transient)
        return []

    def _exited(self, event: channel.Exited, now: float) -> list[Instruction]:
        if self.tree.job == "on_elected":
            how = f"--on-elected ended with exit code {event.status}"
            return [_warning(how)] if event.status else []
        self.ending.command_exit = event.status
        self._alarms.pop("max_run", None)
        told: list[Instruction] = [Tell("command_exited", {"exit": event.status})]
        if self.ending.cause is None and (event.overdue or now >= self._terminate_at):
            # SIGTERM was due: the guardian kept the deadline while we were stopped or starved, if
            # with a renewal in hand. What the command says of itself is moot.
            return told + self._lose("expired", Force.STOPPED, now)
        self.ending.because("completed")
        return told

    def _tree_gone(self, event: channel.TreeGone) -> list[Instruction]:
        out: list[Instruction] = []
        command = self.tree.job == "command"
        if command:
            self.stopped_at = event.at
            self.left = event.left
            end = self._valid_until
            if self.ending.lost_reason == "deleted":
                end = min(end, self._confirmed)  # at any time since then
            self.margin = end - event.at
            gone: dict[str, object] = {"margin_ms": round(self.margin * 1000), "left": event.left}
            out.append(Tell("command_gone", gone, event.at))
        if event.left and self.tree.force == Force.NONE:
            who = "the command" if command else "--on-elected"
            some = "a process" if event.left == 1 else f"{event.left} processes"
            out.append(_warning(f"{who} ended and left {some} running, which had to be stopped"))
        return out

    def _guardian_died(self, now: float) -> list[Instruction]:
        self._guarded = False
        started = self.stage in ("leading", "marking", "holding")
        if started or not (self.plan.command or self.plan.on_elected):
            # Nothing runs, nor will, that it would have to stop.
            return [
                _warning("the guardian process died: should electctl crash, the lease runs out")
            ]
        if self.stage == "new":
            self.ending.lose("guardian_died", running=False)
            return self._finish()
        return self._lose("guardian_died", Force.KILLED, now)

    # What else ends a term ------------------------------------------------------------------------

    def _signalled(self, event: orders.Signalled, now: float) -> list[Instruction]:
        if self._signalled_at is None:
            self._signalled_at = now
        again = now - self._signalled_at >= SAME_REQUEST
        if event.signum == self.ending.signum and not again:
            return []
        self.ending.signum = self.ending.signum or event.signum
        self.ending.because("signal")
        if again and self.stage == "afterwards":
            return [orders.StopOnLost()]
        if again and self.stage in ("waiting", "releasing"):
            return self._finish()
        if again and self.tree.alive:
            return self.tree.kill()
        # What the terminal has sent to the command as well is not sent to it twice.
        return self._cut(Force.ASKED, now, 0 if event.reached_command else event.signum)

    def _crashed(self, event: orders.Crashed, now: float) -> list[Instruction]:
        self.ending.crash(event.error)
        match self.stage:
            case "new":
                return self._finish()
            case "afterwards":
                return [orders.StopOnLost(), *self._finish()]
            case "marking":  # whoever was to answer may be who has crashed
                self.ending.mark_error = event.error
                return self._give_back(now)
        return self._cut(Force.STOPPED, now)

    def _lose(self, reason: LostReason, force: Force, now: float) -> list[Instruction]:
        self.ending.lose(reason, running=self.tree.may_exit)
        if self.stage == "waiting":
            # Over before we heard that we lead: Elected comes next, and finds it so. Without a
            # guardian nothing could be run, so we keep nobody from leading who can.
            return self._cut(force, now) if reason == "guardian_died" else []
        # An eviction gives up nothing before the tree is gone: it is told with the release.
        told = [] if self.ending.lost_reason == "evicted" else self._tell_lost(now)
        return told + self._cut(force, now)

    def _cut(self, force: Force, now: float, signum: int = signal.SIGTERM) -> list[Instruction]:
        """An end is due: what the stage does about it."""
        match STAGES[self.stage].ends:
            case "withdraw":
                first = "give_up" not in self._alarms
                self._alarms.setdefault("give_up", now + WITHDRAW_LIMIT)
                return [orders.Cancel()] if first else []
            case "release":
                return self._give_back(now)
            case "stop" if self.tree.alive:
                return self._stop_tree(force, signum)
        return []

    def _stop_tree(self, force: Force, signum: int) -> list[Instruction]:
        self._alarms.pop("max_run", None)
        match force:
            case Force.KILLED:
                return self.tree.kill()
            case Force.STOPPED:
                return self.tree.stop(self._grace, signum)
        limit = self.plan.stop_timeout
        return self.tree.ask(self._grace if limit is None else limit, self.plan.stop, signum)

    def _tell_lost(self, now: float) -> list[Instruction]:
        reason = self.ending.lost_reason
        if self.lost_at is not None or reason is None:
            return []
        self.lost_at = now
        self._note_end(now)
        details: dict[str, object] = {"reason": reason, "message": LOST[reason]}
        return [Tell("lost", {**details, "led_until_ns": self._end_ns()})]

    def _note_end(self, now: float) -> None:
        """From here on we take ourselves for the leader no more, whenever the store hears of it."""
        if self._led_until is None:
            self._led_until = min(now, self._valid_until)

    def _end_ns(self) -> int:
        return round((self._led_until or 0.0) * 1e9)

    # Time -----------------------------------------------------------------------------------------

    def _on_time(self, now: float) -> list[Instruction]:
        out: list[Instruction] = []
        while (due := min(self._alarms, key=self._alarms.__getitem__, default=None)) is not None:
            if self._alarms[due] > now:
                break
            del self._alarms[due]
            out += self._ring(due, now)
        return out

    def _ring(self, alarm: Alarm, now: float) -> list[Instruction]:
        match alarm:
            case "look":
                return [orders.Look()]
            case "check":
                if self.plan.wait is not None and now < self._give_up_at:
                    self._alarms["check"] = self._give_up_at
                return [orders.CheckAttempt()]
            case "give_up":
                return self._finish()
            case "max_run":
                self.ending.because("max_run")
                return self._cut(Force.ASKED, now)
            case "held":
                return self._give_back(now)
            case "answer" if self.stage == "afterwards":
                return [orders.StopOnLost(), *self._finish()]
            case "answer":
                error = OutcomeUnknown("the store did not answer in time")
                if self.stage != "marking":
                    return self._given_back(error, now)
                self.ending.mark_error = error
                return self._next(now)

    def _alarms_of(self, stage: Stage, now: float) -> dict[Alarm, float]:
        match stage:
            case "waiting":
                wait = self.plan.wait
                waits = max(self.plan.contact if wait is None else wait, ONE_TRY)
                self._give_up_at = now + waits + LATENESS + WITHDRAW_LIMIT
                contact = now + max(self.plan.contact, ONE_TRY) + LATENESS
                return {"look": now + LOOK_AFTER, "check": contact}
            case "running" if self.plan.max_run is not None:
                return {"max_run": now + self.plan.max_run}
            case "marking":
                return {"answer": max(now, self._valid_until) + ANSWER_LIMIT}
            case "holding":
                return {"held": (self.elected_at or now) + self.plan.min_hold}
            case "releasing":
                return {"answer": now + ANSWER_LIMIT}
            case "afterwards":
                return {"answer": now + HOOK_LIMIT + ANSWER_LIMIT}
        return {}

    # The way forward ------------------------------------------------------------------------------

    def _enter(self, stage: Stage, now: float) -> list[Instruction]:
        self.stage = stage
        self._alarms = self._alarms_of(stage, now)
        row = STAGES[stage]
        if row.job is not None:
            return self.tree.start(row.job)
        return [] if row.begin is None else [row.begin]

    def _next(self, now: float) -> list[Instruction]:
        """Enter the stage that follows; nothing of ours may be alive here."""
        stage = self._following()
        if stage is None:
            return self._give_back(now)
        if STAGES[stage].job is not None and not self._guarded:
            self.ending.lose("guardian_died", running=False)
            return self._give_back(now)
        return self._enter(stage, now)

    def _following(self) -> Stage | None:
        """The stage after this one; None if leadership is to be given back."""
        done = self.ending.cause == "completed" and self.ending.signum is None
        match self.stage:
            case "waiting" | "checking" | "preparing" if self.ending.cause is not None:
                return None
            case "waiting" if self.plan.once:
                return "checking"
            case "waiting" | "checking" if self.plan.on_elected:
                return "preparing"
            case "waiting" | "checking" | "preparing":
                return "running" if self.plan.command else "leading"
            case "running" if self._earned_mark():
                return "marking"
            case "running" | "marking" if done and not self.ending.lost_reason:
                return "holding" if self.plan.min_hold > 0 else None
        return None

    def _earned_mark(self) -> bool:
        ending = self.ending
        return self.plan.once and ending.cause == "completed" and ending.command_exit == 0

    def _give_back(self, now: float) -> list[Instruction]:
        told = self._tell_lost(now)
        self._note_end(now)
        return told + self._enter("releasing", now)

    def _finish(self) -> list[Instruction]:
        self.stage = "finished"
        self._alarms = {}
        return [self.ending.finish(self.plan, elected=self.elected_at is not None)]

    def _left(self, now: float) -> float:
        return round(max(0.0, self._valid_until - now), 3)


def _warning(message: str) -> Tell:
    return Tell("warning", {"message": message})
