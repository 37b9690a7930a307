"""Giving back a grant whose holder is gone, by its receipt.

What this leaves out: whether its holder is gone. Whoever gives it back must know that.
"""

from __future__ import annotations

import threading

import pytest

from electctl.base.clock import now
from electctl.errors import ElectctlError, LeadershipLost, Unsupported, UsageError
from electctl.testing.cases.base import Cases
from electctl.testing.stage import PATIENCE, SLACK, Stage, eventually


def receipt_of(stage: Stage, receipt: str | None) -> str:
    """The receipt; where the scheme has none, it must say so, and the case is over."""
    assert stage.traits.gives_back == (receipt is not None)
    if receipt is None:
        with pytest.raises(Unsupported):
            stage.elector.give_back("1.0 x")
        pytest.skip("this scheme gives no receipts, and says so")
    return receipt


class Receipts(Cases):
    """Exactly that grant, by anybody, as often as one likes."""

    def test_the_next_leads_at_once_after_a_killed_leader_was_given_back(
        self, stage: Stage
    ) -> None:
        """SIGKILL, and another process gives back what it held: nobody waits for the expiry."""
        process = stage.process("doomed", hold=60)
        elected = process.until("elected")
        receipt = elected["receipt"]
        assert receipt is None or isinstance(receipt, str)
        known = receipt_of(stage, receipt)
        waiter = stage.queue("w")
        process.kill()
        began = now()
        stage.open().give_back(known)
        leadership = waiter.elected(stage.wake_up + SLACK)
        assert waiter.elected_at is not None
        assert waiter.elected_at - began < stage.wake_up + SLACK / 2
        if leadership.token is not None:
            assert isinstance(elected["token"], int)
            assert leadership.token > elected["token"]

    def test_a_holder_whose_grant_was_given_back_is_told(self, stage: Stage) -> None:
        """If it was not gone after all: its next renewal is a definite no."""
        leadership = stage.lead("a")
        stage.open().give_back(receipt_of(stage, leadership.receipt))
        assert stage.elector.holder(stage.election) is None
        with pytest.raises(LeadershipLost):
            leadership.candidacy.renew()

    @pytest.mark.parametrize("later", ["same", "other"])
    def test_a_receipt_of_an_earlier_term_hits_nothing(self, stage: Stage, later: str) -> None:
        """Neither a later term of the same id, nor somebody else's, nor another's place in line."""
        first = stage.lead("same")
        receipt = receipt_of(stage, first.receipt)
        first.release()
        second = stage.lead(later)
        assert second.receipt != receipt
        waiter = stage.queue("w")
        for _ in range(2):
            stage.open().give_back(receipt)
        stage.must_not_win("rival")
        assert second.candidacy.renew().ttl > 0
        second.check()
        assert waiter.waits
        second.release()
        waiter.elected(stage.wake_up + SLACK)

    def test_it_may_be_given_back_twice(self, stage: Stage) -> None:
        """A grant that is not there any more is no error; nor after its holder released it."""
        receipt = receipt_of(stage, stage.lead("a").receipt)
        giver = stage.open()
        giver.give_back(receipt)
        giver.give_back(receipt)
        after = stage.lead("b")
        giver.give_back(receipt)
        after.check()
        assert after.candidacy.renew().ttl > 0

    def test_what_is_no_receipt_is_refused(self, stage: Stage) -> None:
        """Another scheme's, or nobody's: nothing is removed by guesswork."""
        leadership = stage.lead("a")
        receipt_of(stage, leadership.receipt)
        for nonsense in ("", "x", "1.0 ", "1.0 nonsense", '1.0 ["a"]', '1.0 ["a", "b", "c"]'):
            with pytest.raises(UsageError):
                stage.elector.give_back(nonsense)
        assert leadership.candidacy.renew().ttl > 0


class LinkedReceipts(Cases):
    """Through a link that breaks."""

    def test_a_receipt_that_arrives_late_hits_no_later_term(self, stage: Stage) -> None:
        """It is held up on the way until the same id leads again."""
        link = stage.link()
        giver = stage.open(link)
        assert giver.holder(stage.election) is None
        first = stage.lead("same")
        receipt = receipt_of(stage, first.receipt)
        link.hold("requests")
        errors: list[ElectctlError | None] = []

        def give_back() -> None:
            try:
                giver.give_back(receipt)
                errors.append(None)
            except ElectctlError as error:
                errors.append(error)

        thread = threading.Thread(target=give_back, daemon=True)
        thread.start()
        eventually("it is on its way", lambda: link.held > 0, PATIENCE)
        first.release()
        second = stage.lead("same")
        link.forward()
        thread.join(PATIENCE + SLACK)
        assert errors, "it hangs"
        assert second.candidacy.renew().ttl > 0
        stage.must_not_win("rival")
        second.check()

    def test_no_contact_is_said(self, stage: Stage) -> None:
        """So that it is tried again; afterwards it works."""
        link = stage.link()
        giver = stage.open(link)
        receipt = receipt_of(stage, stage.lead("a").receipt)
        link.cut()
        with pytest.raises(ElectctlError) as caught:
            giver.give_back(receipt)
        assert type(caught.value).__name__ in ("Unreachable", "OutcomeUnknown")
        link.forward()
        began = now()
        while True:
            try:
                giver.give_back(receipt)
                break
            except ElectctlError:
                assert now() - began < PATIENCE, "it does not come back"
        assert stage.elector.holder(stage.election) is None
