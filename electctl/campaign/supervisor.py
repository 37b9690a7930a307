"""Carries out what :mod:`electctl.campaign.term` says: signals, guardian, socket, store, events.

What this does not guarantee: anything about what the command does elsewhere. What it can do, and
what nobody can, is in :mod:`electctl.campaign.guardian`.

One thread, the caller's, runs the machine and owns the guardian. It waits in one place, for a
signal, the guardian, or a message from a worker, and never for the store: whatever may block runs
in a worker thread that posts its answer. A worker that crashes takes the whole campaign down, which
kills the command and releases nothing.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from electctl import lease
from electctl.campaign import hooks, once, orders
from electctl.campaign.answer import Desk, new_home
from electctl.campaign.channel import GuardianDied
from electctl.campaign.keep import Keep
from electctl.campaign.term import Term
from electctl.clock import now, timestamp
from electctl.errors import CannotRun, ElectctlError
from electctl.events import Event

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from electctl.campaign.guardian import Guardian
    from electctl.elector import Attempt, LeaderElector
    from electctl.leadership import Leadership

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOT_PASSED_ON = frozenset({"ELECTCTL_PASSWORD", "ELECTCTL_REASON"})
#: select(2) does not count the time that the machine sleeps, so no wait is longer than this.
_LONGEST_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """What a campaign was asked to do. Times in seconds."""

    election: str
    candidate: str
    scheme: str
    #: The backend's URL without its password.
    url: str
    argv: tuple[str, ...] = ()
    ttl: float | None = None
    grace: float | None = None
    wait: float | None = None
    on_elected: str | None = None
    on_lost: str | None = None
    once: str | None = None
    plan: orders.Plan = field(default_factory=orders.Plan)


@dataclass(frozen=True, slots=True)
class _Won:
    """A worker's word: the attempt of this term won."""

    leadership: Leadership


class Inbox:
    """Messages from workers and signals to the one thread that runs the machine."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._messages: deque[Callable[[], None]] = deque()
        self._signals: deque[int] = deque()
        self._caught_signals: list[int] = []

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._reading

    def post(self, message: Callable[[], None]) -> None:
        """From any thread: have the main thread call ``message``."""
        self._messages.append(message)
        self._wake()

    def take(self) -> tuple[list[int], list[Callable[[], None]]]:
        """The signals and messages that have come."""
        try:
            while os.read(self._reading, 4096):
                pass
        except BlockingIOError:
            pass
        signals = [self._signals.popleft() for _ in range(len(self._signals))]
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        return signals, messages

    def __enter__(self) -> Self:
        """Catch the signals that tell us to stop, except those that are ignored (nohup, ``&``)."""
        for signum in STOP_SIGNALS:
            if signum == signal.SIGTERM or signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self._caught)
                self._caught_signals.append(signum)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Ignored from here on: what is left to do is to report how it ended.
        for signum in self._caught_signals:
            signal.signal(signum, signal.SIG_IGN)

    def _caught(self, signum: int, frame: object) -> None:
        self._signals.append(signum)
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full, so it will be read
            os.write(self._writing, b"\0")


class Supervisor:
    """Runs one campaign to its end. Made in the main thread, before any other thread.

    ``tell`` gets every event; it must not block. ``guardian`` is None where nothing is to be run.
    """

    def __init__(
        self,
        job: Job,
        elector: LeaderElector,
        guardian: Guardian | None,
        inbox: Inbox,
        tell: Callable[[Event], None],
    ) -> None:
        self._job = job
        self._elector = elector
        self._guardian = guardian
        self._inbox = inbox
        self._tell = tell
        self._crash: BaseException | None = None
        self._guardian_dead = False
        self._told_to_stop = 0
        self._noted: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(inbox, selectors.EVENT_READ, self._read_inbox)
        if guardian is not None:
            self._selector.register(guardian, selectors.EVENT_READ, self._read_guardian)
        self._begin()

    def run(self, keep: Keep) -> tuple[orders.Finish, Term]:
        """Campaign until there is nothing left to do; the last term and how it ended."""
        threading.excepthook = partial(self._on_crash, threading.excepthook)
        while True:
            self._campaign()
            term, finish = self._term, self._finish
            assert finish is not None
            led = None if term.elected_at is None else now() - term.elected_at
            # A tree that cannot be killed keeps its guardian, and what it did may not be over.
            stop = bool(self._told_to_stop) or self._guardian_dead or term.tree_alive
            pause = keep.after(finish.outcome, led, told_to_stop=stop)
            if pause is None:
                return finish, term
            self._emit(orders.Tell("again", {"pause": round(pause, 1)}))
            signum = self._pause(pause)
            self._begin()
            if signum is not None:
                return orders.Finish("interrupted", 128 + signum), self._term

    def _begin(self) -> None:
        self._term = Term(self._job.plan)
        self._finish: orders.Finish | None = None
        self._leadership: Leadership | None = None
        self._desk: Desk | None = None
        self._hook: hooks.Hook | None = None
        self._attempt: Attempt | None = None
        self._troubles: set[str] = set()

    # One term ------------------------------------------------------------------------------------

    def _campaign(self) -> None:
        term = self._term
        post = partial(self._post_to, term)
        if self._guardian is not None:
            self._desk = _open_desk(self._guardian)
        self._attempt = self._elector.attempt(
            self._job.election,
            self._job.candidate,
            ttl=self._job.ttl,
            wait=self._job.wait,
            grace=self._job.grace,
            on_change=post,
            on_trouble=lambda error: self._inbox.post(partial(self._trouble, error)),
        )
        self._carry_out(term.begin(now()))
        if self._guardian_dead:
            self._feed(GuardianDied())
        self._work(self._run_attempt, self._attempt, term)
        try:
            while self._finish is None:
                self._wait(term.wake_at())
                self._feed(lease.Tick())
        finally:
            if self._desk is not None:
                self._desk.close()

    def _wait(self, until: float | None) -> None:
        pause = None if until is None else min(max(0.0, until - now()), _LONGEST_WAIT)
        for key, _ in self._selector.select(pause):
            key.data()
        if self._crash is not None:
            raise self._crash

    def _pause(self, seconds: float) -> int | None:
        """Wait between two terms; the signal that ended it, if one did.

        The term is over, so it takes no notice of what it is fed meanwhile.
        """
        until = now() + seconds
        while now() < until:
            self._wait(until)
            if self._told_to_stop:
                return self._told_to_stop
        return None

    def _read_inbox(self) -> None:
        signals, messages = self._inbox.take()
        for signum in signals:
            self._told_to_stop = signum
            self._feed(orders.Signalled(signum))
        for message in messages:
            message()

    def _read_guardian(self) -> None:
        assert self._guardian is not None
        for event in self._guardian.receive():
            self._guardian_dead |= isinstance(event, GuardianDied)
            self._feed(event)

    def _feed(self, event: orders.Event) -> None:
        self._carry_out(self._term.handle(event, now()))

    # From workers --------------------------------------------------------------------------------

    def _work(self, function: Callable[..., None], *args: object) -> None:
        threading.Thread(
            target=function, args=args, name=f"electctl{function.__name__}", daemon=True
        ).start()

    def _on_crash(
        self, usual: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs
    ) -> None:
        if args.thread is not None and args.thread.name.startswith("electctl"):
            self._crash = args.exc_value
            self._inbox.post(lambda: None)
        else:
            usual(args)  # a client library's own thread

    def _post_to(self, term: Term, message: orders.Event | _Won) -> None:
        """From any thread; what comes after the term's end is dropped."""
        self._inbox.post(partial(self._receive, term, message))

    def _receive(self, term: Term, message: orders.Event | _Won) -> None:
        if term is not self._term:
            return
        if isinstance(message, _Won):
            leadership = self._leadership = message.leadership
            if self._desk is not None:
                self._desk.leadership = leadership
            for note in sorted(self._elector.backend.notes - self._noted):
                self._emit(orders.Tell("warning", {"message": note}))
                self._noted.add(note)
            message = orders.Elected(leadership.token, leadership.timing.grace)
        self._feed(message)

    def _run_attempt(self, attempt: Attempt, term: Term) -> None:
        try:
            leadership = attempt.run()
        except ElectctlError as error:
            self._post_to(term, orders.AttemptFailed(error))
        else:
            self._post_to(term, _Won(leadership))

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
                case orders.Cancel() if self._attempt is not None:
                    self._work(self._attempt.cancel)
                case orders.Look():
                    self._work(self._look, self._term)
                case orders.RunOnLost(reason=reason):
                    self._run_on_lost(reason)
                case orders.StopOnLost() if self._hook is not None:
                    self._hook.kill()
                case orders.StartJob(job=job):
                    self._start(job)
                case orders.ReadMark() | orders.WriteMark() | orders.Release():
                    self._work(self._ask_store, instruction, self._leadership, self._term)
                case _ if self._guardian is not None:
                    self._guard(self._guardian, instruction)

    def _guard(self, guardian: Guardian, instruction: orders.Instruction) -> None:
        match instruction:
            case orders.Feed(terminate_at=terminate_at, kill_at=kill_at):
                guardian.deadline(terminate_at, kill_at)
            case orders.Forward(signum=signum):
                guardian.signal(signum)
            case orders.StopTree(grace=grace):
                guardian.stop(grace)
            case orders.KillTree():
                guardian.kill()

    def _start(self, job: orders.Job) -> None:
        assert self._guardian is not None
        argv = self._job.argv
        reason = ""
        if job == "on_elected":
            argv = (*hooks.SHELL, self._job.on_elected or "")
            reason = "elected"
        self._guardian.start(argv, self._environment(reason))

    def _run_on_lost(self, reason: str) -> None:
        line = self._job.on_lost or ""
        try:
            self._hook = hooks.Hook(line, self._environment(reason))
        except OSError as error:
            message = f"--on-lost cannot be run: {error.strerror}"
            self._emit(orders.Tell("warning", {"message": message}))
            self._post_to(self._term, orders.HookEnded())
        else:
            self._work(self._wait_for_hook, self._hook, self._term)

    def _wait_for_hook(self, hook: hooks.Hook, term: Term) -> None:
        complaint = hook.wait()
        if complaint:
            warning = orders.Tell("warning", {"message": complaint})
            self._inbox.post(partial(self._emit, warning))
        self._post_to(term, orders.HookEnded())

    def _ask_store(
        self, instruction: orders.Instruction, leadership: Leadership, term: Term
    ) -> None:
        key = self._job.once or ""
        match instruction:
            case orders.ReadMark():
                try:
                    self._post_to(term, orders.MarkRead(once.find(leadership, key)))
                except ElectctlError as error:
                    self._post_to(term, orders.MarkRead(error=error))
            case orders.WriteMark():
                try:
                    once.write(leadership, key)
                    self._post_to(term, orders.MarkWritten())
                except ElectctlError as error:
                    self._post_to(term, orders.MarkWritten(error))
            case orders.Release():
                leadership.release()
                self._post_to(term, orders.GivenBack(leadership.release_error))

    def _look(self, term: Term) -> None:
        try:
            holder = self._elector.holder(self._job.election)
        except ElectctlError:
            return
        if holder is not None:
            self._inbox.post(partial(self._say_who_leads, term, holder.id, holder.token))

    def _say_who_leads(self, term: Term, holder: str, token: int | None) -> None:
        if term is self._term and term.stage == "waiting":
            self._tell(self._event("waiting", {}, holder, token))

    # Events and environment ----------------------------------------------------------------------

    def _emit(self, tell: orders.Tell) -> None:
        term = self._term
        holder = None if term.elected_at is None else self._job.candidate
        self._tell(self._event(tell.event, tell.details, holder, term.token, tell.at))

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
        """What the command and the hooks get: ours, without the password, and what they ask."""
        token = self._term.token
        env = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        env |= {
            "ELECTCTL_ELECTION": self._job.election,
            "ELECTCTL_ID": self._job.candidate,
            "ELECTCTL_BACKEND": self._job.url,
            "ELECTCTL_TOKEN": "" if token is None else str(token),
            "ELECTCTL_TOKEN_KIND": "none" if token is None else self._elector.traits.token,
            "ELECTCTL_SOCKET": "" if self._desk is None else str(self._desk.path),
        }
        if reason:
            env["ELECTCTL_REASON"] = reason
        return env


def _open_desk(guardian: Guardian) -> Desk:
    try:
        home = new_home()
        guardian.remove_at_end(home)
        return Desk(home)
    except OSError as error:
        raise CannotRun(
            f"the socket for the command cannot be made: {error.strerror}",
            hint="is there room in the directory for temporary files (TMPDIR)?",
        ) from None


def summary(job: Job, finish: orders.Finish, term: Term | None, terms: int) -> dict[str, object]:
    """What ``--result`` holds; ``term`` is None if it never came to a campaign."""

    def stamp(at: float | None) -> str | None:
        return None if at is None else timestamp(at)

    margin = None if term is None else term.margin
    return {
        "outcome": finish.outcome,
        "exit_code": finish.exit_code,
        "message": finish.message,
        "election": job.election,
        "backend": job.scheme,
        "candidate": job.candidate,
        "command_exit": None if term is None else term.command_exit,
        "token": None if term is None else term.token,
        "elected_at": stamp(None if term is None else term.elected_at),
        "lost_at": stamp(None if term is None else term.lost_at),
        "lost_reason": None if term is None else term.lost_reason,
        "stopped_at": stamp(None if term is None else term.stopped_at),
        "margin_ms": None if margin is None else round(margin * 1000),
        "terms": terms,
    }


def new_keep(enabled: bool, max_terms: int | None) -> Keep:
    """The back-off of ``--keep``, with the usual random source."""
    return Keep(enabled, max_terms, random.random)
