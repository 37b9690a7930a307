"""A store that is not there, goes away and comes back; wrong credentials.

What this leaves out: what a store forgets over a restart. Its traits say that.
"""

from __future__ import annotations

import pytest

from electctl.base.clock import now
from electctl.errors import ElectctlError, Refused, Unreachable
from electctl.testing.cases.base import Cases
from electctl.testing.harness import Link
from electctl.testing.stage import SLACK, Contender, Stage, eventually


class Outage(Cases):
    """Everybody at once has lost contact."""

    def test_a_store_that_is_down_at_the_start_is_unreachable(self, stage: Stage) -> None:
        """Within the wait given, with one clear line; and so is every question."""
        with stage.outage():
            began = now()
            with pytest.raises(Unreachable) as caught:
                stage.open().campaign(stage.election, "a", ttl=stage.ttl, wait=1.0)
            assert now() - began < 1.0 + stage.timing.request_timeout + SLACK
            assert "\n" not in caught.value.message
            for ask in (stage.elector.holder, stage.elector.candidates, stage.elector.evict):
                with pytest.raises(Unreachable):
                    ask(stage.election)
        stage.lead("a", within=10)

    def test_a_store_that_is_silent_at_the_start_is_unreachable(self, stage: Stage) -> None:
        """Connections are accepted and nothing comes back."""
        link = stage.link()
        link.swallow()
        elector = stage.open(link)
        began = now()
        with pytest.raises(Unreachable):
            elector.campaign(stage.election, "a", ttl=stage.ttl, wait=1.0)
        assert now() - began < 1.0 + 2 * stage.timing.request_timeout + SLACK
        began = now()
        with pytest.raises(ElectctlError):
            elector.holder(stage.election)
        assert now() - began < 10 + SLACK

    @pytest.mark.parametrize("wait", [0.0, 1.0])
    def test_a_store_that_breaks_off_as_we_enter_is_no_contention(
        self, stage: Stage, wait: float
    ) -> None:
        """Contact is lost for good after k bytes; nobody leads, and nobody is said to lead.

        "Somebody leads" would let a job that runs on one host only run on none.
        """
        stage.lead("first").release()  # what a store must be taught once is not counted
        probe = stage.link()
        leadership = stage.lead("probe", elector=stage.open(probe))
        total = probe.replied
        leadership.release()
        kept_out = 0
        for step in range(6):
            link = stage.link()
            elector = stage.open(link)
            link.cut_after(total * step // 6, "replies")
            entering = stage.contend(f"c{step}", elector=elector, wait=wait)

            def broken_off(link: Link = link, entering: Contender = entering) -> bool:
                return link.broken > 0 or not entering.waits

            eventually("it breaks off", broken_off, 10)
            link.cut()
            entering.ends(10 + SLACK)
            if entering.leadership is None:
                assert isinstance(entering.error, Unreachable), entering.error
                kept_out += 1
            entering.close()
            # What it may have won is nobody's: it runs out.
            stage.lead("next", within=stage.succession).release()
        assert kept_out, "the fault did not happen"

    @pytest.mark.parametrize("wait", [0.0, 1.0])
    def test_a_store_that_takes_no_entry_is_no_contention(self, stage: Stage, wait: float) -> None:
        """It answers who leads (nobody), and takes no writes: its own words, and no "who leads"."""
        full = stage.harness.full()
        if full is None:
            pytest.skip("the harness says that this store never answers without taking writes")
        with full:
            assert stage.elector.holder(stage.election) is None
            with pytest.raises(Unreachable) as caught:
                stage.open().campaign(stage.election, "a", ttl=stage.ttl, wait=wait)
            assert "leads" not in caught.value.message
        stage.lead("a", within=10)

    def test_a_candidate_that_came_before_the_store_wins_once_it_is_there(
        self, stage: Stage
    ) -> None:
        """It keeps trying within its limit."""
        link = stage.link()
        link.cut()
        troubles: list[ElectctlError] = []
        early = stage.contend("a", elector=stage.open(link), on_trouble=troubles.append)
        eventually("it has tried", lambda: bool(troubles), 10)
        assert early.waits
        link.forward()
        early.elected(5 + SLACK)

    def test_a_waiting_candidate_survives_an_outage_and_wins(self, stage: Stage) -> None:
        """The leader ends in time by itself; the store comes back; the candidate leads."""
        leader = stage.lead("a")
        waiter = stage.queue("w")
        with stage.outage():
            assert leader.lost.wait(leader.timing.ttl + SLACK), "it led on without a store"
            eventually("nothing remains", lambda: leader.remaining() == 0, leader.timing.ttl)
            stage.gone(leader)
            assert waiter.waits
        successor = waiter.elected(stage.succession + 5)
        assert waiter.elected_at is not None
        assert waiter.elected_at >= leader.valid_until
        leader.release()
        successor.check()
        stage.must_not_win("rival")

    def test_wrong_credentials_are_refused(self, stage: Stage) -> None:
        """At once, as such, and without telling the secret."""
        url = stage.harness.wrong_credentials()
        if url is None:
            pytest.skip("the harness says that this scheme has no credentials")
        elector = stage.open(url=url)
        began = now()
        with pytest.raises(Refused) as caught:
            elector.campaign(stage.election, "a", ttl=stage.ttl, wait=5.0)
        assert now() - began < 5
        assert "wrong-secret" not in f"{caught.value.message} {caught.value.hint}"
        with pytest.raises(Refused):
            elector.holder(stage.election)
        observer = stage.observe(stage.open(url=url))
        with pytest.raises(Refused):
            observer.next(5)
