"""The records in the directory: read, decided on and replaced under one lock.

What this does not guarantee: that a lock is free in time. Who does not get it says Unreachable.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from electctl.base.clock import boot_id, now
from electctl.core.polling import Poll
from electctl.errors import ConfigError, Refused, Unreachable

_LOCK_POLL = 0.005


@dataclass(frozen=True, slots=True)
class Term:
    """One grant. ``nonce`` is that of the attempt; ``expires`` counts only within ``boot``."""

    id: str
    nonce: str
    token: int
    ttl: float
    expires: float
    boot: str


@dataclass(slots=True)
class Record:
    """One election. ``evict`` is the nonce of the term that was asked to stop."""

    last_token: int = 0
    term: Term | None = None
    evict: str = ""

    def current(self) -> Term | None:
        """The term that has not run out."""
        term = self.term
        alive = term is not None and term.boot == boot_id() and now() < term.expires
        return term if alive else None


class Store:
    """One directory. Raises Unreachable, Refused (permissions), ConfigError (not our file)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self, election: str, timeout: float) -> Iterator[Record]:
        """The record of an election, which nobody else touches meanwhile."""
        # A digest: no name can climb out of the directory, be too long for it, or meet another.
        name = _digest(election)
        with self._translated():
            descriptor = os.open(self.folder / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                self._lock(descriptor, now() + timeout)
                try:
                    found = self._read(f"{name}.json")
                    term = found.pop("term", None)
                    yield Record(**found, term=Term(**term) if term else None)
                finally:
                    # Said, not left to close(2): a fork of ours may hold a copy.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)

    def save(self, election: str, record: Record) -> None:
        """Replace the record; to be called with it locked."""
        with self._translated():
            self._replace(f"{_digest(election)}.json", asdict(record))

    def remove(self, election: str, nonce: str, timeout: float) -> None:
        """End the term with that nonce; another, or none, is left as it is."""
        with self.locked(election, timeout) as record:
            if record.term is not None and record.term.nonce == nonce:
                record.term = None
                self.save(election, record)

    def read_checkpoint(self, election: str, slot: str) -> dict[str, Any]:
        """``value`` (hex), ``grant`` and ``seq`` of the last write; {} if there is none."""
        with self._translated():
            return self._read(_checkpoint(election, slot))

    def save_checkpoint(self, election: str, slot: str, content: dict[str, Any]) -> None:
        """Replace a checkpoint; to be called with the record locked."""
        with self._translated():
            self._replace(_checkpoint(election, slot), content)

    def _lock(self, descriptor: int, deadline: float) -> None:
        def free() -> bool | None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return True

        if not Poll(_LOCK_POLL).until(free, deadline):
            raise Unreachable(
                f"somebody keeps the lock in {self.folder}",
                hint="is a process that campaigns stopped?",
            )

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise ConfigError(
                f"{self.folder / name} is not a record of ours", hint="remove it if it is no use"
            ) from None
        return found

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        fresh = self.folder / f"{name}.new"
        with fresh.open("w") as out:
            json.dump(content, out)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self.folder / name)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise Refused(f"{self.folder}: {error.strerror}", hint="whose is it?") from error
        except OSError as error:
            raise Unreachable(
                f"{self.folder}: {error.strerror}", hint="the directory must be there"
            ) from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checkpoint(election: str, slot: str) -> str:
    return f"{_digest(election)}.{_digest(slot)}.json"
