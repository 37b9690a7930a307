"""Faults of the store itself: members that are killed, stopped, cut off, restarted.

What this leaves out: clocks that jump, disks that fill or lie, networks that lose one packet in
three; and more faults at once than a majority survives, but for the loss of the majority itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from electctl.base.clock import now
from electctl.core.leadership import Leadership
from electctl.errors import OutcomeUnknown, Unreachable
from electctl.testing.cases.base import Cases
from electctl.testing.harness import EnsembleHarness, Harness
from electctl.testing.stage import SLACK, Contender, Stage, eventually, let_pass

RESTARTS = 20
#: Seconds within which members that run and reach each other must be one store again.
JOIN_LIMIT = 60.0
#: Seconds for which it must be: a member that was separated may not have noticed yet that it was.
CALM = 1.0
#: Seconds that a store which is whole again may take to give an election to the next in line, on
#: top of the TTL: stores count old grants anew when another leads them.
AGAIN = 15.0


def repair(ensemble: EnsembleHarness) -> None:
    """Return when every member serves."""
    ensemble.mend()
    eventually("every member serves", ensemble.whole, JOIN_LIMIT)


def mend(stage: Stage, ensemble: EnsembleHarness) -> None:
    """Return when the store is whole, has been for a while, and answers."""
    ensemble.mend()
    since = now()

    def calm() -> bool:
        nonlocal since
        if not ensemble.whole():
            since = now()
        return now() - since >= CALM

    def answers() -> bool:
        try:
            stage.elector.holder(stage.election)
        except Unreachable:
            return False
        return True

    eventually("the store is whole", calm, JOIN_LIMIT)
    eventually("the store answers", answers, JOIN_LIMIT)


def goes_on(leadership: Leadership) -> None:
    """It is renewed twice from now on: the second was asked for after this call."""
    for _ in range(2):
        before = leadership.valid_until
        eventually(
            "it is renewed",
            lambda b=before: leadership.lost.is_set() or leadership.valid_until > b,  # type: ignore[misc]
            leadership.timing.ttl,
        )
        assert not leadership.lost.is_set(), f"{leadership.candidate!r} was lost"
    leadership.check()


def follows(waiter: Contender, leadership: Leadership, within: float) -> Leadership:
    """The waiter's leadership, which must begin after the other has ended here."""
    successor = waiter.elected(within)
    over_at = leadership.valid_until
    assert waiter.elected_at is not None
    assert over_at <= waiter.elected_at, (
        f"two leaders: {leadership.candidate!r} led for {over_at - waiter.elected_at:.3f} s more"
    )
    assert leadership.remaining() == 0
    grew(leadership, successor)
    return successor


def grew(earlier: Leadership, later: Leadership) -> None:
    """Tokens only grow."""
    if earlier.token is not None and later.token is not None:
        assert earlier.token < later.token, f"{later.token} came after {earlier.token}"


class EnsembleConformance(Cases):
    """For a store of several members. The fixture ``harness`` is an EnsembleHarness."""

    @pytest.fixture
    def ensemble(self, harness: Harness) -> EnsembleHarness:
        """The harness, which must be one of at least three members."""
        assert isinstance(harness, EnsembleHarness)
        assert len(harness.members) >= 3, "a majority must survive the loss of one member"
        return harness

    @pytest.fixture
    def stage(self, ensemble: EnsembleHarness) -> Iterator[Stage]:
        """As everywhere; and the store is whole again afterwards, whatever has happened."""
        stage = Stage(ensemble, f"ensemble-{uuid.uuid4().hex[:12]}")
        with stage.exits:
            try:
                yield stage
            finally:
                repair(ensemble)

    @pytest.mark.parametrize(
        ("fault", "who"),
        [
            ("kill", "ours"),
            ("pause", "ours"),
            ("separate", "ours"),
            ("kill", "leader"),
            ("pause", "leader"),
        ],
    )
    def test_the_loss_of_one_member_is_survived(
        self, stage: Stage, ensemble: EnsembleHarness, fault: str, who: str
    ) -> None:
        """Of the one to which leader and waiter are connected, or of the store's own leader.

        The leader is renewed by way of the others, the waiter keeps its place and is elected while
        the member is still missing, and its return takes nothing away.
        """
        stage.ttl = ensemble.patient_ttl
        leading = ensemble.leading()
        ours = leading
        if ensemble.followers_serve:
            ours = (leading + 1) % len(ensemble.members)
        link = stage.link()
        link.admit_only(ours)
        leader = stage.lead("a", elector=stage.open(link))
        waiter = stage.queue("w", elector=stage.open(link))
        link.forward()
        ensemble.suffer(fault, ours if who == "ours" else leading)
        goes_on(leader)
        assert waiter.waits
        leader.release()
        # Woken by way of another member, sooner than anything runs out.
        successor = waiter.elected(stage.ttl / 2 + SLACK)
        grew(leader, successor)
        mend(stage, ensemble)
        successor.check()
        stage.must_not_win("rival")

    @pytest.mark.parametrize(("who", "times"), [("follower", 2), ("leader", 1)])
    def test_a_leader_behind_a_member_that_is_cut_off_has_ended_before_the_next_leads(
        self, stage: Stage, ensemble: EnsembleHarness, who: str, times: int
    ) -> None:
        """The member goes on answering what it can by itself, as if nothing had happened.

        Whoever takes that for a renewal leads beside the candidate that the others elect.
        """
        if who == "follower" and not ensemble.followers_serve:
            pytest.skip("the harness says that followers of this store serve no clients")
        if who == "leader" and not ensemble.replaces_separated_leader:
            pytest.skip("the harness says that this store is slow to replace a separated leader")
        for number in range(times):
            leading = ensemble.leading()
            far = leading if who == "leader" else (leading + 1) % len(ensemble.members)
            near = [m for m in ensemble.members if m != far or not ensemble.followers_serve]
            leader = stage.lead(
                f"far{number}", elector=stage.open(url=ensemble.url_of(far)), within=AGAIN
            )
            waiter = stage.queue(f"near{number}", elector=stage.open(url=ensemble.url_of(*near)))
            # Each time at another moment between two renewals.
            let_pass(leader.timing.renew_interval * number / times)
            ensemble.suffer("separate", far)
            successor = follows(waiter, leader, stage.succession + AGAIN)
            stage.gone(leader)
            mend(stage, ensemble)
            leader.release()
            successor.release()

    def test_a_member_that_is_cut_off_answers_no_question(
        self, stage: Stage, ensemble: EnsembleHarness
    ) -> None:
        """Be it the store's own leader, which learns only later that it is none any more.

        Where that would be long in being replaced, it is another member.
        """

        def far() -> int:
            leading = ensemble.leading()
            other = (leading + 1) % len(ensemble.members)
            return leading if ensemble.replaces_separated_leader else other

        member = far()
        elector = stage.open(url=ensemble.url_of(member))
        questions: list[Callable[[], object]] = [lambda: elector.holder(stage.election)]
        if stage.traits.checkpoint:
            questions.append(lambda: elector.backend.read_checkpoint(stage.election, ""))
        for ask in questions:
            assert ask() is None
            ensemble.suffer("separate", member)
            with pytest.raises((Unreachable, OutcomeUnknown)):
                ask()
            mend(stage, ensemble)
            member = far()
            elector = stage.open(url=ensemble.url_of(member))

    @pytest.mark.parametrize("fault", ["kill", "pause"])
    def test_without_a_majority_nobody_leads_and_with_it_again_the_next_does(
        self, stage: Stage, ensemble: EnsembleHarness, fault: str
    ) -> None:
        """What is left of the store is the member that led it, and that our leader talks to."""
        size = len(ensemble.members)
        leading = ensemble.leading()
        link = stage.link()
        link.admit_only(leading)
        leader = stage.lead("a", elector=stage.open(link))
        waiter = stage.queue("w")
        link.forward()
        others = (member for member in ensemble.members if member != leading)
        for member in islice(others, size // 2 + 1):
            ensemble.suffer(fault, member)
        assert leader.lost.wait(leader.timing.ttl + SLACK), "it led on without a majority"
        eventually("nothing remains", lambda: leader.remaining() == 0, leader.timing.ttl)
        stage.gone(leader)
        assert waiter.waits, "it was elected without a majority"
        with pytest.raises(Unreachable) as caught:  # nobody leads this one, and nobody can
            stage.open().campaign(f"{stage.election}-vacant", "c", ttl=stage.ttl, wait=0)
        assert "leads" not in caught.value.message.removeprefix("no node leads the cluster")
        mend(stage, ensemble)
        successor = follows(waiter, leader, stage.succession + AGAIN)
        goes_on(successor)
        leader.release()
        stage.must_not_win("rival")

    def test_twenty_restarts_in_a_row(self, stage: Stage, ensemble: EnsembleHarness) -> None:
        """One member after the other: one leadership lives through all of it, and in another
        election each restart is followed by a hand-over to whoever waited meanwhile."""
        stage.ttl = ensemble.patient_ttl
        steady = stage.lead("steady", election=f"{stage.election}-steady")
        leader = stage.lead("c0")
        for number in range(1, RESTARTS + 1):
            waiter = stage.queue(f"c{number}")
            ensemble.restart(number % len(ensemble.members))
            eventually("every member serves", ensemble.whole, JOIN_LIMIT)
            for leadership in (steady, leader):
                assert not leadership.lost.is_set(), f"lost in restart {number}"
                leadership.check()
            leader.release()
            successor = waiter.elected(stage.succession)
            grew(leader, successor)
            leader = successor
        goes_on(steady)
