"""The session and the courier, event by event: what each answer means, and what silence does.

What these leave out: whole clusters; the simulation plays those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from electctl.core import lease
from electctl.raft.pure.commands import Close, Done, Enter, Entered, Gone, Open, Opened, Save, Stale
from electctl.raft.pure.courier import Answered, Courier, FromServer, SendTo, WayLost, Woken
from electctl.raft.pure.leases import Standing
from electctl.raft.pure.requests import (
    Answer,
    Applied,
    ElectionSeen,
    Follow,
    LookElection,
    Notice,
    Renew,
    Renewed,
    Reply,
    Retry,
    Submit,
)
from electctl.raft.pure.session import (
    GiveUp,
    Led,
    Over,
    RenewNow,
    Saved,
    Session,
    SessionEvent,
    Stage,
    TwinSeen,
    Verdict,
    Write,
)

NODES = (1, 2, 3)
TTL = 9.0
TIMEOUT = 2.0
SESSION = 7
TOKEN = 8
LEADS = Renewed(Standing(True, TOKEN), False)
WAITS = Renewed(Standing(True, None, ahead=1), False)


@dataclass
class Play:
    """A session, what it has sent and said, and the time."""

    session: Session = field(default_factory=lambda: Session(NODES, "e", "me", TTL, TIMEOUT))
    now: float = 100.0
    sent: list[SendTo] = field(default_factory=list)
    said: list[object] = field(default_factory=list)

    def take(self, instructions: Sequence[object]) -> None:
        for instruction in instructions:
            if isinstance(instruction, SendTo):
                self.sent.append(instruction)
            else:
                self.said.append(instruction)

    def do(self, event: SessionEvent) -> None:
        self.take(self.session.handle(event, self.now))

    def answer(self, reply: Reply, *, to: int = -1) -> None:
        send = self.sent[to]
        self.do(FromServer(send.server, Answer(send.request.id, reply)))

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.do(Woken())

    def asked(self) -> object:
        ask = self.sent[-1].request.ask
        return ask.command if isinstance(ask, Submit) else ask

    def wait(self) -> None:
        self.take(self.session.start(self.now))
        assert self.asked() == Open(9000)
        self.answer(Applied(Opened(SESSION)))
        assert self.asked() == Enter(SESSION, 1, "e", "me")
        self.answer(Applied(Entered(None)))
        assert self.session.queued

    def lead(self) -> None:
        self.wait()
        self.do(FromServer(1, Notice(SESSION)))
        self.answer(LEADS)
        assert self.session.leads
        self.said.clear()


def test_leadership_counts_from_before_the_renewal_that_confirms_it() -> None:
    """Neither "entered" nor a notice is enough."""
    play = Play()
    play.wait()
    play.do(FromServer(1, Notice(SESSION)))
    assert play.asked() == Renew(SESSION)
    sent_at = play.now
    play.now += 0.7
    play.answer(LEADS)
    assert play.said == [Led(TOKEN, sent_at)]


def test_a_confirmation_of_which_nothing_is_left_makes_no_leader() -> None:
    play = Play(Session(NODES, "e", "me", TTL, request_timeout=20.0))
    play.wait()
    play.do(FromServer(1, Notice(SESSION)))
    renewal = len(play.sent) - 1
    play.now += TTL
    play.answer(LEADS, to=renewal)
    assert play.said == []
    assert play.asked() == Renew(SESSION)


def test_a_notice_of_another_session_is_nothing() -> None:
    play = Play()
    play.wait()
    count = len(play.sent)
    play.do(FromServer(1, Notice(SESSION + 1)))
    assert len(play.sent) == count


def test_who_waits_keeps_its_session_alive() -> None:
    """Each third of the TTL, and again at once when that is not answered."""
    play = Play()
    play.wait()
    play.after(TTL / 3)
    assert play.asked() == Renew(SESSION)
    play.answer(WAITS)
    count = len(play.sent)
    play.after(TTL / 3)
    assert [send.request.ask for send in play.sent[count:]] == [Renew(SESSION)]
    first = play.sent[-1]
    play.after(TIMEOUT)
    assert play.asked() == Renew(SESSION)
    assert play.sent[-1].request.id != first.request.id


def test_a_way_that_is_lost_while_waiting_is_asked_about_at_once() -> None:
    """The notice of our grant may have gone that way."""
    play = Play()
    play.wait()
    play.do(WayLost(1))
    assert play.asked() == Renew(SESSION)
    assert play.sent[-1].server == 2


@pytest.mark.parametrize("standing", [None, Standing(entered=False)])
def test_a_session_that_died_in_the_queue_is_opened_anew(standing: Standing | None) -> None:
    """It neither wins nor hangs; what the old one is told then is nobody's."""
    play = Play()
    play.wait()
    play.after(TTL / 3)
    play.answer(Renewed(standing, False))
    assert play.asked() == Open(9000)
    play.do(FromServer(1, Notice(SESSION)))
    play.answer(Applied(Opened(SESSION + 10)))
    assert play.asked() == Enter(SESSION + 10, 2, "e", "me")


def test_a_twin_is_told_of() -> None:
    play = Play()
    play.wait()
    play.after(TTL / 3)
    play.answer(Renewed(Standing(True, None, ahead=1), True))
    assert play.said == [TwinSeen()]


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (LEADS, lease.Renewed(5, 100.0, TTL)),
        (Renewed(Standing(True, TOKEN, True), False), lease.Renewed(5, 100.0, TTL, True)),
        (Renewed(None, False), lease.RenewalRefused(5, "deleted")),
        (Renewed(Standing(False), False), lease.RenewalRefused(5, "evicted")),
        (Renewed(Standing(True, TOKEN + 1), False), lease.RenewalRefused(5, "evicted")),
    ],
)
def test_what_a_renewal_says(reply: Reply, event: lease.Event) -> None:
    play = Play()
    play.lead()
    play.do(RenewNow(5))
    play.now += 0.5
    play.answer(reply)
    assert play.said == [Verdict(event)]  # type: ignore[arg-type]


def test_a_renewal_that_is_passed_on_counts_from_its_first_copy() -> None:
    """Any of the copies may have brought the answer."""
    play = Play()
    play.lead()
    began = play.now
    play.do(RenewNow(5))
    play.now += 0.1
    play.answer(Retry(3))
    assert play.sent[-1].server == 3
    play.answer(LEADS)
    assert play.said == [Verdict(lease.Renewed(5, began, TTL))]


def test_a_renewal_without_an_answer_is_tried_elsewhere_and_then_unknown() -> None:
    play = Play()
    play.lead()
    play.do(RenewNow(5))
    play.after(TIMEOUT / 2)
    assert [send.server for send in play.sent[-2:]] == [1, 2]
    play.after(TIMEOUT / 2)
    assert play.said == [Verdict(lease.RenewalUnknown(5, "no answer in time"))]


SAVED = ("s", b"v", 3)


@pytest.mark.parametrize(
    ("copies", "reply", "outcome"),
    [
        (1, Done(), True),
        (1, Stale(), False),
        (1, Gone(), False),
        (2, Done(), True),
        (2, Stale(), False),
        # The first copy may have acted before the session ended.
        (2, Gone(), None),
    ],
)
def test_what_the_answer_to_a_save_means(
    copies: int, reply: Done | Stale | Gone, outcome: bool | None
) -> None:
    play = Play()
    play.lead()
    play.do(Write(*SAVED))
    assert play.asked() == Save(SESSION, 2, TOKEN, "s", b"v", 3)
    if copies == 2:
        play.do(WayLost(1))
        assert play.asked() == Save(SESSION, 2, TOKEN, "s", b"v", 3)
    play.answer(Applied(reply))
    assert play.said == [Saved(*SAVED, outcome)]


def test_the_same_write_again_is_not_sent_twice_while_it_is_under_way() -> None:
    play = Play()
    play.lead()
    play.do(Write(*SAVED))
    count = len(play.sent)
    play.do(Write(*SAVED))
    assert len(play.sent) == count
    play.answer(Applied(Done()))
    assert len(play.said) == 1
    play.do(Write(*SAVED))
    assert play.asked() == Save(SESSION, 3, TOKEN, "s", b"v", 3)


def test_giving_up_leaves_a_write_unknown_and_closes() -> None:
    """The close has a later number, so the write can act only before it."""
    play = Play()
    play.lead()
    play.do(Write(*SAVED))
    play.do(GiveUp())
    assert play.said == [Saved(*SAVED, None)]
    assert play.asked() == Close(SESSION, 3)
    play.answer(Applied(Done()))
    assert play.said[-1] == Over()
    assert play.session.wake_at() is None
    play.do(RenewNow(9))
    play.do(Write(*SAVED))
    assert play.asked() == Close(SESSION, 3)


def test_a_close_that_nobody_answers_ends_with_the_ttl() -> None:
    play = Play()
    play.lead()
    play.do(GiveUp())
    play.after(TTL)
    assert play.session.stage is Stage.OVER
    assert play.said == [Over()]


# The courier -------------------------------------------------------------------------------------


def seen(token: int | None) -> ElectionSeen:
    return ElectionSeen("a", token, 1, 1000, 1000, ())


def test_each_node_is_asked_once_before_there_is_a_pause() -> None:
    courier = Courier(NODES, 1.0)
    _, send = courier.send(LookElection("e"), 0.0, 10.0)
    asked = [send.server]
    while answers := courier.handle(FromServer(send.server, Answer(1, Retry(None))), 0.0):
        (answer,) = answers
        assert isinstance(answer, SendTo)
        send = answer
        asked.append(send.server)
    assert asked == [1, 2, 3, 1]
    assert courier.wake_at() == pytest.approx(0.1)


def test_a_broken_way_sends_on_what_was_asked_there_and_nothing_else() -> None:
    courier = Courier(NODES, 1.0)
    courier.send(LookElection("a"), 0.0, 10.0)
    assert courier.handle(WayLost(2), 0.0) == []
    (sent,) = courier.handle(WayLost(1), 0.0)
    assert isinstance(sent, SendTo)
    assert sent.server == 2
    _, later = courier.send(LookElection("b"), 0.0, 10.0)
    assert later.server == 2


def test_a_follower_is_answered_again_and_again_by_one_node_at_a_time() -> None:
    """What a leader of the past still tells is dropped: it would be out of order."""
    courier = Courier(NODES, 1.0)
    number, _ = courier.send(Follow("e"), 0.0, float("inf"))

    def told(server: int, token: int) -> list[object]:
        items = courier.handle(FromServer(server, Answer(number, seen(token))), 0.0)
        return [item.reply if isinstance(item, Answered) else item for item in items]

    assert told(1, 5) == [seen(5)]
    assert told(1, 6) == [seen(6)]
    assert courier.handle(Woken(), 1000.0) == []
    (again,) = courier.handle(FromServer(1, Answer(number, Retry(3))), 1000.0)
    assert isinstance(again, SendTo)
    assert again.server == 3
    assert told(1, 7) == []
    assert told(3, 8) == [seen(8)]
    courier.drop(number)
    assert told(3, 9) == []
