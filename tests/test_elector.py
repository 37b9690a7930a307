"""One attempt to be elected: contact, back-off, giving up, and what the store granted.

What this does not show: any store (tests/test_conformance_*.py). The candidacy here answers what
each test says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from electctl_file import TRAITS
from electctl_file.backend import FileBackend

from electctl.backend import Backend, Bid, Candidacy, Grant, Renewal
from electctl.clock import now
from electctl.elector import LeaderElector, default_id
from electctl.errors import (
    ElectctlError,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
    UnsafeTiming,
)
from electctl.traits import Traits
from electctl.url import BackendURL

Answer = Callable[["Scripted", float | None], Grant | None]


class Scripted(Candidacy):
    """Gives one answer after another; the last one again and again."""

    def __init__(self, bid: Bid, answers: list[Answer]) -> None:
        self.bid = bid
        self.answers = answers
        self.asked: list[float] = []
        self.log: list[str] = []
        self.cancelled = threading.Event()

    def acquire(self, deadline: float | None) -> Grant | None:
        self.asked.append(now())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(self, deadline)

    def renew(self) -> Renewal:
        return Renewal(now(), self.bid.ttl)

    def release(self) -> None:
        self.log.append("release")

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.log.append("close")


class ScriptedBackend(FileBackend):
    """Hands one scripted candidacy out."""

    def __init__(self, answers: list[Answer], traits: Traits = TRAITS) -> None:
        super().__init__(BackendURL.parse("file:///nowhere"))
        self.answers = answers
        self.given: list[Scripted] = []
        self._traits = traits

    @property
    def traits(self) -> Traits:
        return self._traits

    def candidacy(self, bid: Bid) -> Candidacy:
        self.given.append(Scripted(bid, self.answers))
        return self.given[-1]


def win(candidacy: Scripted, deadline: float | None) -> Grant:
    candidacy.contacted = True
    return Grant(1, now(), candidacy.bid.ttl)


def granting(ttl: float) -> Answer:
    def answer(candidacy: Scripted, deadline: float | None) -> Grant:
        candidacy.contacted = True
        return Grant(1, now(), ttl)

    return answer


def raising(error: ElectctlError, *, contacted: bool) -> Answer:
    def answer(candidacy: Scripted, deadline: float | None) -> Grant | None:
        candidacy.contacted = candidacy.contacted or contacted
        raise error

    return answer


def wait_in_vain(candidacy: Scripted, deadline: float | None) -> None:
    candidacy.contacted = True
    candidacy.cancelled.wait(None if deadline is None else max(0.0, deadline - now()))


DOWN = raising(Unreachable("down"), contacted=False)
CUT = raising(OutcomeUnknown("cut"), contacted=True)


def test_the_core_plans_by_the_ttl_that_was_granted() -> None:
    backend = ScriptedBackend([granting(12.0)])
    with LeaderElector(backend).campaign("e", "a", ttl=6.0) as leadership:
        assert leadership.timing.ttl == 12.0
        assert leadership.timing.request_timeout == backend.given[0].bid.request_timeout
        assert leadership.remaining() > 6.0


def test_a_grant_too_short_to_act_in_is_given_back() -> None:
    backend = ScriptedBackend([granting(0.3)])
    with pytest.raises(UnsafeTiming, match=r"granted 0\.3 s instead of 6 s"):
        LeaderElector(backend).campaign("e", "a", ttl=6.0)
    assert backend.given[0].log == ["release", "close"]


def test_a_grant_too_short_for_one_request_to_be_missed_is_given_back() -> None:
    """The candidacy's requests were timed by the TTL asked for."""
    backend = ScriptedBackend([granting(10.0)])
    with pytest.raises(UnsafeTiming, match="granted 10 s instead of 60 s"):
        LeaderElector(backend).campaign("e", "a", ttl=60.0)
    assert backend.given[0].log == ["release", "close"]


def test_an_explicit_grace_is_kept_or_refused_with_the_granted_ttl_too() -> None:
    backend = ScriptedBackend([granting(12.0)])
    with LeaderElector(backend).campaign("e", "a", ttl=6.0, grace=1.0) as leadership:
        assert leadership.timing.grace == 1.0
    with pytest.raises(UnsafeTiming):
        LeaderElector(backend).campaign("e", "a", ttl=6.0, grace=5.9)
    assert len(backend.given) == 1, "it was refused before anything was asked"


def test_the_plan_takes_what_the_scheme_needs_from_its_traits() -> None:
    traits = replace(TRAITS, renewals=6, proof_lag=1, default_ttl=30.0)
    timing = LeaderElector(ScriptedBackend([win], traits)).timing()
    assert (timing.ttl, timing.renewals, timing.proof_lag) == (30.0, 6, 1)


@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_no_first_contact_within_the_wait_is_unreachable(wait: float) -> None:
    backend = ScriptedBackend([DOWN])
    began = now()
    with pytest.raises(Unreachable):
        LeaderElector(backend).campaign("e", "a", wait=wait)
    assert wait <= now() - began < wait + 2
    assert backend.given[0].log == ["close"], "there was nothing to release"


def test_contact_lost_later_is_waited_out_and_told() -> None:
    troubles: list[ElectctlError] = []
    backend = ScriptedBackend([CUT, DOWN, CUT, win])
    attempt = LeaderElector(backend).attempt("e", "a", on_trouble=troubles.append)
    attempt.run().release()
    assert [error.message for error in troubles] == ["cut", "down", "cut"]
    asked = backend.given[0].asked
    assert asked[3] - asked[2] > 0.05, "it did not back off"


def test_contact_lost_until_the_wait_runs_out_is_not_elected() -> None:
    backend = ScriptedBackend([CUT])
    with pytest.raises(NotElected, match=r"waited 0\.4 s"):
        LeaderElector(backend).campaign("e", "a", wait=0.4)
    assert backend.given[0].log == ["release", "close"]


def test_no_wait_says_that_somebody_leads() -> None:
    with pytest.raises(NotElected, match="somebody leads"):
        LeaderElector(ScriptedBackend([wait_in_vain])).campaign("e", "a", wait=0)


def test_a_refusal_ends_it_at_once() -> None:
    backend = ScriptedBackend([raising(Refused("no"), contacted=True)])
    with pytest.raises(Refused):
        LeaderElector(backend).campaign("e", "a", wait=60)
    assert len(backend.given[0].asked) == 1
    assert backend.given[0].log == ["release", "close"]


@pytest.mark.parametrize("answer", [wait_in_vain, CUT], ids=["waiting", "backing off"])
def test_cancel_ends_it_soon(answer: Answer) -> None:
    backend = ScriptedBackend([answer])
    attempt = LeaderElector(backend).attempt("e", "a")
    errors: list[ElectctlError] = []

    def run() -> None:
        try:
            attempt.run()
        except ElectctlError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    attempt.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(errors[0], NotElected)
    assert "cancelled" in errors[0].message


def test_a_backend_that_stops_waiting_for_no_reason_is_not_elected() -> None:
    def give_up(candidacy: Scripted, deadline: float | None) -> None:
        candidacy.contacted = True

    with pytest.raises(NotElected, match="the backend gave up"):
        LeaderElector(ScriptedBackend([give_up])).campaign("e", "a")


def test_a_withdrawal_that_cannot_be_delivered_hides_nothing() -> None:
    class Mute(Scripted):
        def release(self) -> None:
            raise Unreachable("down")

    class MuteBackend(ScriptedBackend):
        def candidacy(self, bid: Bid) -> Candidacy:
            self.given.append(Mute(bid, self.answers))
            return self.given[-1]

    backend: Backend = MuteBackend([wait_in_vain])
    with pytest.raises(NotElected):
        LeaderElector(backend).campaign("e", "a", wait=0)


def test_default_ids_differ() -> None:
    assert default_id() != default_id()
