"""Whom a server tells of a grant, and what it keeps for that.

What this does not show: that a notice arrives; it is a hint.
"""

from __future__ import annotations

from electctl.raft.commands import Open, Opened
from electctl.raft.core import Raft
from electctl.raft.messages import AppendReply, Heartbeat, HeartbeatReply, Stored, VoteReply
from electctl.raft.replica import FromClient, Replica, ReplicaInstruction, Tell
from electctl.raft.requests import Answer, Applied, Ask, Notice, Renew, Renewed, Request, Submit
from electctl.raft.steps import Receive, Send, Settings, Tick


class Pair:
    """The first of two nodes; the other agrees to all that it sends."""

    def __init__(self) -> None:
        settings = Settings()
        self.replica = Replica(Raft(1, frozenset({1, 2}), Stored(0), settings, lambda n: 0), 100)
        self.asked = 0
        while not self.replica.ready:
            self.settle(self.replica.handle(Tick()))

    def settle(self, instructions: list[ReplicaInstruction]) -> list[Answer | Notice]:
        """Bring every message to the other node and its consent back; what clients are told."""
        told = []
        while instructions:
            match instructions.pop(0):
                case Tell(message=message):
                    told.append(message)
                case Send(message=message):
                    reply = self.consent(message)
                    if reply is not None:
                        instructions += self.replica.handle(Receive(2, reply))
        return told

    def consent(self, message: object) -> VoteReply | AppendReply | HeartbeatReply | None:
        """What a follower says that has all and wants nothing."""
        name = type(message).__name__
        term = getattr(message, "term", 0)
        if name == "Vote":
            return VoteReply(term, True, getattr(message, "pre", False))
        if name == "Append":
            entries = getattr(message, "entries", ())
            last = getattr(message, "prev_index", 0) + len(entries)
            return AppendReply(term, last, False, 0, 0)
        if name == "Heartbeat":
            return HeartbeatReply(term, getattr(message, "round", 0))
        return None

    def ask(self, ask: Ask) -> object:
        """One question of a client, and the reply to it."""
        self.asked += 1
        event = FromClient("client", Request(self.asked, ask))
        (answer,) = self.settle(self.replica.handle(event))
        assert isinstance(answer, Answer)
        return answer.reply

    def depose(self) -> list[Answer | Notice]:
        """Another leads; what clients are told of it."""
        return self.settle(self.replica.handle(Receive(2, Heartbeat(99, 0, 1))))


def test_who_waits_is_told_when_this_node_no_longer_leads() -> None:
    pair = Pair()
    reply = pair.ask(Submit(Open(5000)))
    assert isinstance(reply, Applied)
    assert isinstance(reply.result, Opened)
    session = reply.result.session
    assert isinstance(pair.ask(Renew(session)), Renewed)
    assert pair.depose() == [Notice(session)]


def test_nothing_is_kept_of_sessions_that_do_not_exist() -> None:
    pair = Pair()
    for number in range(1000, 1100):
        assert pair.ask(Renew(number)) == Renewed(None, False)
    assert pair.depose() == []
