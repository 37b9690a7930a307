"""The durable store: one SQLite file, synced at every write, locked by the node that uses it.

What this does not guarantee: durability on a disk or a file system that says "synced" and is not;
Raft breaks on such a disk (docs/raft.md). Nor does it find every damage at once: pages are checked
as they are read, and all of them when the file is opened.

A write is one transaction with ``synchronous=FULL`` and a rollback journal, so it happens wholly
or not at all (https://www.sqlite.org/atomiccommit.html) and is on the disk when it returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from electctl.raft.codec import Decoder, Malformed, encode
from electctl.raft.commands import Command
from electctl.raft.errors import StoreDamaged
from electctl.raft.messages import Entry, Persist, Snapshot, Stored
from electctl.raft.storage import Storage

FORMAT = 1
#: "eltr", so that file(1) and we can tell whose file it is.
_APPLICATION = 0x656C7472
_SCHEMA = """
CREATE TABLE node (number INTEGER PRIMARY KEY, term INTEGER NOT NULL, vote INTEGER);
CREATE TABLE snapshot (at INTEGER PRIMARY KEY, term INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE entry (number INTEGER PRIMARY KEY, term INTEGER NOT NULL, command BLOB NOT NULL);
"""
_decoder = Decoder(Command)


class SqliteStorage(Storage):
    """The store of node ``number`` in the file ``path``, made if it is not there.

    Raises StoreDamaged if another process uses it, if it is another node's, or if it is damaged.
    """

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        with self._explained():
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._open(number)
        except BaseException:
            self._db.close()
            raise

    def load(self) -> Stored:
        with self._explained():
            ((term, vote),) = self._db.execute("SELECT term, vote FROM node").fetchall()
            ((at, at_term, state),) = self._db.execute(
                "SELECT at, term, state FROM snapshot"
            ).fetchall()
            rows = self._db.execute("SELECT number, term, command FROM entry ORDER BY number")
            entries = tuple(
                Entry(number, entry_term, _decoder.decode(command))
                for number, entry_term, command in rows
            )
        return Stored(term, vote, Snapshot(at, at_term, state), entries)

    def write(self, persist: Persist) -> None:
        db = self._db
        with self._explained():
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE node SET term = ?, vote = ?", (persist.term, persist.vote))
            if persist.first is not None:
                db.execute("DELETE FROM entry WHERE number >= ?", (persist.first,))
                db.executemany(
                    "INSERT INTO entry VALUES (?, ?, ?)",
                    [(entry.index, entry.term, encode(entry.command)) for entry in persist.entries],
                )
            if persist.snapshot is not None:
                snapshot = persist.snapshot
                db.execute("DELETE FROM entry WHERE number <= ?", (snapshot.index,))
                db.execute(
                    "UPDATE snapshot SET at = ?, term = ?, state = ?",
                    (snapshot.index, snapshot.term, snapshot.state),
                )
            db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def _open(self, number: int) -> None:
        db = self._db
        with self._explained():
            # Exclusive from the first read on, for as long as we live: two processes on one file
            # would vote twice.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN EXCLUSIVE")
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
            ((application,),) = db.execute("PRAGMA application_id").fetchall()
            ((tables,),) = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
            if not tables:
                self._create(number)
            elif (application, version) != (_APPLICATION, FORMAT):
                raise StoreDamaged(
                    f"{self._path} is not a store of format {FORMAT}",
                    hint="name another data directory",
                )
            db.execute("COMMIT")
            ((verdict, *_),) = db.execute("PRAGMA integrity_check(1)").fetchall()
            ((owner,),) = db.execute("SELECT number FROM node").fetchall()
        if verdict != "ok":
            raise StoreDamaged(f"{self._path} is damaged: {verdict}", hint=_REPLACE)
        if owner != number:
            raise StoreDamaged(
                f"{self._path} belongs to node {owner}, not to node {number}",
                hint="each node has a data directory of its own",
            )

    def _create(self, number: int) -> None:
        for statement in _SCHEMA.strip().splitlines():
            self._db.execute(statement)
        self._db.execute("INSERT INTO node VALUES (?, 0, NULL)", (number,))
        self._db.execute("INSERT INTO snapshot VALUES (0, 0, x'')")
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreDamaged(
                    f"{self._path} is in use by another process", hint="stop the other node first"
                ) from None
            raise StoreDamaged(f"{self._path}: {error}") from None
        except (sqlite3.Error, Malformed, TypeError, ValueError) as error:
            raise StoreDamaged(f"{self._path} is damaged: {error}", hint=_REPLACE) from None


_REPLACE = "do not repair it: a node that forgot its vote is unsafe; restore all nodes or none"
