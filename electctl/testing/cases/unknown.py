"""Requests whose outcome nobody knows: it may have acted, now or later.

What this leaves out: requests that a store itself delays after it has taken them in.
"""

from __future__ import annotations

import pytest

from electctl.base.clock import now
from electctl.core import lease
from electctl.core.lease import Extended
from electctl.errors import NotElected, Unreachable
from electctl.lab.proxy import Direction
from electctl.testing.cases.base import Cases
from electctl.testing.stage import PATIENCE, SLACK, Stage, eventually, let_pass

DIRECTIONS: list[Direction] = ["requests", "replies"]


class Unknown(Cases):
    """Rule 2: a read that finds our write settles it; one that does not settles nothing."""

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_an_acquisition_broken_anywhere_is_settled(
        self, stage: Stage, direction: Direction
    ) -> None:
        """The connection is reset after k bytes, for k from the first to the last.

        Each time the candidate is elected in the end, under the token that the store shows, and
        its release leaves nothing behind.
        """
        stage.lead("first").release()  # what a store must be taught once is not counted
        probe = stage.link()
        leadership = stage.lead("probe", elector=stage.open(probe))
        total = probe.requested if direction == "requests" else probe.replied
        leadership.release()
        broken = 0
        for step in range(8):
            link = stage.link()
            link.cut_after(total * step // 8, direction)
            leadership = stage.lead(f"c{step}", elector=stage.open(link))
            holder = stage.elector.holder(stage.election)
            assert holder is not None
            assert (holder.id, holder.token) == (f"c{step}", leadership.token)
            stage.must_not_win("rival")
            leadership.release()
            broken += link.broken
            # A grant that was not known to be ours would be in the way for a whole TTL.
            stage.lead("next", within=max(SLACK, stage.succession)).release()
        assert broken >= 4, "the fault did not happen"

    def test_an_acquisition_without_an_answer_is_settled_when_contact_is_back(
        self, stage: Stage
    ) -> None:
        """It may hold the election without knowing: until it knows, it does not lead."""
        link = stage.link()
        elector = stage.open(link)
        assert elector.holder(stage.election) is None
        link.swallow("replies")
        unsure = stage.contend("a", elector=elector)
        let_pass(2 * stage.timing.request_timeout)
        assert unsure.waits
        link.forward()
        leadership = unsure.elected(stage.succession + 3)
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.token) == ("a", leadership.token)
        stage.must_not_win("rival")

    def test_an_acquisition_given_up_without_an_answer_runs_out(self, stage: Stage) -> None:
        """What may have been won is withdrawn or expires; nobody waits longer than a TTL."""
        link = stage.link()
        elector = stage.open(link)
        assert elector.holder(stage.election) is None
        link.swallow("replies")
        unsure = stage.contend("a", elector=elector, wait=stage.ttl / 2)
        error = unsure.failed(stage.ttl / 2 + 6 * stage.timing.request_timeout + SLACK)
        assert isinstance(error, NotElected | Unreachable)
        stage.lead("b", within=stage.succession)

    def test_renewals_whose_answers_are_lost_are_repeated(self, stage: Stage) -> None:
        """One connection after another is reset on the reply; the leadership goes on."""
        link = stage.link()
        seen: list[lease.Instruction] = []
        leadership = stage.lead("a", elector=stage.open(link), on_change=seen.append)
        for _ in range(3):
            broken, count = link.broken, len(seen)
            link.cut_after(0, "replies")
            eventually("a reply is lost", lambda b=broken: link.broken > b, stage.ttl)  # type: ignore[misc]
            eventually(
                "it is renewed all the same",
                lambda c=count: any(isinstance(i, Extended) for i in seen[c:]),  # type: ignore[misc]
                stage.ttl,
            )
        leadership.check()
        assert not leadership.lost.is_set()

    def test_a_release_without_an_answer_has_acted_or_runs_out(self, stage: Stage) -> None:
        """It returns in bounded time and the next leads within a TTL, whichever it was."""
        for direction in DIRECTIONS:
            link = stage.link()
            leadership = stage.lead("a", elector=stage.open(link))
            waiter = stage.queue("b")
            link.swallow(direction)
            began = now()
            leadership.release()
            assert now() - began < 4 * leadership.timing.request_timeout + SLACK
            assert leadership.remaining() == 0
            waiter.elected(stage.succession).release()

    @pytest.mark.parametrize("successor", ["same", "other"])
    def test_a_delayed_release_of_an_earlier_term_hits_nothing(
        self, stage: Stage, successor: str
    ) -> None:
        """It is held up until the next leads, also under the same id, and delivered then."""
        link = stage.link()
        elector = stage.open(link)
        leadership = stage.lead("same", elector=elector)
        link.hold("requests")
        leadership.release()
        assert link.held > 0
        winner = stage.lead(successor)
        link.forward()
        eventually("the old release is delivered", lambda: link.held == 0, PATIENCE)
        # It has been served when a request that came after it has.
        elector.holder(stage.election)
        let_pass(2 * winner.timing.renew_interval)
        winner.check()
        assert not winner.lost.is_set()
        stage.must_not_win("rival")

    def test_a_delayed_renewal_of_an_earlier_term_prolongs_nothing(self, stage: Stage) -> None:
        """Held up until somebody else leads, it neither disturbs nor revives."""
        link = stage.link()
        loser = stage.lead("same", elector=stage.open(link))
        link.hold("requests")
        eventually("it is over", lambda: loser.remaining() == 0, loser.timing.ttl + SLACK)
        assert link.held > 0
        winner = stage.lead("same")
        link.forward()
        eventually("the old renewals are delivered", lambda: link.held == 0, PATIENCE)
        winner.release()
        eventually(
            "the election is vacant",
            lambda: stage.elector.holder(stage.election) is None,
            SLACK,
        )
        stage.gone(loser)
