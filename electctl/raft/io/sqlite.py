"""The durable store: one SQLite file, synced at every write, locked by the node that uses it.

It also keeps who the node is, and which store each of its peers had when they first met
(:mod:`electctl.raft.io.server`).

What this does not guarantee: durability on a disk or a file system that says "synced" and is not;
Raft breaks on such a disk (docs/raft.md). Nor does it find every damage at once: pages are checked
as they are read, and all of them when the file is opened.

A write is one transaction with ``synchronous=FULL`` and a rollback journal, so it happens wholly
or not at all (https://www.sqlite.org/atomiccommit.html) and is on the disk when it returns.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from electctl.raft.pure.codec import Decoder, Malformed, encode
from electctl.raft.pure.commands import Command
from electctl.raft.pure.errors import StoreDamaged
from electctl.raft.pure.messages import Entry, Persist, Snapshot, Stored
from electctl.raft.pure.storage import Storage

FORMAT = 1
#: "eltr", so that file(1) and we can tell whose file it is.
_APPLICATION = 0x656C7472
#: ``last`` is the index of the last entry, or the snapshot's. Each ``sum`` is of its whole row:
#: SQLite itself finds a damaged page only where that breaks its own structure.
_SCHEMA = """
CREATE TABLE node (number INT, name TEXT, term INT, vote INT, last INT, sum INT);
CREATE TABLE voter (number INTEGER PRIMARY KEY, store TEXT);
CREATE TABLE snapshot (at INT, term INT, state BLOB, sum INT);
CREATE TABLE entry (number INTEGER PRIMARY KEY, term INT, command BLOB, sum INT);
"""
_decoder = Decoder(Command)


class SqliteStorage(Storage):
    """The store of node ``number`` of ``voters`` in the file ``path``, made if it is not there.

    ``name`` is this store's own, drawn when it was made. Raises StoreDamaged if another process
    uses it, if it is another node's or has other voters, or if it is damaged; an empty file is.
    """

    def __init__(self, path: Path, number: int, voters: frozenset[int] = frozenset()) -> None:
        self._path = path
        if not path.exists():
            self._create(number, voters or {number})
        elif not path.stat().st_size:
            # SQLite would take it for a new database.
            raise StoreDamaged(f"{path} is empty", hint=CANNOT_BE_REPAIRED)
        with self._explained():
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._file = _identity(path)
        self._number = number
        self._last = 0
        try:
            self.name = self._open(number, voters or {number})
        except BaseException:
            self._db.close()
            raise

    def load(self) -> Stored:
        with self._explained():
            ((*node, total),) = self._db.execute("SELECT * FROM node").fetchall()
            number, name, term, vote, last = _checked(node, total)
            ((*row, total),) = self._db.execute("SELECT * FROM snapshot").fetchall()
            snapshot = Snapshot(*_checked(row, total))
            entries = []
            for *row, total in self._db.execute("SELECT * FROM entry ORDER BY number"):
                index, entry_term, command = _checked(row, total)
                entries.append(Entry(index, entry_term, _decoder.decode(command)))
            end = entries[-1].index if entries else snapshot.index
            if (number, name, last) != (self._number, self.name, end):
                raise Malformed(f"entry {last} should be the last, not {end}")
        self._last = last
        return Stored(term, vote, snapshot, tuple(entries))

    def write(self, *persists: Persist) -> None:
        db = self._db
        with self._explained():
            db.execute("BEGIN IMMEDIATE")
            for persist in persists:
                self._write(persist)
            self._write_node(persists[-1].term, persists[-1].vote)
            db.execute("COMMIT")

    def _write(self, persist: Persist) -> None:
        db = self._db
        if persist.first is not None:
            db.execute("DELETE FROM entry WHERE number >= ?", (persist.first,))
            rows = ((e.index, e.term, encode(e.command)) for e in persist.entries)
            db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", map(_summed, rows))
            self._last = persist.first - 1 + len(persist.entries)
        if persist.snapshot is not None:
            snapshot = persist.snapshot
            db.execute("DELETE FROM entry WHERE number <= ?", (snapshot.index,))
            db.execute("DELETE FROM snapshot")
            row = snapshot.index, snapshot.term, snapshot.state
            db.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?)", _summed(row))
            self._last = max(self._last, snapshot.index)

    def _write_node(self, term: int, vote: int | None) -> None:
        row = self._number, self.name, term, vote, self._last
        self._db.execute("DELETE FROM node")
        self._db.execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?)", _summed(row))

    def peer_store(self, number: int) -> str | None:
        """The name of that voter's store, as it was learned; None if it was not."""
        with self._explained():
            rows = self._db.execute("SELECT store FROM voter WHERE number = ?", (number,))
            ((store,),) = rows.fetchall()
        return None if store is None else str(store)

    def learn_peer_store(self, number: int, store: str) -> None:
        """Keep the name of that voter's store for good."""
        with self._explained():
            self._db.execute("UPDATE voter SET store = ? WHERE number = ?", (store, number))

    def is_there(self) -> bool:
        """Whether the file is still where it was opened; what cannot be looked at is."""
        try:
            return _identity(self._path) == self._file
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._db.close()

    def _open(self, number: int, voters: Collection[int]) -> str:
        db = self._db
        with self._explained():
            # Exclusive from the first read on, for as long as we live: two processes on one file
            # would vote twice.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = PERSIST")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN EXCLUSIVE")
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
            ((application,),) = db.execute("PRAGMA application_id").fetchall()
            db.execute("COMMIT")
            if (application, version) != (_APPLICATION, FORMAT):
                raise StoreDamaged(
                    f"{self._path} is not a store of format {FORMAT}", hint=CANNOT_BE_REPAIRED
                )
            ((verdict, *_),) = db.execute("PRAGMA integrity_check(1)").fetchall()
            ((owner, name),) = db.execute("SELECT number, name FROM node").fetchall()
            known = {voter for (voter,) in db.execute("SELECT number FROM voter")}
        if verdict != "ok":
            raise StoreDamaged(f"{self._path} is damaged: {verdict}", hint=CANNOT_BE_REPAIRED)
        if owner != number:
            raise StoreDamaged(
                f"{self._path} belongs to node {owner}, not to node {number}",
                hint="each node has a data directory of its own",
            )
        if known != set(voters):
            raise StoreDamaged(
                f"{self._path} is of a cluster of nodes {_listed(known)}, not {_listed(voters)}",
                hint="the voters of a cluster cannot be changed (yet)",
            )
        return str(name)

    def _create(self, number: int, voters: Collection[int]) -> None:
        """Make it under another name: whatever then stands in its place is no new store.

        One at a time: whoever is late must find what the other made, not put a new one in its
        place, on which it would have a lock of its own.
        """
        new = self._path.with_name(f"{self._path.name}.new")
        lock = new.with_name(f"{new.name}.lock")
        with self._explained(), lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._path.exists():
                self._fill(new, number, voters)
                os.rename(new, self._path)
                _sync_folders(self._path)
            lock.unlink(missing_ok=True)

    def _fill(self, new: Path, number: int, voters: Collection[int]) -> None:
        for left in (new, new.with_name(f"{new.name}-journal")):
            left.unlink(missing_ok=True)
        db = sqlite3.connect(new, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN")
            for statement in _SCHEMA.strip().splitlines():
                db.execute(statement)
            node = _summed((number, os.urandom(16).hex(), 0, None, 0))
            db.execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?)", node)
            db.executemany("INSERT INTO voter VALUES (?, NULL)", [(v,) for v in voters])
            db.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?)", _summed((0, 0, b"")))
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("COMMIT")
        finally:
            db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreDamaged(
                    f"{self._path} is in use by another process", hint="stop the other node first"
                ) from None
            raise StoreDamaged(f"{self._path}: {error}", hint=_DISK) from None
        except (sqlite3.Error, Malformed, TypeError, ValueError, OverflowError) as error:
            raise StoreDamaged(
                f"{self._path} is damaged: {error}", hint=CANNOT_BE_REPAIRED
            ) from None
        except BlockingIOError:
            raise StoreDamaged(
                f"{self._path} is in use by another process", hint="stop the other node first"
            ) from None
        except OSError as error:
            raise StoreDamaged(f"{self._path}: {error.strerror}", hint=_DISK) from None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _sync_folders(path: Path) -> None:
    """Sync the folder of ``path``, and those above: they may be as new, and lost with it."""
    _sync(path.parent)
    for folder in path.parent.parents:
        with suppress(OSError):  # not ours to read, or on a file system that cannot
            _sync(folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _summed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    total = 0
    for value in row:
        total = zlib.crc32(value if isinstance(value, bytes) else f"{value!r},".encode(), total)
    return *row, total


def _checked(row: list[Any], total: object) -> list[Any]:
    """Raises Malformed if the row is not as it was written."""
    if _summed(tuple(row))[-1] != total:
        raise Malformed("a row is not what was written")
    return row


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


_DISK = "is the disk full, or broken, or the directory another user's?"
CANNOT_BE_REPAIRED = (
    "do not repair it: a node that forgot its vote is unsafe; restore all nodes or none"
)
