"""Both stores keep the contract; the durable one refuses what it cannot vouch for.

What this does not show: that the disk below keeps what it calls synced.
"""

from __future__ import annotations

import fcntl
import random
import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.raft.io.sqlite import SqliteStorage
from electctl.raft.pure.codec import Decoder, Malformed, encode
from electctl.raft.pure.commands import Noop, Open, Save
from electctl.raft.pure.errors import StoreDamaged
from electctl.raft.pure.log import Log
from electctl.raft.pure.messages import Append, Entry, Message, Persist, Snapshot, Stored
from electctl.raft.pure.storage import MemoryStorage, Storage, after


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = (
        MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "raft.db", 1)
    )
    yield made
    made.close()


def entries(first: int, last: int, term: int) -> tuple[Entry, ...]:
    return tuple(Entry(n, term, Save(1, n, 2, "s", b"\0\xff", 3)) for n in range(first, last + 1))


WRITES = [
    Persist(1, 2, 1, entries(1, 5, 1), None),
    Persist(2, None, 4, entries(4, 6, 2), None),
    Persist(2, 3, None, (), Snapshot(4, 2, b"table")),
    Persist(3, 3, 7, entries(7, 9, 3), None),
    Persist(4, None, 21, (), Snapshot(20, 4, b"another")),
    Persist(4, None, 21, entries(21, 22, 4), None),
]


def test_an_empty_store_knows_nothing(store: Storage) -> None:
    assert store.load() == Stored()


def test_each_write_means_what_the_contract_says(store: Storage) -> None:
    expected = Stored()
    for persist in WRITES:
        store.write(persist)
        expected = after(expected, persist)
        assert store.load() == expected
    assert [entry.index for entry in expected.entries] == [21, 22]


def test_what_was_written_is_there_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from electctl.raft.io.sqlite import SqliteStorage\n"
        "from electctl.raft.pure.messages import Entry, Persist\n"
        "from electctl.raft.pure.commands import Open\n"
        "store = SqliteStorage(Path(sys.argv[1]), 1)\n"
        "store.write(Persist(7, 3, 1, (Entry(1, 7, Open(1000)),), None))\n"
        "store._db.execute('BEGIN'); store._db.execute('UPDATE node SET term = 99')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -9
    store = SqliteStorage(path, 1)
    assert store.load() == Stored(7, 3, Snapshot(), (Entry(1, 7, Open(1000)),))
    store.close()


def refusal(path: Path, number: int = 1) -> str:
    with pytest.raises(StoreDamaged) as caught:
        SqliteStorage(path, number).load()
    return caught.value.message


def test_a_store_in_use_is_refused(tmp_path: Path) -> None:
    first = SqliteStorage(tmp_path / "raft.db", 1)
    assert "in use" in refusal(tmp_path / "raft.db")
    first.close()
    SqliteStorage(tmp_path / "raft.db", 1).close()


def test_another_nodes_store_is_refused(tmp_path: Path) -> None:
    SqliteStorage(tmp_path / "raft.db", 1).close()
    assert "belongs to node 1, not to node 2" in refusal(tmp_path / "raft.db", 2)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "raft.db"
    text.write_text("not a database, but long enough to look at " * 40)
    assert str(text) in refusal(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    assert "not a store of format" in refusal(other)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_damaged_or_cut_file_is_refused(tmp_path: Path, where: float) -> None:
    path = tmp_path / "raft.db"
    store = SqliteStorage(path, 1)
    store.write(Persist(1, 1, 1, entries(1, 900, 1), None))
    store.close()
    data = path.read_bytes()
    at = int(len(data) * where)
    path.write_bytes(data[:at])
    assert str(path) in refusal(path)
    wrong = bytes(byte ^ 0x5A for byte in data[at : at + 4096])
    path.write_bytes(data[:at] + wrong + data[at + 4096 :])
    assert str(path) in refusal(path)


def test_no_wrong_byte_is_believed(tmp_path: Path) -> None:
    """Wherever it is: the store is refused, or holds what it held (a byte that nothing uses)."""
    path = tmp_path / "raft.db"
    with closing(SqliteStorage(path, 1, frozenset({1, 2}))) as store:
        store.write(Persist(3, 2, 1, entries(1, 30, 3), None), Persist(4, 1, None, (), None))
        store.write(Persist(4, 1, None, (), Snapshot(10, 3, b"table" * 20)))
        stored = store.load()
    data = path.read_bytes()
    draw = random.Random(1)
    complaints = []
    for _ in range(200):
        at = draw.randrange(len(data))
        wrong = data[at] ^ draw.randrange(1, 256)
        path.write_bytes(data[:at] + bytes((wrong,)) + data[at + 1 :])
        try:
            with closing(SqliteStorage(path, 1, frozenset({1, 2}))) as store:
                assert store.load() == stored
        except StoreDamaged as error:
            complaints.append(error.message)
    assert len(complaints) > 5
    assert all(str(path) in complaint for complaint in complaints)


def test_an_empty_file_is_not_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    path.touch()
    assert "is empty" in refusal(path)
    assert path.read_bytes() == b""


def test_a_start_that_was_cut_short_left_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    (tmp_path / "raft.db.new").write_text("half")
    (tmp_path / "raft.db.new-journal").write_text("half")
    SqliteStorage(path, 1).close()
    assert [found.name for found in tmp_path.iterdir()] == ["raft.db"]


def test_a_store_that_another_makes_at_this_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    with open(f"{path}.new.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreDamaged, match="in use"):
            SqliteStorage(path, 1)
        assert not path.exists()
    # Whoever held it has ended, or been killed.
    SqliteStorage(path, 1).close()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["raft.db"]


def test_who_is_late_to_make_a_store_finds_that_of_another(tmp_path: Path) -> None:
    class Late(SqliteStorage):
        """Looks, sees no store, and is overtaken before it makes one."""

        def _create(self, number: int, voters: Collection[int]) -> None:
            others.append(SqliteStorage(tmp_path / "raft.db", 1))
            super()._create(number, voters)

    others: list[SqliteStorage] = []
    with pytest.raises(StoreDamaged, match="in use"):
        Late(tmp_path / "raft.db", 1)
    name = others[0].name
    others[0].close()
    with closing(SqliteStorage(tmp_path / "raft.db", 1)) as again:
        assert again.name == name


def test_other_voters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    SqliteStorage(path, 1, frozenset({1, 2, 3})).close()
    assert "of a cluster of nodes 1, 2, 3, not 1" in refusal(path)


def test_a_peers_store_is_known_for_good(tmp_path: Path) -> None:
    path = tmp_path / "raft.db"
    with closing(SqliteStorage(path, 1, frozenset({1, 2}))) as store:
        name = store.name
        assert store.peer_store(2) is None
        store.learn_peer_store(2, "abc")
    with closing(SqliteStorage(path, 1, frozenset({1, 2}))) as store:
        assert store.peer_store(2) == "abc"
        assert store.name == name


def test_a_gap_in_the_log_is_refused_by_the_node(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="entry 3 of term 1 where entry 2"):
        Log(Snapshot(), (Entry(1, 1, Noop()), Entry(3, 1, Noop())))


DECODER = Decoder(Message)
GOOD = encode(Append(3, 7, 2, entries(8, 9, 3), 6))


def test_a_message_survives_the_way_there_and_back() -> None:
    assert DECODER.decode(GOOD) == Append(3, 7, 2, entries(8, 9, 3), 6)


@settings(deadline=None, max_examples=500, derandomize=True)
@given(st.data())
def test_a_mutated_message_is_malformed_or_another_message(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    length = data.draw(st.integers(0, 8))
    mutated = GOOD[:at] + data.draw(st.binary(max_size=8)) + GOOD[at + length :]
    try:
        message = DECODER.decode(mutated)
    except Malformed:
        return
    assert DECODER.decode(encode(message)) == message
