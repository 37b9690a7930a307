"""What a leader puts into one message: few large entries, many small ones, never none.

What this does not show: what happens when one is lost; that is simulated.
"""

from __future__ import annotations

from electctl.raft.pure.commands import Command, Enter, Evict, Noop, Save, weight
from electctl.raft.pure.core import Raft
from electctl.raft.pure.messages import (
    Append,
    AppendReply,
    Entry,
    HeartbeatReply,
    Message,
    Stored,
    VoteReply,
)
from electctl.raft.pure.progress import Progress
from electctl.raft.pure.steps import Instruction, Receive, Send, Settings, Tick

#: Bytes of the checkpoint in each entry; 0: it is none.
SIZES = [0, 400, 400, 400, 2000, 0, 0, 0, 0, 999, 1, 1, 3000, 3000, 0]
BATCHES = [[0, 400, 400], [400], [2000], [0, 0, 0, 0], [999, 1], [1], [3000], [3000], [0, 0]]
LIMIT = 1000


def command(size: int) -> Command:
    return Save(1, 1, 1, "", bytes(size), 1) if size else Noop()


def appended(instructions: list[Instruction]) -> list[Append]:
    return [
        item.message
        for item in instructions
        if isinstance(item, Send) and isinstance(item.message, Append)
    ]


def test_a_message_holds_as_many_entries_as_its_size_allows() -> None:
    entries = tuple(Entry(n, 1, command(size)) for n, size in enumerate(SIZES, 1))
    settings = Settings(batch=4, batch_bytes=LIMIT)
    raft = Raft(1, frozenset({1, 2}), Stored(1, None, entries=entries), settings, lambda n: 0)

    def hear(message: Message) -> list[Append]:
        return appended(raft.handle(Receive(2, message)))

    for _ in range(settings.election_ticks):
        raft.handle(Tick())
    hear(VoteReply(2, True, True))
    hear(VoteReply(2, True, False))
    hear(HeartbeatReply(2, 1))
    # Node 2 has nothing: all of the log follows, and the entry of the new leader.
    sent = hear(AppendReply(2, len(SIZES), True, 0, 0))
    batches = []
    while sent:
        append = sent.pop(0)
        batches.append([len(getattr(entry.command, "value", b"")) for entry in append.entries])
        assert append.prev_index == sum(map(len, batches[:-1]))
        sent += hear(AppendReply(2, append.prev_index + len(append.entries), False, 0, 0))
    assert batches == BATCHES


def test_no_more_is_under_way_than_the_window_holds() -> None:
    progress = Progress(6)
    progress.matched(5)
    assert progress.room(8) == 8
    progress.sent(7)
    assert progress.room(8) == 1
    progress.sent(1)
    assert progress.room(8) == 0


def test_whatever_a_client_made_large_counts() -> None:
    assert weight(Save(1, 1, 1, "slot", b"value", 1)) == 9
    assert weight(Enter(1, 1, "election", "candidate")) == 17
    assert weight(Evict("election", 1, False)) == 8


def test_copies_of_an_old_answer_bring_about_nothing() -> None:
    entries = tuple(Entry(n, 1, Noop()) for n in range(1, 10))
    raft = Raft(1, frozenset({1, 2}), Stored(1, None, entries=entries), Settings(), lambda n: 0)
    for _ in range(Settings().election_ticks):
        raft.handle(Tick())
    raft.handle(Receive(2, VoteReply(2, True, True)))
    raft.handle(Receive(2, VoteReply(2, True, False)))
    raft.handle(Receive(2, AppendReply(2, 9, True, 4, 1)))  # it has four
    assert appended(raft.handle(Receive(2, AppendReply(2, 5, False, 0, 0)))) != []
    question = appended(raft.handle(Receive(2, AppendReply(2, 9, True, 5, 1))))
    assert len(question) == 1  # back to one question at a time
    for _ in range(10):
        assert appended(raft.handle(Receive(2, AppendReply(2, 5, False, 0, 0)))) == []
    # Its answer is news, and so is a heartbeat's: the question may have been lost.
    assert len(appended(raft.handle(Receive(2, HeartbeatReply(2, 1))))) == 1
