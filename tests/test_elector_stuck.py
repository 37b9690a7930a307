"""An attempt whose request does not end, or that Ctrl-C ends: nothing is held up, and nothing kept.

What this does not show: any store (tests/test_conformance_*.py).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Grant
from electctl.core.elector import LeaderElector
from electctl.errors import (
    NotElected,
    Unreachable,
)
from tests.scripted import (
    Answer,
    Scripted,
    ScriptedBackend,
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


class Interrupt(Exception):
    """As KeyboardInterrupt, but nobody's but ours."""


@contextmanager
def interrupted(after: float, *, again: float = 0.0) -> Iterator[None]:
    """The block must end with an Interrupt, raised after so many seconds, and as often as said."""

    def handler(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, after, again)
        with pytest.raises(Interrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_wait_withdraws() -> None:
    """KeyboardInterrupt in the thread that waits, which a signal handler may raise."""
    backend = ScriptedBackend([wait_in_vain])
    with interrupted(0.2):
        LeaderElector(backend).campaign("e", "a")
    assert backend.given[0].log == ["release", "close"]


def test_a_grant_that_comes_with_the_interrupt_is_given_back() -> None:
    def win_when_cancelled(candidacy: Scripted, deadline: float | None) -> Grant | None:
        candidacy.cancelled.wait(10)
        return win(candidacy, deadline)

    backend = ScriptedBackend([win_when_cancelled])
    with interrupted(0.2):
        LeaderElector(backend).campaign("e", "a")
    assert backend.given[0].log == ["release", "close"]


def test_a_grant_that_comes_after_a_second_interrupt_is_given_back() -> None:
    """Whoever is in a hurry presses Ctrl-C again while the first one is being served."""
    backend = StuckBackend([win])
    with interrupted(0.2, again=0.2):
        LeaderElector(backend).campaign("e", "a")
    backend.stuck.let_go.set()
    assert backend.stuck.closed.wait(5), "nobody gives back what came late"
    assert backend.stuck.log == ["release", "close"]
