"""Carries out what :mod:`electctl.campaign.term` says: signals, guardian, socket, store, events.

What this does not guarantee: anything about what the command does elsewhere. What it can do, and
what nobody can, is in :mod:`electctl.campaign.guardian`.

One thread, the caller's, runs the machine and owns the guardian. It waits in one place, for a
signal, the guardian, or a message from a worker, and never for the store: whatever may block runs
in a worker thread that posts its answer, and the term has a limit for each. All threads are made
here at the start, before any command. What goes wrong in one of them is an event of the term: the
command is stopped, the leadership given back, and the exit code is 70.
"""

from __future__ import annotations

import math
import selectors
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from signal import SIGCHLD
from typing import TYPE_CHECKING, assert_never

from electctl.base.clock import now
from electctl.campaign import crash, errands, hooks, orders, places, strays
from electctl.campaign.answer import Desk
from electctl.campaign.channel import CannotStart, GuardianDied, GuardianEvent, TreeGone
from electctl.campaign.foreground import Foreground
from electctl.campaign.inbox import Inbox
from electctl.campaign.keep import Keep
from electctl.campaign.task import environment
from electctl.campaign.term import ANSWER_LIMIT, Term
from electctl.campaign.workers import Workers
from electctl.core import lease
from electctl.errors import CannotRun, ElectctlError, InternalError
from electctl.record.events import Event

if TYPE_CHECKING:
    from electctl.campaign.guardian import Guardian
    from electctl.campaign.notify import Notifier
    from electctl.campaign.signals import Caught
    from electctl.campaign.task import Job
    from electctl.campaign.terminal import Terminal
    from electctl.core.elector import Attempt, LeaderElector
    from electctl.core.leadership import Leadership

#: select(2) does not count the time that the machine sleeps, so no wait is longer than this.
_LONGEST_WAIT = 0.5
#: Seconds that the client library may take over its farewell, when all else is done.
_FAREWELL = 0.3
#: Seconds that a tree may take to be gone after the machine itself has failed.
_RESCUE_LIMIT = 15.0


class Supervisor:
    """Runs one campaign to its end. Made in the main thread, after the guardian was forked.

    ``tell`` gets every event; it must not block. ``notifier`` is there if a service manager is,
    ``terminal`` if the command shares ours.
    Raises CannotRun where the system gives us no thread, UsageError for the place of the socket.
    """

    def __init__(
        self,
        job: Job,
        elector: LeaderElector,
        guardian: Guardian,
        inbox: Inbox,
        tell: Callable[[Event], None],
        notifier: Notifier | None = None,
        terminal: Terminal | None = None,
    ) -> None:
        self._job = job
        self._elector = elector
        self._guardian = guardian
        self._inbox = inbox
        self._tell = tell
        self._notifier = notifier
        self._foreground = Foreground(terminal)
        self._pinged = now()
        self._guardian_dead = False
        #: Whether all is given back, or known not to be ours to give, so that we may say goodbye.
        self.in_order = True
        self._guardians_words: deque[GuardianEvent] = deque()
        self._told_to_stop = 0
        self._noted: set[str] = set()
        self._workers = Workers(self._crashed)
        self._desk = Desk(self._warn_from_anywhere, guardian.remove_at_end, self._record)
        self._named = None if job.socket is None else places.named(job.socket)
        self._selector = selectors.DefaultSelector()
        self._selector.register(inbox, selectors.EVENT_READ, self._read_inbox)
        self._selector.register(guardian, selectors.EVENT_READ, self._read_guardian)
        self._begin()

    def run(self, keep: Keep) -> tuple[orders.Finish, Term]:
        """Campaign until there is nothing left to do; the last term and how it ended."""
        threading.excepthook = partial(self._on_crash, threading.excepthook)
        try:
            finish = self._run(keep)
        except Exception as error:  # noqa: BLE001 - the machine itself has failed
            finish = self._rescue(crash.report(error, self._term.trail.lines()))
        self._desk.close()
        self._workers.finish(self._elector.close, _FAREWELL)
        return finish, self._term

    def _run(self, keep: Keep) -> orders.Finish:
        if self._named is not None:
            self._desk.open([self._named])
        while True:
            finish = self._campaign()
            term = self._term
            led = None if term.elected_at is None else now() - term.elected_at
            # A tree that cannot be killed keeps its guardian, and what it did may not be over.
            stop = bool(self._told_to_stop) or term.tree.alive
            pause = keep.after(finish.again, led, told_to_stop=stop)
            if pause is None:
                return finish
            signum = None
            if not self._guardian_dead:
                self._emit(orders.Tell("again", {"pause": round(pause, 1)}))
                signum = self._pause(pause)
            self._begin()
            if signum is not None:
                return orders.Finish("interrupted", 128 + signum)

    def dies_of(self, finish: orders.Finish) -> int | None:
        """The signal that was typed (Ctrl-C) and that we are to die of, if there is one."""
        return self._foreground.dies_of(finish)

    def _begin(self) -> None:
        self._foreground.begin()
        self._term = Term(self._job.plan)
        self._finish: orders.Finish | None = None
        self._leadership: Leadership | None = None
        self._hook: hooks.Hook | None = None
        self._attempt: Attempt | None = None
        self._attempt_began = 0.0
        self._seen_leading = False
        self._troubles: set[str] = set()

    # One term ------------------------------------------------------------------------------------

    def _campaign(self) -> orders.Finish:
        term = self._term
        if self._guardian_dead:
            self._feed(GuardianDied())
        if self._finish is None:
            self._carry_out(term.begin(now()))
            self._warn(self._guardian.warnings)
        while self._finish is None:
            self._wait(term.wake_at())
            self._feed(lease.Tick())
        self._desk.leadership = None
        if self._named is None:
            self._desk.close()
        return self._finish

    def _wait(self, until: float | None) -> None:
        due = min(math.inf if until is None else until, self._guardian.wake_at())
        pause = None if due == math.inf else min(max(0.0, due - now()), _LONGEST_WAIT)
        watched = None if self._notifier is None else self._notifier.watchdog_interval
        if self._notifier is not None and watched is not None:
            # Here and nowhere else: a loop that hangs must be missed.
            if now() - self._pinged >= watched / 3:
                self._notifier.ping()
                self._pinged = now()
            pause = watched / 3 if pause is None else min(pause, watched / 3)
        for key, _ in self._selector.select(pause):
            key.data()
        if self._guardian.keep_awake():
            self._read_guardian()
        # Those that we have started from this thread are waited for elsewhere.
        hook = set() if self._hook is None else {self._hook.pid}
        strays.reap({self._guardian.pid} | hook)

    def _pause(self, seconds: float) -> int | None:
        """Wait between two terms; the signal that ended it, if one did.

        The term is over, so it takes no notice of what it is fed meanwhile.
        """
        until = now() + seconds
        while now() < until and not self._guardian_dead:
            self._wait(until)
            if self._told_to_stop:
                return self._told_to_stop
        return None

    def _read_inbox(self) -> None:
        signals, messages = self._inbox.take()
        for caught in signals:
            if caught.signum != SIGCHLD and not self._foreground.defers(caught):
                self._signalled(caught, self._foreground.reached(caught))
        for message in messages:
            message()

    def _signalled(self, caught: Caught, reached: bool) -> None:
        if self._foreground.stops(caught, running=self._term.tree.alive):
            if self._notifier is not None and not self._told_to_stop:
                self._notifier.stopping()
            self._told_to_stop = caught.signum
            self._feed(orders.Signalled(caught.signum, reached))
        elif not reached:
            self._feed(orders.Relayed(caught.signum))

    def _read_guardian(self) -> None:
        self._guardians_words.extend(self._guardian.receive())
        self._warn(self._guardian.warnings)
        while self._guardians_words:
            event = self._guardians_words.popleft()
            if isinstance(event, GuardianDied):
                self._guardian_dead = True
                if event.report:
                    fault = RuntimeError(event.report)
                    hint = crash.report(fault, self._term.trail.lines()).hint
                    what = event.report.partition("\n")[0]
                    self._warn([f"the guardian process failed by a fault of ours ({what}): {hint}"])
            self._foreground.hear(event)
            self._feed(event)
        for caught, reached in self._foreground.recall():
            self._signalled(caught, reached)

    def _feed(self, event: orders.Event) -> None:
        self._carry_out(self._term.handle(event, now()))

    # From workers --------------------------------------------------------------------------------

    def _post(self, event: orders.Event) -> None:
        """From this thread: for after what is in hand."""
        self._post_to(self._term, event)

    def _post_to(self, term: Term, event: orders.Event) -> None:
        """From any thread; what comes after the term's end is dropped."""
        self._inbox.post(partial(self._receive, term, event))

    def _receive(self, term: Term, event: orders.Event) -> None:
        if term is self._term:
            self._feed(event)

    def _post_win(self, term: Term, leadership: Leadership) -> None:
        self._inbox.post(partial(self._win, term, leadership))

    def _win(self, term: Term, leadership: Leadership) -> None:
        if term is not self._term or term.stage != "waiting":
            self._workers.do(leadership.release)  # won after we had given it up
            return
        self._leadership = self._desk.leadership = leadership
        self._warn(sorted(self._elector.backend.notes))
        self._feed(orders.Elected(leadership.token, leadership.timing.grace))

    def _on_crash(
        self, usual: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs
    ) -> None:
        ours = args.thread is not None and args.thread.name.startswith("electctl")
        if ours and args.exc_value is not None:
            self._crashed(args.exc_value)
        else:
            usual(args)  # a client library's own thread

    def _crashed(self, error: BaseException) -> None:
        """From the thread that has crashed."""
        told = crash.report(error, self._term.trail.lines())
        self._inbox.post(lambda: self._feed(orders.Crashed(told)))

    def _warn_from_anywhere(self, message: str) -> None:
        self._inbox.post(partial(self._emit, orders.Tell("warning", {"message": message})))

    def _record(self, event: str, leadership: Leadership, details: Mapping[str, object]) -> None:
        told = self._event(event, details, self._job.candidate, leadership.token)
        self._inbox.post(partial(self._show, told))

    def _warn(self, notes: list[str]) -> None:
        """Say each of these once."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                self._emit(orders.Tell("warning", {"message": note}))

    def _trouble(self, error: ElectctlError) -> None:
        if error.message not in self._troubles:
            self._troubles.add(error.message)
            message = f"no contact while waiting, trying again: {error.message}"
            self._emit(orders.Tell("warning", {"message": message}))

    # Instructions --------------------------------------------------------------------------------

    def _carry_out(self, instructions: list[orders.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case orders.Tell():
                    self._emit(instruction)
                case orders.Finish():
                    self._finish = instruction
                case orders.Enter():
                    self._enter()
                case orders.Cancel():
                    if self._attempt is not None:
                        self._workers.do(self._attempt.cancel)
                case orders.CheckAttempt():
                    self._check_attempt()
                case orders.Look():
                    self._workers.do(partial(self._look, self._term))
                case (
                    orders.Hold()
                    | orders.Drop()
                    | orders.StartJob()
                    | orders.Feed()
                    | orders.Forward()
                    | orders.StopTree()
                    | orders.KillTree()
                ):
                    self._guard(instruction)
                case orders.ReadMark() | orders.WriteMark() | orders.Release():
                    assert self._leadership is not None
                    post = partial(self._post_to, self._term)
                    key = self._job.once or ""
                    self._workers.do(
                        partial(errands.ask_store, instruction, self._leadership, key, post)
                    )
                case orders.RunOnLost(reason=reason):
                    self._run_on_lost(reason)
                case orders.StopOnLost():
                    if self._hook is not None:
                        self._hook.kill()
                case _:
                    assert_never(instruction)

    def _guard(self, instruction: orders.ForGuardian) -> None:
        guardian = self._guardian
        match instruction:
            case orders.Hold():
                receipt = None if self._leadership is None else self._leadership.receipt
                if receipt is not None:
                    guardian.hold(receipt)
            case orders.Drop():
                guardian.drop()
            case orders.StartJob(job=job):
                self._start(job)
            case orders.Feed(terminate_at=terminate_at, kill_at=kill_at):
                guardian.deadline(terminate_at, kill_at)
            case orders.Forward(signum=signum, scope=scope):
                guardian.signal(signum, scope)
            case orders.StopTree(timeout=timeout, scope=scope, signum=signum):
                guardian.stop(timeout, scope, signum)
            case orders.KillTree():
                guardian.kill()
            case _:
                assert_never(instruction)

    def _enter(self) -> None:
        """Begin the attempt, with a socket for the command."""
        job, term = self._job, self._term
        self._attempt_began = now()
        try:
            if self._named is None:
                self._desk.open(places.candidates())
            self._attempt = self._elector.attempt(
                job.election,
                job.candidate,
                ttl=job.ttl,
                wait=job.plan.wait,
                grace=job.grace,
                margin=job.margin,
                on_change=partial(self._post_to, term),
                on_trouble=lambda error: self._inbox.post(partial(self._trouble, error)),
            )
        except CannotRun as error:
            self._post(orders.AttemptFailed(error, transient=True))
        except ElectctlError as error:
            self._post(orders.AttemptFailed(error))
        else:
            won = partial(self._post_win, term)
            self._workers.do(
                partial(errands.run_attempt, self._attempt, won, partial(self._post_to, term))
            )

    def _check_attempt(self) -> None:
        """The client library may hang: what the attempt should have said by now is said for it."""
        if self._attempt is None:
            return
        seen = self._seen_leading
        wait = self._job.plan.wait
        error = errands.overdue(self._attempt, self._attempt_began, wait, seen=seen)
        if error is not None:
            self._workers.do(self._attempt.cancel)
            self._post(orders.AttemptFailed(error))

    def _start(self, job: orders.Job) -> None:
        argv = self._job.argv
        reason = ""
        if job == "on_elected":
            argv = (*hooks.SHELL, self._job.on_elected or "")
            reason = "elected"
        self._foreground.lend()
        try:
            self._guardian.start(argv, self._environment(reason))
        except CannotRun as error:  # it died a moment ago, and its own word comes next
            self._post(GuardianDied())
            self._post(CannotStart(error.exit_code, error.message))

    def _run_on_lost(self, reason: str) -> None:
        line = self._job.on_lost or ""
        try:
            self._hook = hooks.Hook(line, self._environment(reason))
        except OSError as error:
            message = f"--on-lost cannot be run: {error.strerror}"
            self._emit(orders.Tell("warning", {"message": message}))
            self._post(orders.HookEnded())
        else:
            self._workers.do(partial(self._wait_for_hook, self._hook, self._term))

    def _wait_for_hook(self, hook: hooks.Hook, term: Term) -> None:
        complaint = hook.wait()
        if complaint:
            self._warn_from_anywhere(complaint)
        self._post_to(term, orders.HookEnded())

    def _look(self, term: Term) -> None:
        try:
            holder = self._elector.holder(self._job.election)
        except ElectctlError:
            return
        if holder is not None:
            self._inbox.post(partial(self._say_who_leads, term, holder.id, holder.token))

    def _say_who_leads(self, term: Term, holder: str, token: int | None) -> None:
        if term is self._term and term.stage == "waiting":
            self._seen_leading = True
            self._show(self._event("waiting", {}, holder, token))

    # When all else fails --------------------------------------------------------------------------

    def _rescue(self, error: InternalError) -> orders.Finish:
        """Stop the tree and give the leadership back without the machine, which has failed.

        What is not done in time is left to the guardian: we are gone without goodbye.
        """
        grace = 0.0 if self._leadership is None else self._leadership.timing.grace
        self._guardian.stop(grace)
        alive, until = self._term.tree.alive, now() + grace + _RESCUE_LIMIT
        while alive and now() < until:
            if not self._guardians_words:
                self._selector.select(_LONGEST_WAIT)
                self._inbox.take()
                self._guardians_words.extend(self._guardian.receive())
            while self._guardians_words:
                alive &= not isinstance(self._guardians_words.popleft(), TreeGone | CannotStart)
        self.in_order = not alive
        if self._leadership is not None and not alive:
            released = self._workers.finish(self._leadership.release, ANSWER_LIMIT)
            self.in_order = released and self._leadership.release_error is None
        return orders.Finish("internal_error", error.exit_code, error.message, error.hint)

    # Events --------------------------------------------------------------------------------------

    def _emit(self, tell: orders.Tell) -> None:
        term = self._term
        holder = None if term.elected_at is None else self._job.candidate
        self._show(self._event(tell.event, tell.details, holder, term.token, tell.at))

    def _show(self, event: Event) -> None:
        self._tell(event)
        if self._notifier is None:
            return
        election = self._job.election
        match event.event:
            case "elected":
                self._notifier.ready(f"leading {election!r}")
            case "campaigning" | "again":
                self._notifier.status(f"waiting to lead {election!r}")
            case "waiting":
                self._notifier.status(f"waiting: {event.holder!r} leads {election!r}")
            case "lost" | "released":
                self._notifier.status(f"no longer leading {election!r}")

    def _event(
        self,
        name: str,
        details: Mapping[str, object],
        holder: str | None,
        token: int | None,
        at: float | None = None,
    ) -> Event:
        return Event(
            name,
            self._job.election,
            self._job.scheme,
            holder,
            token,
            {"candidate": self._job.candidate, **details},
            int((now() if at is None else at) * 1e9),
        )

    def _environment(self, reason: str) -> dict[str, str]:
        spot = self._desk.spot
        return environment(
            self._job,
            token=self._term.token,
            token_kind=self._elector.traits.token,
            socket=None if spot is None else spot.path,
            reason=reason,
        )
