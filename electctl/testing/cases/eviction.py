"""Asking a holder to stop, and deleting its grant; native tools as holders.

What this leaves out: forcing does make two leaders for a while. That is its nature, not tested.
"""

from __future__ import annotations

import pytest

from electctl.base.clock import now
from electctl.errors import Inconclusive
from electctl.testing.cases.base import Cases
from electctl.testing.stage import SLACK, Stage, eventually, let_pass


class Eviction(Cases):
    """Operators, and holders that are not ours."""

    def test_a_holder_that_is_asked_learns_of_it_and_goes_on(self, stage: Stage) -> None:
        """With its next renewal; it leads until it releases, and evict waits for that."""
        leadership = stage.lead("a")
        with pytest.raises(Inconclusive):
            stage.elector.evict(stage.election, wait=0.1)
        bound = leadership.timing.renew_interval + leadership.timing.request_timeout + SLACK
        assert leadership.stop_requested.wait(bound), "the holder was not asked"
        leadership.check()
        assert not leadership.lost.is_set()

    def test_evict_returns_once_the_holder_has_gone(self, stage: Stage) -> None:
        """And tells who it was."""
        leadership = stage.lead("a")
        leaving = stage.when(leadership.stop_requested, leadership.release)
        target = stage.elector.evict(stage.election, wait=stage.succession)
        assert target is not None
        assert target.id == "a"
        leaving.join(10)
        assert stage.elector.holder(stage.election) is None

    def test_a_mark_never_hits_a_later_term(self, stage: Stage) -> None:
        """Also not one of the same id."""
        first = stage.lead("same")
        with pytest.raises(Inconclusive):
            stage.elector.evict(stage.election, wait=0)
        first.release()
        second = stage.lead("same")
        assert not second.stop_requested.wait(3 * second.timing.renew_interval)
        second.check()

    def test_nobody_is_evicted_from_a_vacant_election(self, stage: Stage) -> None:
        """None is the answer, and the next leader is left alone."""
        for force in (False, True):
            assert stage.elector.evict(stage.election, force=force, wait=1) is None
        leadership = stage.lead("a")
        assert not leadership.stop_requested.wait(2 * leadership.timing.renew_interval)
        leadership.check()

    def test_force_deletes_at_once(self, stage: Stage) -> None:
        """The deleted holder notices; a waiting candidate leads; tokens grow."""
        loser = stage.lead("a")
        waiter = stage.queue("b")
        target = stage.elector.evict(stage.election, force=True)
        assert target is not None
        assert target.id == "a"
        winner = waiter.elected(stage.succession)
        if winner.token is not None and loser.token is not None:
            assert winner.token > loser.token
        assert loser.lost.wait(loser.timing.ttl)
        eventually("it is over", lambda: loser.remaining() == 0, loser.timing.ttl)
        stage.gone(loser)
        winner.check()

    def test_a_native_holder_is_seen_waited_for_and_cannot_be_asked(self, stage: Stage) -> None:
        """One election, whoever holds it."""
        foreign = stage.harness.foreign()
        if foreign is None:
            pytest.skip("the harness names no native tool for this scheme")
        with foreign(stage.election, 5.0) as got:
            assert got, "the native tool could not lead a vacant election"
            holder = stage.elector.holder(stage.election)
            assert holder is not None
            stage.must_not_win("rival")
            if not holder.can_be_asked:
                with pytest.raises(Inconclusive):
                    stage.elector.evict(stage.election, wait=0.1)
            waiter = stage.queue("w")
        waiter.elected(stage.succession)

    def test_a_native_tool_does_not_win_while_we_lead(self, stage: Stage) -> None:
        """And wins once we have released."""
        foreign = stage.harness.foreign()
        if foreign is None:
            pytest.skip("the harness names no native tool for this scheme")
        leadership = stage.lead("a")
        with foreign(stage.election, 1.0) as got:
            leadership.check()
            assert not got, "two leaders"
        leadership.release()
        with foreign(stage.election, 5.0) as got:
            assert got

    def test_a_native_holder_can_be_deleted(self, stage: Stage) -> None:
        """By force alone."""
        foreign = stage.harness.foreign()
        if foreign is None:
            pytest.skip("the harness names no native tool for this scheme")
        with foreign(stage.election, 5.0) as got:
            assert got
            assert stage.elector.evict(stage.election, force=True) is not None
            began = now()
            leadership = stage.lead("a")
            assert now() - began < stage.succession
            let_pass(leadership.timing.renew_interval)
        leadership.check()
