"""An attempt whose request does not end, or that Ctrl-C ends: nothing is held up, and nothing kept.

What this does not show: any store (tests/test_conformance_*.py).
"""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

import pytest
from electctl_file import TRAITS
from electctl_file.backend import FileBackend

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Grant, Holder, View, Watch
from electctl.contract.url import BackendURL
from electctl.core import lease
from electctl.core.elector import LeaderElector
from electctl.core.polling import PollingWatch
from electctl.errors import (
    NotElected,
    Unreachable,
)
from tests.scripted import (
    Answer,
    Scripted,
    ScriptedBackend,
    granting,
    wait_in_vain,
    win,
)


class Stuck(Scripted):
    """Its client library is in a system call until somebody lets it go."""

    def __init__(self, bid: Bid, answers: list[Answer]) -> None:
        super().__init__(bid, answers)
        self.let_go = threading.Event()
        self.closed = threading.Event()

    def acquire(self, deadline: float | None) -> Grant | None:
        self.let_go.wait(30)
        return super().acquire(deadline)

    def close(self) -> None:
        super().close()
        self.closed.set()


class StuckBackend(ScriptedBackend):
    def candidacy(self, bid: Bid) -> Candidacy:
        self.given.append(Stuck(bid, self.answers))
        return self.given[-1]

    @property
    def stuck(self) -> Stuck:
        (found,) = self.given
        assert isinstance(found, Stuck)
        return found


def test_a_request_that_does_not_end_does_not_hold_up_the_wait() -> None:
    """And the grant that it brings late is given back, by whoever was left behind with it."""
    backend = StuckBackend([win])
    began = now()
    with pytest.raises(Unreachable, match=r"did not answer in time \(waited 0\.5 s\)"):
        LeaderElector(backend).campaign("e", "a", wait=0.5)
    assert now() - began < 0.5 + 2
    assert backend.stuck.log == []
    assert backend.stuck.cancelled.is_set()
    backend.stuck.let_go.set()
    assert backend.stuck.closed.wait(5)
    assert backend.stuck.log == ["release", "close"]


def test_a_request_that_does_not_end_does_not_hold_up_a_cancel() -> None:
    backend = StuckBackend([win])
    attempt = LeaderElector(backend).attempt("e", "a")
    threading.Timer(0.1, attempt.cancel).start()
    began = now()
    with pytest.raises(NotElected, match="cancelled"):
        attempt.run()
    assert now() - began < 4
    backend.stuck.let_go.set()
    assert backend.stuck.closed.wait(5)
    assert backend.stuck.log == ["release", "close"]


def test_no_first_contact_is_waited_for_longer_than_ten_seconds() -> None:
    backend = StuckBackend([win])
    began = now()
    with pytest.raises(Unreachable):
        LeaderElector(backend).campaign("e", "a")
    assert 10 <= now() - began < 13
    backend.stuck.let_go.set()


def test_a_withdrawal_that_does_not_end_holds_up_nobody() -> None:
    class Slow(Scripted):
        let_go = threading.Event()

        def release(self) -> None:
            self.let_go.wait(30)

    class SlowBackend(ScriptedBackend):
        def candidacy(self, bid: Bid) -> Candidacy:
            self.given.append(Slow(bid, self.answers))
            return self.given[-1]

    began = now()
    with pytest.raises(NotElected, match="somebody leads"):
        LeaderElector(SlowBackend([wait_in_vain])).campaign("e", "a", wait=0.3)
    assert now() - began < 4
    Slow.let_go.set()


def test_an_interrupted_wait_withdraws() -> None:
    """KeyboardInterrupt in the thread that waits, which a signal handler may raise."""
    backend = ScriptedBackend([wait_in_vain])

    class Interrupt(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupt):
            LeaderElector(backend).campaign("e", "a")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert backend.given[0].log == ["release", "close"]


def test_a_grant_that_comes_with_the_interrupt_is_given_back() -> None:
    class Interrupt(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupt

    def win_when_cancelled(candidacy: Scripted, deadline: float | None) -> Grant | None:
        candidacy.cancelled.wait(10)
        return win(candidacy, deadline)

    backend = ScriptedBackend([win_when_cancelled])
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupt):
            LeaderElector(backend).campaign("e", "a")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert backend.given[0].log == ["release", "close"]


def test_a_grant_that_comes_after_a_second_interrupt_is_given_back() -> None:
    """Whoever is in a hurry presses Ctrl-C again while the first one is being served."""

    class Interrupt(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupt

    backend = StuckBackend([win])
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        with pytest.raises(Interrupt):
            LeaderElector(backend).campaign("e", "a")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    backend.stuck.let_go.set()
    assert backend.stuck.closed.wait(5), "nobody gives back what came late"
    assert backend.stuck.log == ["release", "close"]


# Asking a leader to stop --------------------------------------------------------------------------


class RarelyLooked(FileBackend):
    """Its watch looks every ten minutes; who leads is asked to stop, and does."""

    def __init__(self) -> None:
        super().__init__(BackendURL.parse("file:///nowhere"))
        self.views = [View(Holder("a", 1, "k")), View(None)]

    def evict(self, election: str, *, force: bool) -> Holder | None:
        return self.views[0].holder

    def view(self, election: str) -> View:
        return self.views.pop(0)

    def watch(self, election: str) -> Watch:
        return PollingWatch(partial(self.view, election), 600)


def test_who_has_stopped_within_the_wait_is_not_said_to_lead() -> None:
    """Where the watch would have looked later, too."""
    target = LeaderElector(RarelyLooked()).evict("e", wait=0.05)
    assert target == Holder("a", 1, "k")


# Clocks that drift ------------------------------------------------------------------------------


def test_a_scheme_that_takes_no_allowance_off_is_not_believed() -> None:
    """Although it declares that it does: neither for the grant nor for a renewal."""
    backend = ScriptedBackend([win], replace(TRAITS, drift="scheme"))
    told: SimpleQueue[lease.Extended] = SimpleQueue()

    def note(instruction: lease.Instruction) -> None:
        if isinstance(instruction, lease.Extended):
            told.put(instruction)

    with LeaderElector(backend).attempt("e", "a", ttl=6.0, on_change=note).run():
        for _ in ("grant", "renewal"):
            extended = told.get(timeout=10)
            assert extended.valid_until <= extended.since + 6.0 - lease.drift_allowance(6.0)


def test_a_grant_with_the_allowance_taken_off_keeps_the_plan() -> None:
    """It is not taken off again, and the store did not grant another TTL."""
    left = 6.0 - lease.drift_allowance(6.0)
    backend = ScriptedBackend([granting(left)], replace(TRAITS, drift="scheme"))
    elector = LeaderElector(backend)
    with elector.campaign("e", "a", ttl=6.0) as leadership:
        planned = elector.timing(6.0)
        assert leadership.timing.ttl == pytest.approx(planned.ttl)
        assert leadership.timing.renew_interval == pytest.approx(planned.renew_interval)


# Margin -------------------------------------------------------------------------------------------
