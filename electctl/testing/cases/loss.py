"""Keeping a leadership, and noticing in time that it is gone.

What this leaves out: processes that are stopped, and what runs under a leader (campaign's tests).
"""

from __future__ import annotations

import pytest

from electctl.base.clock import now
from electctl.core import lease
from electctl.core.leadership import Leadership
from electctl.core.lease import Extended, RenewalFailed
from electctl.errors import LeadershipLost, NotElected
from electctl.testing.cases.base import Cases
from electctl.testing.stage import SLACK, Stage, eventually, let_pass


class Loss(Cases):
    """Leaderships whose store is well."""

    def test_renewal_keeps_it_beyond_several_ttls(self, stage: Stage) -> None:
        """While a rival waits for it in vain."""
        leadership = stage.lead("a")
        rival = stage.contend("b", wait=2.5 * leadership.timing.ttl)
        assert isinstance(rival.failed(3 * leadership.timing.ttl + SLACK), NotElected)
        assert not leadership.lost.is_set()
        assert leadership.remaining() > leadership.timing.grace
        leadership.check()

    def test_validity_is_what_the_store_granted_less_the_drift(self, stage: Stage) -> None:
        """Never more than the TTL less the allowance, counted from before the request."""
        began = now()
        leadership = stage.lead("a")
        granted, drift = leadership.timing.ttl, leadership.timing.drift
        assert leadership.valid_until <= leadership.elected_at + granted - drift
        assert leadership.valid_until > began
        assert granted >= min(stage.ttl, 1.0) * 0.5

    def test_a_grant_taken_away_on_the_server_is_noticed(self, stage: Stage) -> None:
        """Deleted or revoked past electctl: the next renewal says so, and check() raises."""
        leadership = stage.lead("a")
        stage.harness.revoke(stage.election)
        bound = leadership.timing.renew_interval + leadership.timing.request_timeout + SLACK
        assert leadership.lost.wait(bound), "the loss was not noticed"
        eventually("it is over", lambda: leadership.remaining() == 0, leadership.timing.ttl)
        stage.gone(leadership)
        with pytest.raises(LeadershipLost):
            leadership.check()

    def test_a_grant_taken_away_is_known_between_two_renewals(self, stage: Stage) -> None:
        """Where ``traits.tells_loss``: no renewal goes out before it is over here."""
        if not stage.traits.tells_loss:
            pytest.skip("this scheme tells of a loss at the next renewal")
        stage.ttl *= 4
        renewals: list[lease.SendRenewal] = []

        def note(instruction: lease.Instruction) -> None:
            if isinstance(instruction, lease.SendRenewal):
                renewals.append(instruction)

        for number in range(3):  # one may be due at that very moment
            leadership = stage.lead(f"a{number}", on_change=note)
            eventually("it is renewed", lambda: bool(renewals), stage.ttl)
            renewals.clear()
            stage.harness.revoke(stage.election)
            assert leadership.lost.wait(stage.ttl), "the loss was not noticed"
            assert leadership.remaining() == 0
            assert leadership.reason == "deleted"
            if not renewals:
                return
        raise AssertionError("it was told by a renewal, each time")

    def test_somebody_else_leads_after_a_grant_was_taken_away(self, stage: Stage) -> None:
        """A waiting candidate takes over; the loser's release, which comes late, hits nothing."""
        loser = stage.lead("a")
        waiter = stage.queue("b")
        stage.harness.revoke(stage.election)
        winner = waiter.elected(stage.succession)
        if winner.token is not None and loser.token is not None:
            assert winner.token > loser.token
        bound = loser.timing.renew_interval + loser.timing.request_timeout + SLACK
        assert loser.lost.wait(bound), "the loser was not told"
        loser.release()
        let_pass(2 * winner.timing.renew_interval)
        winner.check()
        stage.must_not_win("c")

    def test_a_renewal_of_a_stale_grant_is_a_definite_no(self, stage: Stage) -> None:
        """Not an unknown: the store has answered."""
        loser = stage.lead("same")
        stage.harness.revoke(stage.election)
        winner = stage.lead("same")
        with pytest.raises(LeadershipLost):
            loser.candidacy.renew()
        winner.check()

    def test_a_released_leadership_is_over(self, stage: Stage) -> None:
        """And leaving the context releases."""
        with stage.lead("a") as leadership:
            leadership.check()
        assert leadership.release_error is None
        assert leadership.remaining() == 0
        with pytest.raises(LeadershipLost):
            leadership.check()
        assert stage.elector.holder(stage.election) is None

    def test_it_outlives_the_closing_of_its_elector(self, stage: Stage) -> None:
        """It is renewed, writes and gives back as before; only then nothing is left open."""
        elector = stage.open()
        leadership = stage.lead("a", elector=elector)
        elector.close()
        elector.close()
        let_pass(1.5 * leadership.timing.ttl)
        leadership.check()
        if stage.traits.checkpoint:
            leadership.checkpoint.set(b"v")
        leadership.release()
        assert leadership.release_error is None
        assert stage.elector.holder(stage.election) is None


class LinkedLoss(Cases):
    """Leaderships whose way to the store breaks."""

    @pytest.mark.parametrize("direction", ["requests", "replies"])
    def test_validity_counts_from_before_the_request_was_sent(
        self, stage: Stage, direction: str
    ) -> None:
        """Through a slow link each proof is worth less by what it was under way."""
        assert direction in ("requests", "replies")
        link = stage.link()
        delay = 0.04 * stage.ttl
        late: list[float] = []

        def weigh(instruction: lease.Instruction) -> None:
            if isinstance(instruction, Extended):
                late.append(instruction.valid_until - now())

        link.delay(delay, "requests" if direction == "requests" else "replies")
        elector = stage.open(link)
        for number in range(3):  # a host that starves us may cost one
            late.clear()
            leadership = stage.lead(f"a{number}", elector=elector, on_change=weigh, within=10)

            def over(led: Leadership = leadership) -> bool:
                return len(late) >= 3 or not led.remaining()

            eventually("it is renewed twice, or lost", over, 3 * stage.ttl)
            if len(late) >= 3:
                break
            leadership.release()
        assert len(late) >= 3, "it is not renewed"
        assert max(late) <= leadership.timing.ttl - leadership.timing.drift - delay
        leadership.check()

    @pytest.mark.parametrize("fault", ["swallow", "cut"])
    def test_it_ends_here_in_time_when_contact_is_lost(self, stage: Stage, fault: str) -> None:
        """Whether or not the store answers; and before anybody else can lead."""
        link = stage.link()
        leadership = stage.lead("a", elector=stage.open(link))
        rival = stage.queue("b")
        if fault == "swallow":
            link.swallow()
        else:
            link.cut()
        bound = leadership.timing.ttl + SLACK
        assert leadership.lost.wait(bound), "it went on without a renewal"
        assert now() <= leadership.valid_until + SLACK
        eventually("nothing remains", lambda: leadership.remaining() == 0, bound)
        over_at = leadership.valid_until
        assert rival.waits or (rival.elected_at is not None and rival.elected_at >= over_at)
        successor = rival.elected(stage.succession)
        assert rival.elected_at is not None
        assert rival.elected_at >= over_at
        began = now()
        leadership.release()
        assert now() - began < 4 * leadership.timing.request_timeout + SLACK
        link.forward()
        let_pass(successor.timing.renew_interval)
        successor.check()

    def test_one_missed_renewal_is_survived(self, stage: Stage) -> None:
        """Silence for as long as one request may take, then all is well again."""
        link = stage.link()
        seen: list[lease.Instruction] = []
        leadership = stage.lead("a", elector=stage.open(link), on_change=seen.append)

        def missed() -> bool:
            return any(isinstance(instruction, RenewalFailed) for instruction in seen)

        link.swallow()
        eventually("a renewal is missed", missed, stage.ttl)
        link.forward()
        count = len(seen)
        eventually(
            "it is renewed",
            lambda: any(isinstance(instruction, Extended) for instruction in seen[count:]),
            stage.ttl,
        )
        let_pass(leadership.timing.ttl)
        leadership.check()
        assert not leadership.lost.is_set()
