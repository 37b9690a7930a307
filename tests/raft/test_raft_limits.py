"""What a table may hold at most, and that its own count of that is never too low.

What this does not show: that a node with a full table is quick.
"""

from __future__ import annotations

import random

from electctl.raft.pure.commands import (
    Close,
    Command,
    Done,
    Enter,
    Entered,
    Evict,
    Expire,
    Full,
    Leave,
    Open,
    Opened,
    Save,
)
from electctl.raft.pure.courier import FromServer, SendTo
from electctl.raft.pure.leases import (
    Checkpoint,
    LeaseTable,
    Standing,
    entered_size,
    slot_size,
)
from electctl.raft.pure.messages import Install
from electctl.raft.pure.requests import Answer, Applied
from electctl.raft.pure.session import (
    Over,
    Saved,
    Session,
    Stage,
    TableFull,
    Write,
)
from electctl.raft.pure.snapshots import dump, load
from electctl.raft.pure.wire import PEER_LIMIT, frame

NAMES = ("a", "worker", "ü" * 40, '"\\\n\0' * 10, "")


class Small(LeaseTable):
    max_sessions = 3
    max_bytes = 2000


def drawn(draw: random.Random, index: int) -> Command:
    """A command that may make sense: numbers are small, so they meet."""
    session = draw.randrange(1, 1 + index)
    name = draw.choice(NAMES)
    return draw.choice(
        (
            Open(1000),
            Enter(session, index, name, draw.choice(NAMES)),
            Enter(session, index, name, draw.choice(NAMES)),
            Save(session, index, session + draw.randrange(4), name, bytes(draw.randrange(90)), 1),
            Leave(session, index),
            Close(session, index),
            Expire(session),
            Evict(name, session, True),
        )
    )


def test_a_table_knows_its_size() -> None:
    """As large as its snapshot at least, and the same after a restart as before."""
    draw = random.Random(12)
    saved = 0
    for _ in range(100):
        table = LeaseTable()
        for index in range(1, 60):
            command = drawn(draw, index)
            holders = [e for e in table.elections.values() if e.holder is not None]
            if isinstance(command, Save) and holders:
                held = draw.choice(holders)
                assert held.holder is not None
                value = bytes(draw.randrange(90))
                command = Save(held.holder, index, held.token, draw.choice(NAMES), value, 1)
                saved += 1
            table.apply(index, command)
            state = dump(table)
            assert table.size == table.measure() == load(state).size
            assert table.size + 100 >= len(state)
    assert saved > 100


def test_sessions_are_limited_and_free_again() -> None:
    table = Small()
    results = [table.apply(index, Open(1000)).result for index in range(1, 5)]
    assert results == [Opened(1), Opened(2), Opened(3), Full()]
    table.apply(5, Expire(2))
    assert table.apply(6, Open(1000)).result == Opened(6)


def test_what_fits_exactly_fits() -> None:
    table = Small()
    table.apply(1, Open(1000))
    table.max_bytes = table.size + entered_size("e", "c")
    assert table.apply(2, Enter(1, 1, "e", "c")).result == Entered(2)
    checkpoint = Checkpoint(2, 1, b"value")
    table.max_bytes = table.size + slot_size(("e", "s"), checkpoint)
    assert table.apply(3, Save(1, 2, 2, "s", b"value", 1)).result == Done()


def test_who_waits_knows_how_many_come_before() -> None:
    table = Small()
    for index in (1, 2, 3):
        table.apply(index, Open(1000))
    for number in (1, 2, 3):
        table.apply(3 + number, Enter(number, 1, "e", "c"))
    standings = [table.standing(number) for number in (1, 2, 3)]
    assert standings == [Standing(True, 4), Standing(True, ahead=1), Standing(True, ahead=2)]


def test_names_are_limited() -> None:
    table = Small()
    table.apply(1, Open(1000))
    assert table.apply(2, Enter(1, 1, "e" * 2000, "c")).result == Full()
    assert table.elections == {}
    assert table.apply(3, Enter(1, 2, "e", "c")).result == Entered(3)


def test_a_full_table_takes_what_does_not_make_it_larger() -> None:
    table = Small()
    table.apply(1, Open(1000))
    table.apply(2, Enter(1, 1, "e", "c"))

    def save(index: int, size: int, slot: str = "s") -> object:
        return table.apply(index, Save(1, index, 2, slot, bytes(size), index)).result

    assert save(3, 900) == Done()
    assert save(4, 900, "other") == Full()
    assert save(5, 1300) == Full()
    assert save(6, 900) == Done()
    assert save(7, 10) == Done()
    assert save(8, 600, "other") == Done()
    assert {slot: c.version for (_, slot), c in table.checkpoints.items()} == {"s": 7, "other": 8}


def test_the_largest_table_fits_into_one_message() -> None:
    table = LeaseTable()
    table.apply(1, Open(1000))
    table.apply(2, Enter(1, 1, "e", "c"))
    index = 3
    while table.apply(index, Save(1, index, 2, str(index), bytes(1 << 20), 1)).result == Done():
        index += 1
    state = dump(table)
    assert table.max_bytes * 0.9 < len(state) <= table.max_bytes
    assert len(frame(Install(1, 1, 1, state))) < PEER_LIMIT


# What a client is told ---------------------------------------------------------------------------


def answer(session: Session, sent: list[SendTo], result: object) -> list[object]:
    (send,) = sent
    told = FromServer(send.server, Answer(send.request.id, Applied(result)))  # type: ignore[arg-type]
    return list(session.handle(told, 0.1))


def test_a_client_of_a_full_cluster_is_told_so() -> None:
    session = Session((1,), "e", "c", 5.0, 1.0)
    sent = [item for item in session.start(0.0) if isinstance(item, SendTo)]
    assert answer(session, sent, Full()) == [TableFull(), Over()]


def test_a_client_whose_name_does_not_fit_closes_its_session() -> None:
    session = Session((1,), "e", "c", 5.0, 1.0)
    sent = [item for item in session.start(0.0) if isinstance(item, SendTo)]
    entering = [item for item in answer(session, sent, Opened(7)) if isinstance(item, SendTo)]
    full, closing = answer(session, entering, Full())
    assert full == TableFull()
    assert isinstance(closing, SendTo)
    assert session.stage is Stage.CLOSING


def test_a_leader_whose_checkpoint_does_not_fit_leads_on() -> None:
    session = Session((1,), "e", "c", 5.0, 1.0)
    sent = [item for item in session.start(0.0) if isinstance(item, SendTo)]
    entering = [item for item in answer(session, sent, Opened(7)) if isinstance(item, SendTo)]
    answer(session, entering, Entered(8))
    session.stage, session.token = Stage.LEADING, 8
    saving = session.handle(Write("s", b"value", 1), 0.2)
    assert answer(session, [i for i in saving if isinstance(i, SendTo)], Full()) == [
        Saved("s", b"value", 1, outcome=False, full=True)
    ]
    assert session.leads
