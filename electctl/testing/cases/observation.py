"""Seeing who leads, through vacancy and outage.

What this leaves out: terms shorter than the interval of a scheme that polls.
"""

from __future__ import annotations

import pytest

from electctl.testing.cases.base import Cases
from electctl.testing.stage import PATIENCE, SLACK, Stage

#: Seconds within which an observer must notice that the store is silent.
NOTICE = 15.0


class Observation(Cases):
    """Observers of a store that answers, and of one that is restarted."""

    def test_every_term_is_seen_from_the_start(self, stage: Stage) -> None:
        """Vacant, a, vacant, b, vacant: in order, none left out, with tokens."""
        observer = stage.observe()
        assert observer.next(PATIENCE).kind == "vacant"
        for name in ("a", "b"):
            leadership = stage.lead(name)
            change = observer.next(stage.wake_up + SLACK)
            assert change.kind == "holder"
            assert change.view.holder is not None
            assert (change.view.holder.id, change.view.holder.token) == (name, leadership.token)
            leadership.release()
            assert observer.next(stage.wake_up + SLACK).kind == "vacant"

    def test_an_observer_that_comes_late_sees_who_leads_now(self, stage: Stage) -> None:
        """The first change is the present state."""
        leadership = stage.lead("a")
        change = stage.observe().next(PATIENCE)
        assert change.kind == "holder"
        assert change.view.holder is not None
        assert change.view.holder.id == "a"
        assert change.view.holder.token == leadership.token

    def test_a_renewal_is_no_change(self, stage: Stage) -> None:
        """However often it is renewed, one term is told once."""
        leadership = stage.lead("a")
        observer = stage.observe()
        observer.next(PATIENCE)
        with pytest.raises(AssertionError, match="no change was seen"):
            observer.next(leadership.timing.ttl)

    def test_two_terms_of_one_id_are_two(self, stage: Stage) -> None:
        """The second is told although the id is the same."""
        observer = stage.observe()
        observer.next(PATIENCE)
        leadership = stage.lead("same")
        first = observer.until("holder", stage.wake_up + SLACK)
        leadership.release()
        stage.lead("same")
        second = observer.until("holder", stage.wake_up + SLACK)
        assert first.view.term != second.view.term

    def test_expiry_is_seen(self, stage: Stage) -> None:
        """A leader that was killed becomes a vacancy once its grant has run out."""
        observer = stage.observe()
        observer.next(PATIENCE)
        process = stage.process("doomed", hold=60)
        change = observer.until("holder", 30)
        process.kill()
        assert change.view.holder is not None
        assert change.view.holder.id == "doomed"
        observer.until("vacant", stage.succession)

    def test_those_who_wait_are_seen_where_the_scheme_can_tell(self, stage: Stage) -> None:
        """The queue as it grows; the leader is not part of it."""
        stage.lead("a")
        observer = stage.observe()
        observer.next(PATIENCE)
        stage.queue("w")
        if stage.harness.lists_waiters:
            change = observer.until("waiting", stage.wake_up + SLACK)
            assert change.view.waiting == ("w",)
        assert set(stage.elector.candidates(stage.election)) <= {"w"}


class LinkedObservation(Cases):
    """Observers whose way to the store breaks, or whose store is restarted."""

    def test_it_goes_on_through_a_restart_of_the_store(self, stage: Stage) -> None:
        """Unreachable is told once, then recovered, and then the next term."""
        observer = stage.observe()
        assert observer.next(PATIENCE).kind == "vacant"
        with stage.outage():
            assert observer.next(NOTICE).kind == "unreachable"
        assert observer.next(NOTICE).kind == "recovered"
        stage.lead("a", within=10)
        change = observer.until("holder", stage.wake_up + SLACK)
        assert change.view.holder is not None
        assert change.view.holder.id == "a"

    @pytest.mark.parametrize("fault", ["swallow", "cut"])
    def test_it_says_that_contact_is_lost_and_found(self, stage: Stage, fault: str) -> None:
        """Also when connections stay open and silent; what it missed is told afterwards."""
        link = stage.link()
        observer = stage.observe(stage.open(link))
        assert observer.next(PATIENCE).kind == "vacant"
        if fault == "swallow":
            link.swallow()
        else:
            link.cut()
        change = observer.next(NOTICE)
        assert change.kind == "unreachable"
        assert change.cause
        leadership = stage.lead("a")
        link.forward()
        assert observer.next(NOTICE).kind == "recovered"
        change = observer.next(PATIENCE)
        assert change.kind == "holder"
        assert change.view.holder is not None
        assert change.view.holder.token == leadership.token
