"""One attempt to be elected: contact, back-off, giving up, and what the store granted.

What this does not show: any store (tests/test_conformance_*.py). The candidacy here answers what
each test says.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

import pytest
from electctl_file import TRAITS
from electctl_file.backend import FileBackend

from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant, Holder, View, Watch
from electctl.contract.lifecycle import Campaigning, Stay
from electctl.contract.url import BackendURL
from electctl.core import lease
from electctl.core.elector import LeaderElector, default_id
from electctl.core.polling import PollingWatch
from electctl.errors import (
    ElectctlError,
    NotElected,
    OutcomeUnknown,
    Refused,
    Unreachable,
    UnsafeTiming,
    UsageError,
)
from tests.scripted import (
    CUT,
    DOWN,
    Answer,
    Scripted,
    ScriptedBackend,
    granting,
    raising,
    wait_in_vain,
    win,
)


def test_the_core_plans_by_the_ttl_that_was_granted() -> None:
    backend = ScriptedBackend([granting(12.0)])
    with LeaderElector(backend).campaign("e", "a", ttl=6.0) as leadership:
        assert leadership.timing.ttl == 12.0
        assert leadership.timing.request_timeout == backend.given[0].bid.request_timeout
        assert leadership.remaining() > 6.0


class Peer(ScriptedBackend):
    """Has something to run while anybody campaigns."""

    def __init__(self, answers: list[Answer], *, refusals: int = 0) -> None:
        super().__init__(answers)
        self.refusals = refusals
        self.log: list[str] = []

    def start(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unreachable("the port is taken")
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")


def test_what_campaigns_need_runs_from_the_first_to_the_last() -> None:
    backend = Peer([win])
    elector = LeaderElector(backend)
    assert backend.log == []
    first = elector.campaign("e", "a", ttl=60.0)
    second = elector.campaign("f", "a", ttl=60.0)
    assert backend.log == ["start"]
    elector.close()
    first.release()
    first.release()
    assert backend.log == ["start"], "somebody leads still"
    second.release()
    assert backend.log == ["start", "stop"]
    elector.campaign("e", "a", ttl=60.0).release()
    assert backend.log == ["start", "stop"] * 2


@pytest.mark.parametrize("answer", [wait_in_vain, raising(Refused("no"), contacted=True)])
def test_it_is_stopped_when_the_last_one_was_not_elected(answer: Answer) -> None:
    backend = Peer([answer])
    with pytest.raises(ElectctlError):
        LeaderElector(backend).campaign("e", "a", ttl=60.0, wait=0.1)
    assert backend.log == ["start", "stop"]


def test_what_cannot_be_started_yet_is_tried_again() -> None:
    backend = Peer([win], refusals=2)
    LeaderElector(backend).campaign("e", "a", ttl=60.0).release()
    assert backend.log == ["start", "stop"]


def test_what_cannot_be_started_is_no_contact() -> None:
    backend = Peer([win], refusals=1000)
    with pytest.raises(Unreachable, match="the port is taken"):
        LeaderElector(backend).campaign("e", "a", ttl=60.0, wait=0.3)
    assert backend.log == []
    assert not backend.given[0].asked


def test_those_who_begin_together_wait_for_one_start() -> None:
    entered, go_on = threading.Event(), threading.Event()
    starts: list[str] = []

    def start() -> None:
        starts.append("start")
        entered.set()
        assert go_on.wait(10)

    campaigning = Campaigning(start, lambda: starts.append("stop"))
    stays: list[Stay] = []
    threads = [threading.Thread(target=lambda: stays.append(campaigning.enter())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    assert not stays
    go_on.set()
    for thread in threads:
        thread.join(10)
    for stay in stays:
        assert starts == ["start"]
        stay.end()
        stay.end()
    assert starts == ["start", "stop"]


def test_a_leadership_ends_when_the_candidacy_says_so() -> None:
    backend = ScriptedBackend([win])
    with LeaderElector(backend).campaign("e", "a", ttl=60.0) as leadership:
        leadership.check()
        for _ in range(2):
            backend.given[0].bid.superseded("deleted")
            assert leadership.lost.is_set()
            assert (leadership.remaining(), leadership.reason) == (0, "deleted")
    assert backend.given[0].log == ["release", "close"]


def test_what_a_candidacy_says_before_anybody_listens_is_heard() -> None:
    def win_and_lose(candidacy: Scripted, deadline: float | None) -> Grant:
        candidacy.bid.superseded("expired")
        return win(candidacy, deadline)

    backend = ScriptedBackend([win_and_lose])
    with LeaderElector(backend).campaign("e", "a", ttl=60.0) as leadership:
        assert leadership.lost.is_set()
        assert leadership.reason == "expired"


def test_what_a_candidacy_says_after_a_release_changes_nothing() -> None:
    backend = ScriptedBackend([win])
    leadership = LeaderElector(backend).campaign("e", "a", ttl=60.0)
    leadership.release()
    backend.given[0].bid.superseded("deleted")
    assert leadership.reason == "released"


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


def seeing(rival: str) -> Answer:
    def answer(candidacy: Scripted, deadline: float | None) -> Grant | None:
        candidacy.contacted = True
        candidacy.rival = rival
        raise OutcomeUnknown("cut")

    return answer


@pytest.mark.parametrize(("rival", "who"), [("", "somebody leads"), ("b", "'b' leads")])
def test_contact_lost_until_the_wait_runs_out_is_not_elected_if_somebody_led(
    rival: str, who: str
) -> None:
    backend = ScriptedBackend([seeing(rival), CUT])
    with pytest.raises(NotElected, match=rf"{who} \(waited 0\.4 s\)"):
        LeaderElector(backend).campaign("e", "a", wait=0.4)
    assert backend.given[0].log == ["release", "close"]


@pytest.mark.parametrize("wait", [0.0, 0.4])
def test_an_outage_is_no_contention(wait: float) -> None:
    """Contact was made, nobody was seen leading: the store's own words, and no "somebody leads"."""
    backend = ScriptedBackend([CUT])
    with pytest.raises(Unreachable, match="cut"):
        LeaderElector(backend).campaign("e", "a", wait=wait)
    assert backend.given[0].log == ["release", "close"]


@pytest.mark.parametrize(("rival", "who"), [("", "somebody leads"), ("b", "'b' leads")])
def test_no_wait_says_that_somebody_leads(rival: str, who: str) -> None:
    def busy(candidacy: Scripted, deadline: float | None) -> None:
        candidacy.contacted = True
        candidacy.rival = rival

    with pytest.raises(NotElected, match=who):
        LeaderElector(ScriptedBackend([busy])).campaign("e", "a", wait=0)


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


def test_a_backend_that_stops_waiting_for_no_reason_has_seen_no_leader() -> None:
    def give_up(candidacy: Scripted, deadline: float | None) -> None:
        candidacy.contacted = True

    with pytest.raises(Unreachable, match="did not answer in time"):
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


def test_an_attempt_is_run_once() -> None:
    """A second leadership of one grant would outlive the release of the first."""
    backend = ScriptedBackend([win])
    attempt = LeaderElector(backend).attempt("e", "a")
    with attempt.run() as leadership:
        with pytest.raises(UsageError, match="run before"):
            attempt.run()
        leadership.check()
        assert len(backend.given[0].asked) == 1
    with pytest.raises(UsageError, match="run before"):
        attempt.run()
    assert backend.given[0].log == ["release", "close"]


def test_default_ids_differ() -> None:
    assert default_id() != default_id()


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


def test_the_margin_is_kept_with_the_granted_ttl_too() -> None:
    backend = ScriptedBackend([granting(12.0)])
    with LeaderElector(backend).campaign("e", "a", ttl=6.0, margin=0.5) as leadership:
        assert leadership.timing.margin == 0.5
    assert LeaderElector(backend).timing().margin == 0.1


def test_a_margin_that_does_not_fit_is_refused_before_anything_is_asked() -> None:
    backend = ScriptedBackend([win])
    with pytest.raises(
        UnsafeTiming, match=r"ttl 6 s with grace 2 s is unsafe.* - 3\.9\)"
    ) as caught:
        LeaderElector(backend).campaign("e", "a", ttl=6.0, margin=3.9)
    assert "--margin" in (caught.value.hint or "")
    assert backend.given == []
