"""The actors of one case: electors, contenders in threads and processes, observers, witnesses.

What this does not guarantee: exact times. Every wait has a deadline, and what a case asserts of
time it asserts on readings of :func:`electctl.base.clock.now`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from electctl.base.clock import now
from electctl.core import lease
from electctl.core.elector import Attempt, LeaderElector
from electctl.core.leadership import Leadership
from electctl.core.observe import Change, Observation
from electctl.errors import ElectctlError, NotElected
from electctl.testing.harness import Harness, Link

#: Seconds allowed for a busy machine wherever a case states a bound.
SLACK = 1.5
#: Seconds to wait for what must come, where its being late would prove nothing.
PATIENCE = 15.0
_POLL = 0.01


def eventually(what: str, holds: Callable[[], bool], within: float) -> float:
    """Wait until ``holds()``; fail after ``within`` seconds. Returns the seconds it took."""
    began = now()
    pause = threading.Event()
    while not holds():
        if now() - began > within:
            raise AssertionError(f"not within {within:.2f} s: {what}")
        pause.wait(_POLL)
    return now() - began


def let_pass(seconds: float) -> None:
    """Let time pass in which something must *not* happen."""
    threading.Event().wait(seconds)


class Contender:
    """A campaign in a thread of its own."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.id = attempt.bid.candidate
        self.leadership: Leadership | None = None
        self.error: ElectctlError | None = None
        self.elected_at: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"contender-{self.id[:20]}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            self.leadership = self.attempt.run()
            self.elected_at = now()
        except ElectctlError as error:
            self.error = error
        finally:
            self._done.set()

    @property
    def waits(self) -> bool:
        """Whether it has neither won nor given up."""
        return not self._done.is_set()

    def elected(self, within: float) -> Leadership:
        """The leadership, which must come within so many seconds."""
        assert self._done.wait(within), f"{self.id!r} was not elected within {within:.2f} s"
        if self.error is not None:
            raise self.error
        assert self.leadership is not None, f"{self.id!r} ended without an answer"
        return self.leadership

    def ends(self, within: float) -> None:
        """Wait until it has won or given up, which must come within so many seconds."""
        assert self._done.wait(within), f"{self.id!r} still waits after {within:.2f} s"

    def failed(self, within: float) -> ElectctlError:
        """The error, which must come within so many seconds."""
        assert self._done.wait(within), f"{self.id!r} still waits after {within:.2f} s"
        assert self.error is not None, f"{self.id!r} was elected"
        return self.error

    def close(self) -> None:
        """Give up, and give back what was won. It must not hang."""
        self.attempt.cancel()
        self._thread.join(30)
        assert not self._thread.is_alive(), f"{self.id!r} hangs"
        if self.leadership is not None:
            self.leadership.release()


class Observer:
    """Collects the changes of an :class:`electctl.core.observe.Observation`."""

    def __init__(self, elector: LeaderElector, election: str) -> None:
        self._observation = Observation(elector.backend, election)
        self._changes: SimpleQueue[Change | ElectctlError] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for change in self._observation:
                self._changes.put(change)
        except ElectctlError as error:
            self._changes.put(error)

    def next(self, within: float, *, skip: tuple[str, ...] = ("waiting",)) -> Change:
        """The next change of a kind that is not in ``skip``."""
        deadline = now() + within
        while True:
            try:
                change = self._changes.get(timeout=max(0.0, deadline - now()))
            except Empty:
                raise AssertionError(f"no change was seen within {within:.2f} s") from None
            if isinstance(change, ElectctlError):
                raise change
            if change.kind not in skip:
                return change

    def until(self, kind: str, within: float) -> Change:
        """The next change of that kind; what comes before it is passed over."""
        deadline = now() + within
        while True:
            change = self.next(max(0.0, deadline - now()), skip=())
            if change.kind == kind:
                return change

    def close(self) -> None:
        self._observation.close()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the observer hangs"


class ProcessContender:
    """A campaign in a process of its own: electctl.testing.contender."""

    def __init__(self, order: dict[str, object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "electctl.testing.contender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        # On stdin, because a URL may hold a password and the list of processes is public.
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._lines: SimpleQueue[dict[str, object]] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="reader")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put({})

    def go_on(self) -> None:
        """The word that a child waits for that is ``alone``."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def resume(self) -> None:
        """SIGCONT, if a child has stopped it."""
        self._process.send_signal(signal.SIGCONT)

    def next(self, within: float = 30) -> dict[str, object]:
        """The next line that it prints; {} at its end."""
        try:
            return self._lines.get(timeout=within)
        except Empty:
            raise AssertionError(f"a contender said nothing for {within:g} s") from None

    def until(self, event: str) -> dict[str, object]:
        """The next line that tells of ``event``."""
        while line := self.next():
            if line["event"] == event:
                return line
        raise AssertionError(f"a contender ended without {event!r}")

    def kill(self) -> None:
        """SIGKILL: it gives nothing back."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        # Its children too: one that a client library has stuck in a fork would never end.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()


@dataclass(frozen=True)
class Term:
    """From the moment at which somebody was sure to lead to the one at which it stopped."""

    id: str
    token: int | None
    began: float
    ended: float


class Witness:
    """Stands where only one may be at a time."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self._inside = threading.Lock()
        self._book = threading.Lock()

    @contextmanager
    def inside(self, leadership: Leadership) -> Iterator[None]:
        """Act as the leader."""
        assert self._inside.acquire(blocking=False), f"{leadership.candidate!r} met another leader"
        began = now()
        try:
            yield
        finally:
            ended = now()
            self._inside.release()
            with self._book:
                self.terms.append(Term(leadership.candidate, leadership.token, began, ended))


def check_terms(terms: list[Term], *, tokens: bool) -> None:
    """No two terms overlap; where there are tokens, later terms have greater ones."""
    ordered = sorted(terms, key=lambda term: term.began)
    for earlier, later in itertools.pairwise(ordered):
        assert earlier.ended <= later.began, f"two leaders: {earlier} and {later}"
        if tokens:
            assert earlier.token is not None, f"no token: {earlier}"
            assert later.token is not None, f"no token: {later}"
            assert earlier.token < later.token, f"token did not grow: {earlier}, {later}"
        else:
            assert earlier.token is None, f"traits.token is none, yet {earlier}"


class Stage:
    """Everybody who takes part in one case, and all that must be cleared away after it."""

    def __init__(self, harness: Harness, election: str) -> None:
        self.harness = harness
        self.election = election
        self.ttl = harness.ttl
        self.exits = ExitStack()
        self.elector = self.open()
        self.traits = self.elector.traits

    @property
    def has_tokens(self) -> bool:
        """Whether this scheme gives fencing tokens."""
        return self.traits.token != "none"

    @property
    def wake_up(self) -> float:
        """Seconds within which a release wakes the next, on a quiet machine."""
        return 0.25 + (self.traits.poll_interval or 0.0)

    @property
    def succession(self) -> float:
        """Seconds within which somebody else leads after the leader's death, by the traits."""
        return self.succession_of()

    def succession_of(
        self,
        *,
        ttl: float | None = None,
        holder_ttl: float | None = None,
        dead_waiters: int = 0,
    ) -> float:
        """:attr:`succession` for other TTLs asked for, or where waiters vanish with the leader."""
        own, held = (self.elector.timing(asked or self.ttl).ttl for asked in (ttl, holder_ttl))
        bound = self.traits.failover_bound(own, holder_ttl=held, dead_waiters=dead_waiters)
        return bound + SLACK

    @property
    def timing(self) -> lease.Timing:
        """The timing of the TTL asked for; a store that grants more has another."""
        return self.elector.timing(self.ttl)

    def link(self) -> Link:
        """A way to the store that can be broken."""
        return self.exits.enter_context(self.harness.link())

    def open(self, link: Link | None = None, *, url: str | None = None) -> LeaderElector:
        """Another elector: another client of the store."""
        chosen = url or (self.harness.url if link is None else link.url)
        return self.exits.enter_context(self.harness.open(chosen))

    def contend(
        self,
        candidate: str,
        *,
        elector: LeaderElector | None = None,
        election: str | None = None,
        ttl: float | None = None,
        wait: float | None = None,
        on_change: Callable[[lease.Instruction], None] | None = None,
        on_trouble: Callable[[ElectctlError], None] | None = None,
    ) -> Contender:
        """A campaign in a thread of its own, with a client of its own unless one is given."""
        attempt = (elector or self.open()).attempt(
            election or self.election,
            candidate,
            ttl=self.ttl if ttl is None else ttl,
            wait=wait,
            on_change=on_change,
            on_trouble=on_trouble,
        )
        contender = Contender(attempt)
        self.exits.callback(contender.close)
        return contender

    def lead(
        self,
        candidate: str,
        *,
        elector: LeaderElector | None = None,
        election: str | None = None,
        within: float | None = None,
        on_change: Callable[[lease.Instruction], None] | None = None,
    ) -> Leadership:
        """A leadership, which must come soon."""
        contender = self.contend(candidate, elector=elector, election=election, on_change=on_change)
        return contender.elected(self.succession if within is None else within)

    def queue(
        self,
        candidate: str,
        *,
        elector: LeaderElector | None = None,
        ttl: float | None = None,
        wait: float | None = None,
    ) -> Contender:
        """A contender that has entered and waits: listed, where waiters are."""
        contender = self.contend(candidate, elector=elector, ttl=ttl, wait=wait)
        eventually(
            f"{candidate!r} waits",
            lambda: (
                contender.attempt.candidacy.contacted
                and (
                    not self.harness.lists_waiters
                    or candidate in self.elector.candidates(self.election)
                )
            ),
            PATIENCE,
        )
        assert contender.waits, f"{candidate!r} did not wait: {contender.error}"
        return contender

    def process(
        self,
        candidate: str,
        *,
        terms: int = 1,
        hold: float = 0.02,
        forks: Sequence[str] = (),
        alone: bool = False,
        link: Link | None = None,
        ttl: float | None = None,
    ) -> ProcessContender:
        """A contender in a process of its own, which leads ``terms`` times ``hold`` seconds.

        ``forks``: how the children leave that it makes, one after the other, in each term; each is
        ``alone`` if it is to stop its parent first.
        """
        found = ProcessContender(
            {
                "url": self.harness.url if link is None else link.url,
                "election": self.election,
                "candidate": candidate,
                "ttl": self.ttl if ttl is None else ttl,
                "terms": terms,
                "hold": hold,
                "forks": list(forks),
                "alone": alone,
            }
        )
        self.exits.callback(found.close)
        return found

    def observe(self, elector: LeaderElector | None = None) -> Observer:
        """Somebody who watches the election."""
        observer = Observer(elector or self.open(), self.election)
        self.exits.callback(observer.close)
        return observer

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The store is stopped, and started again whatever happens."""
        self.harness.stop()
        try:
            yield
        finally:
            self.harness.start()

    def when(self, event: threading.Event, act: Callable[[], None]) -> threading.Thread:
        """Do something in another thread once an event is set."""

        def run() -> None:
            if event.wait(30):
                act()

        thread = threading.Thread(target=run, name="when")
        thread.start()
        self.exits.callback(thread.join, 30)
        return thread

    def must_not_win(self, candidate: str) -> None:
        """One look by somebody else finds the place taken."""
        try:
            found = self.open().campaign(self.election, candidate, ttl=self.ttl, wait=0)
        except NotElected:
            return
        found.release()
        raise AssertionError(f"{candidate!r} was elected beside another leader")

    def gone(self, leadership: Leadership) -> None:
        """Check that a leadership is over in every respect."""
        assert leadership.lost.is_set()
        assert leadership.remaining() == 0
        assert leadership.reason is not None
