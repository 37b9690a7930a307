"""Whom a server tells of a grant, and what it keeps for that.

What this does not show: that a notice arrives; it is a hint.
"""

from __future__ import annotations

from electctl.raft.pure.commands import Expire, Open, Opened
from electctl.raft.pure.core import Raft
from electctl.raft.pure.messages import (
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Persist,
    Stored,
    VoteReply,
)
from electctl.raft.pure.replica import EXPIRIES, FromClient, Replica, ReplicaInstruction, Tell
from electctl.raft.pure.requests import (
    Answer,
    Applied,
    Ask,
    Notice,
    Renew,
    Renewed,
    Request,
    Submit,
)
from electctl.raft.pure.steps import Receive, Send, Settings, Tick


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


def expiries(instructions: list[ReplicaInstruction]) -> list[int]:
    """The sessions of which the log holds an expiry from now on."""
    return [
        entry.command.session
        for item in instructions
        if isinstance(item, Persist)
        for entry in item.entries
        if isinstance(entry.command, Expire)
    ]


def test_sessions_that_end_together_end_some_at_a_time_and_each_once() -> None:
    pair = Pair()
    opened = 3 * EXPIRIES
    for _ in range(opened):
        assert isinstance(pair.ask(Submit(Open(500))), Applied)
    proposed: list[int] = []
    kept: list[ReplicaInstruction] = []
    while len(proposed) < opened:
        instructions = pair.replica.handle(Tick())
        found = expiries(instructions)
        assert len(found) <= EXPIRIES
        proposed += found
        # The other node answers heartbeats and nothing else: nothing is committed.
        kept += instructions
        beats = [i for i in instructions if isinstance(i, Send) and is_heartbeat(i)]
        pair.settle([*beats])
    assert len(set(proposed)) == opened
    messages = [item for item in kept if isinstance(item, Send) and not is_heartbeat(item)]
    assert len(messages) < opened / 10
    for _ in range(5):
        assert expiries(pair.replica.handle(Tick())) == []


def is_heartbeat(item: Send) -> bool:
    return isinstance(item.message, Heartbeat)
