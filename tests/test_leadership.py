"""The threads around the timing machine: what a leader sees, whatever its client library does.

What this does not show: any store (tests/test_conformance_*.py). The candidacy here does what each
test says.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from electctl_file.backend import FileBackend

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.contract.url import BackendURL
from electctl.core import lease
from electctl.core.leadership import Leadership
from electctl.core.lease import Ended, Extended, RenewalFailed, SendRenewal, StepDown, Timing
from electctl.errors import (
    ElectctlError,
    LeadershipLost,
    OutcomeUnknown,
    Refused,
    Throttled,
    Unreachable,
)

TTL = 0.9
SOON = 5.0


class Scripted(Candidacy):
    """``on_renew`` and ``on_write`` say what the store does."""

    def __init__(self) -> None:
        self.on_renew: Callable[[], Renewal] = lambda: Renewal(now(), TTL)
        self.on_write: Callable[[], None] = lambda: None
        self.on_release: Callable[[], None] = lambda: None
        self.log: list[str] = []
        self.writes: list[tuple[str, bytes, int]] = []
        self.renewed = threading.Event()

    def acquire(self, deadline: float | None) -> Grant | None:
        raise NotImplementedError

    def renew(self) -> Renewal:
        self.log.append("renew")
        try:
            return self.on_renew()
        finally:
            self.renewed.set()

    def release(self) -> None:
        self.log.append("release")
        self.on_release()

    def cancel(self) -> None:
        raise NotImplementedError

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        self.writes.append((slot, value, seq))
        self.on_write()

    def close(self) -> None:
        self.log.append("close")


class Play:
    """One leadership of a scripted candidacy, and all that it told."""

    def __init__(self) -> None:
        self.candidacy = Scripted()
        self.told: list[lease.Instruction] = []
        self.told_at: list[float] = []
        self.on_extended: Callable[[], None] = lambda: None
        self._leaderships: list[Leadership] = []

    def lead(self, *, age: float = 0.0, ttl: float = TTL) -> Leadership:
        timing = Timing.plan(ttl)
        leadership = Leadership(
            FileBackend(BackendURL.parse("file:///nowhere")),
            self.candidacy,
            Bid("e", "a", ttl, timing.request_timeout),
            Grant(7, now() - age, ttl),
            timing,
            self._listen,
        )
        self._leaderships.append(leadership)
        return leadership

    def _listen(self, instruction: lease.Instruction) -> None:
        self.told.append(instruction)
        self.told_at.append(now())
        if isinstance(instruction, Extended):
            self.on_extended()

    def when(self, kind: type[lease.Instruction]) -> float:
        """When the first of that kind was told."""
        found = zip(self.told, self.told_at, strict=True)
        return next(at for told, at in found if isinstance(told, kind))

    def close(self) -> None:
        for leadership in self._leaderships:
            leadership.release()


@pytest.fixture
def play() -> Iterator[Play]:
    found = Play()
    yield found
    found.close()


def unreachable() -> Renewal:
    raise Unreachable("no contact")


def test_it_is_renewed_and_says_so(play: Play) -> None:
    leadership = play.lead()
    assert play.candidacy.renewed.wait(SOON)
    assert isinstance(play.told[0], Extended)
    assert any(isinstance(told, SendRenewal) for told in play.told)
    leadership.check()
    assert leadership.reason is None
    assert leadership.token == 7


def test_a_client_that_hangs_delays_no_deadline(play: Play) -> None:
    """The call comes back only when the leadership is long over."""
    let_go = threading.Event()

    def hang() -> Renewal:
        let_go.wait(SOON)
        return Renewal(now(), TTL)

    play.candidacy.on_renew = hang
    leadership = play.lead()
    valid_until = leadership.valid_until
    try:
        assert leadership.lost.wait(SOON)
        assert now() < valid_until
        assert leadership.remaining() > 0, "what is left is for stopping"
        threading.Event().wait(max(0.0, valid_until - now()))
        assert leadership.remaining() == 0
        with pytest.raises(LeadershipLost) as caught:
            leadership.check()
        assert caught.value.reason == "expired"
        began = now()
        leadership.release()
        assert now() - began < leadership.timing.request_timeout + 1.0
    finally:
        let_go.set()
    assert leadership.remaining() == 0


def test_sigterm_is_due_its_grace_before_sigkill_and_that_before_the_end(play: Play) -> None:
    play.candidacy.on_renew = unreachable
    leadership = play.lead()
    deadlines = play.told[0]
    assert isinstance(deadlines, Extended)
    assert leadership.lost.wait(SOON)
    assert play.when(StepDown) >= deadlines.terminate_at
    assert play.when(StepDown) < deadlines.kill_at
    assert any(told == RenewalFailed("no contact") for told in play.told)


def test_a_definite_no_ends_it_at_once(play: Play) -> None:
    def gone() -> Renewal:
        raise LeadershipLost("gone", reason="deleted")

    play.candidacy.on_renew = gone
    leadership = play.lead()
    assert leadership.lost.wait(SOON)
    assert leadership.remaining() == 0
    assert leadership.reason == "deleted"
    assert play.told[-1] == Ended("deleted")
    with pytest.raises(LeadershipLost, match="no longer holds our grant"):
        leadership.check()


def test_refused_credentials_are_no_answer_to_the_question_who_leads(play: Play) -> None:
    """The grant stands until it runs out: only the store's word on the grant ends it sooner."""

    def refused() -> Renewal:
        raise Refused("wrong password")

    play.candidacy.on_renew = refused
    leadership = play.lead()
    assert play.candidacy.renewed.wait(SOON)
    leadership.check()
    assert leadership.lost.wait(SOON)
    assert play.when(StepDown) >= leadership.valid_until - TTL


def test_a_grant_that_comes_after_its_deadline_is_lost_from_the_start(play: Play) -> None:
    leadership = play.lead(age=TTL * 0.8)
    assert leadership.lost.is_set()
    assert [type(told) for told in play.told[:2]] == [Extended, StepDown]


def test_a_grant_that_comes_after_its_end_was_never_led(play: Play) -> None:
    leadership = play.lead(age=TTL)
    assert leadership.lost.is_set()
    assert leadership.remaining() == 0
    with pytest.raises(LeadershipLost):
        leadership.check()


def test_being_asked_to_stop_is_told_and_leadership_goes_on(play: Play) -> None:
    play.candidacy.on_renew = lambda: Renewal(now(), TTL, stop_requested=True)
    leadership = play.lead()
    assert leadership.stop_requested.wait(SOON)
    leadership.check()
    assert not leadership.lost.is_set()


def test_release_is_sent_once_and_before_the_connection_is_closed(play: Play) -> None:
    with play.lead() as leadership:
        pass
    leadership.release()
    assert [entry for entry in play.candidacy.log if entry != "renew"] == ["release", "close"]
    assert play.told[-1] == Ended("released")
    assert leadership.lost.is_set(), "whoever loops on it acts on"
    assert leadership.remaining() == 0
    with pytest.raises(LeadershipLost, match="was released"):
        leadership.check()


def test_a_release_that_cannot_be_delivered_is_kept_and_raises_nothing(play: Play) -> None:
    def fail() -> None:
        raise Unreachable("no contact")

    play.candidacy.on_release = fail
    leadership = play.lead()
    leadership.release()
    assert isinstance(leadership.release_error, Unreachable)
    assert play.candidacy.log[-1] == "close"


def test_a_release_that_does_not_end_holds_up_nobody(play: Play) -> None:
    """A resolver that is silent, for one: the grant then runs out by itself."""
    let_go = threading.Event()
    play.candidacy.on_release = lambda: (let_go.wait(30), None)[1]
    leadership = play.lead()
    began = now()
    leadership.release()
    assert now() - began < 4
    assert isinstance(leadership.release_error, OutcomeUnknown)
    assert leadership.remaining() == 0
    let_go.set()


def test_an_interrupted_release_gives_back_all_the_same(play: Play) -> None:
    """Ctrl-C while a ``with`` block is left: nobody releases again, and it must not be renewed."""

    class Interrupt(Exception):
        pass

    def handler(*_: object) -> None:
        raise Interrupt

    busy, go_on, given_back = threading.Event(), threading.Event(), threading.Event()

    def hold_up() -> None:
        busy.set()
        go_on.wait(SOON)

    def keep_busy() -> Renewal:
        # It tells of its renewal with the machine locked; the release waits for that.
        play.on_extended = hold_up
        return Renewal(now(), TTL)

    play.candidacy.on_renew = keep_busy
    play.candidacy.on_release = given_back.set
    leadership = play.lead()
    assert busy.wait(SOON)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupt):
            leadership.release()
    finally:
        signal.signal(signal.SIGALRM, before)
        play.on_extended = lambda: None
        go_on.set()
    assert given_back.wait(SOON), "it is renewed for ever"
    assert leadership.remaining() == 0
    leadership.release()
    assert play.candidacy.log.count("release") == 1


def test_all_its_threads_are_there_from_the_start(play: Play) -> None:
    """A limit on processes that is reached later costs neither a renewal nor the release."""
    before = set(threading.enumerate())
    leadership = play.lead()
    ours = {thread.name for thread in set(threading.enumerate()) - before}
    assert ours == {"electctl-calls", "electctl-lease", "electctl-renew"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        assert play.candidacy.renewed.wait(SOON)
        leadership.release()
    assert leadership.release_error is None
    assert play.candidacy.log[-2:] == ["release", "close"]


def no_more_threads(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


# Checkpoints -------------------------------------------------------------------------------------


def test_each_value_has_its_own_number(play: Play) -> None:
    leadership = play.lead()
    leadership.checkpoint.set(b"one")
    leadership.checkpoint.set(b"two", "slot")
    assert play.candidacy.writes == [("", b"one", 1), ("slot", b"two", 2)]


@pytest.mark.parametrize("error", [Unreachable("silence"), OutcomeUnknown("silence")])
def test_an_unknown_write_is_repeated_under_its_number(play: Play, error: ElectctlError) -> None:
    answers = iter([error, None])

    def write() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    play.candidacy.on_write = write
    play.lead().checkpoint.set(b"v")
    assert play.candidacy.writes == [("", b"v", 1), ("", b"v", 1)]


def test_a_write_still_unknown_when_the_leadership_ends_is_unknown(play: Play) -> None:
    def write() -> None:
        raise Unreachable("silence")

    play.candidacy.on_write = write
    play.candidacy.on_renew = unreachable
    leadership = play.lead()
    with pytest.raises(OutcomeUnknown) as caught:
        leadership.checkpoint.set(b"v")
    assert caught.value.hint
    assert len(play.candidacy.writes) > 1


def test_a_store_that_asks_for_patience_gets_what_is_left_of_the_lease(play: Play) -> None:
    answers = iter([Throttled("slow down", retry_after=60.0), None])

    def write() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    play.candidacy.on_write = write
    leadership = play.lead(ttl=30.0)
    leadership.lost = waited = Waited()
    leadership.checkpoint.set(b"v")
    (pause,) = waited.pauses
    assert leadership.timing.retry_interval <= pause < 30
    assert len(play.candidacy.writes) == 2


class Waited(threading.Event):
    """Is over at once, and knows for how long it was to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        return self.is_set()


def test_a_stale_write_is_refused_and_not_repeated(play: Play) -> None:
    def write() -> None:
        raise LeadershipLost("gone", reason="deleted")

    play.candidacy.on_write = write
    with pytest.raises(LeadershipLost):
        play.lead().checkpoint.set(b"v")
    assert len(play.candidacy.writes) == 1


def test_nothing_is_written_once_it_is_over(play: Play) -> None:
    leadership = play.lead()
    leadership.release()
    with pytest.raises(LeadershipLost):
        leadership.checkpoint.set(b"v")
    assert play.candidacy.writes == []
