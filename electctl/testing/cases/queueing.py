"""Waiting, being woken, giving up.

What this leaves out: how many operations waiting costs the store (benchmarks).
"""

from __future__ import annotations

from statistics import median

import pytest

from electctl.base.clock import now
from electctl.errors import NotElected
from electctl.testing.cases.base import Cases
from electctl.testing.stage import PATIENCE, SLACK, Stage, eventually, let_pass

#: Waiters that vanish at once.
_VANISH = 5


class Queueing(Cases):
    """Those who do not lead yet."""

    def test_a_release_wakes_the_next_at_once(self, stage: Stage) -> None:
        """The median of seven hand-overs, by notification or within the stated interval."""
        delays = []
        leader = stage.lead("w0")
        for number in range(1, 8):
            waiter = stage.queue(f"w{number}")
            released_at = now()
            leader.release()
            leader = waiter.elected(stage.succession)
            assert waiter.elected_at is not None
            delays.append(waiter.elected_at - released_at)
        assert median(delays) < stage.wake_up, [f"{delay:.3f}" for delay in delays]

    def test_order_of_entry_is_kept_where_the_scheme_has_one(self, stage: Stage) -> None:
        """With ``traits.order`` fifo; everywhere, each of five is elected once."""
        leader = stage.lead("first")
        waiters = {f"w{number}": stage.queue(f"w{number}") for number in range(5)}
        if stage.traits.order == "fifo":
            assert stage.elector.candidates(stage.election) == tuple(waiters)
        order = []
        for _ in range(5):
            leader.release()
            eventually(
                "the next leads",
                lambda: any(not w.waits for n, w in waiters.items() if n not in order),
                stage.succession,
            )
            (name,) = [n for n, w in waiters.items() if n not in order and not w.waits]
            order.append(name)
            leader = waiters[name].elected(0)
        if stage.traits.order == "fifo":
            assert order == list(waiters)
        assert sorted(order) == sorted(waiters)

    def test_no_wait_tries_once(self, stage: Stage) -> None:
        """It wins a vacant election, and does not wait for a taken one."""
        first = stage.open().campaign(stage.election, "a", ttl=stage.ttl, wait=0)
        rival = stage.contend("b", wait=0)
        assert isinstance(rival.failed(PATIENCE), NotElected)
        first.release()
        assert stage.elector.holder(stage.election) is None, "a candidate that gave up won later"

    def test_a_wait_that_runs_out_leaves_nothing_behind(self, stage: Stage) -> None:
        """NotElected in time, and a later release makes no leader of it."""
        leader = stage.lead("a")
        began = now()
        waiter = stage.contend("b", wait=0.5)
        error = waiter.failed(PATIENCE)
        assert isinstance(error, NotElected)
        assert now() - began >= 0.5
        assert stage.elector.candidates(stage.election) == ()
        leader.release()
        assert stage.elector.holder(stage.election) is None
        stage.lead("c", within=SLACK).release()

    def test_a_cancelled_candidate_ends_soon_and_the_others_are_woken(self, stage: Stage) -> None:
        """Cancel takes one out of the middle of the queue, and the next release goes past it."""
        leader = stage.lead("a")
        first, second, third = (stage.queue(name) for name in ("w1", "w2", "w3"))
        first.attempt.cancel()
        second.attempt.cancel()
        for waiter in (first, second):
            error = waiter.failed(SLACK)
            assert isinstance(error, NotElected)
            assert "cancelled" in error.message
            assert not waiter.attempt.given_up, "cancel did not make acquire return"
        eventually(
            "those who cancelled are no longer listed",
            lambda: not {"w1", "w2"} & set(stage.elector.candidates(stage.election)),
            PATIENCE,
        )
        leader.release()
        third.elected(stage.wake_up + SLACK)

    def test_a_candidate_killed_in_the_queue_holds_up_nobody(self, stage: Stage) -> None:
        """SIGKILL of the first in line, then a release: the next leads within a TTL."""
        leader = stage.lead("a")
        process = stage.process("doomed")
        process.until("campaigning")
        eventually(
            "the process waits",
            lambda: (
                not stage.harness.lists_waiters
                or "doomed" in stage.elector.candidates(stage.election)
            ),
            10,
        )
        waiter = stage.queue("w")
        process.kill()
        leader.release()
        waiter.elected(stage.succession)

    @pytest.mark.parametrize(("held", "asked"), [(1, 3), (3, 1)])
    def test_who_waits_goes_by_the_ttl_of_who_led(
        self, stage: Stage, held: int, asked: int
    ) -> None:
        """The TTL is the record's: a dead leader's is waited for, be it shorter or longer."""
        holder_ttl, ttl = held * stage.ttl, asked * stage.ttl
        process = stage.process("doomed", hold=60, ttl=holder_ttl)
        led = process.until("elected")
        waiter = stage.queue("w", ttl=ttl)
        process.kill()
        waiter.elected(stage.succession_of(ttl=ttl, holder_ttl=holder_ttl))
        assert waiter.elected_at is not None
        assert isinstance(led["valid_until"], float)
        assert waiter.elected_at >= led["valid_until"], "elected while the dead may have led"


class LinkedQueueing(Cases):
    """Those whose way to the store breaks while they wait."""

    def test_a_candidate_cut_off_in_the_queue_neither_wins_nor_hangs(self, stage: Stage) -> None:
        """Its lease dies in the queue; the next leads meanwhile; once back it wins in its turn."""
        link = stage.link()
        leader = stage.lead("a")
        cut_off = stage.queue("cut-off", elector=stage.open(link))
        waiter = stage.queue("w")
        link.swallow()
        leader.release()
        successor = waiter.elected(2 * stage.ttl + SLACK)
        assert cut_off.waits
        link.forward()
        let_pass(2 * stage.timing.renew_interval)
        assert cut_off.waits, "it was elected beside the one that leads"
        successor.check()
        successor.release()
        late = cut_off.elected(stage.succession)
        if late.token is not None and successor.token is not None:
            assert late.token > successor.token

    @pytest.mark.parametrize("how", ["the leader vanishes too", "the leader releases"])
    def test_those_next_in_line_that_vanish_hold_up_nobody(self, stage: Stage, how: str) -> None:
        """A rack loses power: connections stay open and nobody answers. The first that is still
        there leads as soon as it would have if it had been next, however many were before it;
        theirs may be a longer TTL than the leader's."""
        link = stage.link()
        released = how == "the leader releases"
        ttl = stage.ttl if released else 3 * stage.ttl
        leader = stage.lead("leader", elector=None if released else stage.open(link))
        for number in range(_VANISH):
            stage.queue(f"gone-{number}", elector=stage.open(link), ttl=ttl)
        waiter = stage.queue("there", ttl=ttl)
        link.swallow()
        if released:
            leader.release()
        waiter.elected(stage.succession_of(ttl=ttl, holder_ttl=stage.ttl, dead_waiters=_VANISH))
        link.forward()

    def test_a_waiting_candidate_survives_cut_connections(self, stage: Stage) -> None:
        """Reset and refused for a while: it says so, waits on, and wins when its time comes."""
        link = stage.link()
        leader = stage.lead("a")
        troubles: list[str] = []
        waiter = stage.contend(
            "w",
            elector=stage.open(link),
            on_trouble=lambda error: troubles.append(error.message),
        )
        eventually("w waits", lambda: waiter.attempt.candidacy.contacted, 10)
        link.cut()
        eventually("the trouble is told", lambda: bool(troubles), 10)
        link.forward()
        leader.check()
        leader.release()
        waiter.elected(stage.succession + 2.0)

    def test_a_cut_off_candidate_can_still_be_cancelled(self, stage: Stage) -> None:
        """Silence on the wire delays no cancel beyond a few requests' time-outs."""
        link = stage.link()
        stage.lead("a")
        waiter = stage.queue("w", elector=stage.open(link))
        link.swallow()
        waiter.attempt.cancel()
        assert isinstance(waiter.failed(4 * stage.timing.request_timeout + SLACK), NotElected)
