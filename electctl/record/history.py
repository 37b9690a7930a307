"""The record of what happened: JSON Lines that ``electctl verify`` reads.

A line is one :class:`electctl.record.events.Event` with what makes it evidence: ``boot_id`` and
``boottime_ns`` (a reading of the clock that never steps, comparable between lines of one boot,
because wall clocks cannot prove an overlap). What a :class:`Recorder` writes also names the
``observer``, one run of the program, so that several may append to one file, and is chained
(:mod:`electctl.record.chain`), so that it shows when a line was removed, changed or moved.

What this does not guarantee: that nothing is missing. An observer writes ``recording`` first and
``recorded`` last; between two runs, and between ``unreachable`` and ``recovered``, nobody looked.
Nor that a line is on the disk when the machine dies: nothing is synced.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from electctl.errors import UsageError
from electctl.record import chain

if TYPE_CHECKING:
    from electctl.record.events import Event

_TS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
#: Bytes of the longest line.
MAX_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a record. ``data`` holds the fields beyond the common ones."""

    ts: str
    event: str
    election: str
    #: The scheme.
    backend: str
    #: None when vacant or not known, "" for an anonymous holder.
    holder: str | None
    token: int | None
    boot_id: str
    boottime_ns: int
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> float:
        """Seconds on :func:`electctl.base.clock.now` of the boot ``boot_id``."""
        return self.boottime_ns / 1e9


class Recorder:
    """Appends events to a record, one write a line, so that several observers may share a file.

    Refuses (UsageError) a path that is no regular file, or a file that is no record: a slip must
    not append to somebody's script.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._prev = _check_is_record(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(
                f"record {path} cannot be written: {error.strerror}", hint="is the path right?"
            ) from None
        self._observer = uuid.uuid4().hex[:12]
        self._n = 0

    def write(self, event: Event) -> None:
        """Append one event. Raises OSError when the disk is full."""
        line, following = chain.seal(
            event.as_dict(recorded=True), self._observer, self._n, self._prev
        )
        before = os.lseek(self._fd, 0, os.SEEK_CUR)
        try:
            written = os.write(self._fd, line)
        finally:
            # A signal may end this right after the write: the next line must not repeat its number.
            if os.lseek(self._fd, 0, os.SEEK_CUR) != before:
                self._n, self._prev = self._n + 1, following
        if written != len(line):
            raise OSError(errno.ENOSPC, "no space left, the last line is cut off")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read(path: Path) -> Iterator[Entry]:
    """Every entry of a record, in order. Raises UsageError with file and line."""
    try:
        with path.open("rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE + 1):
                number += 1
                yield parse_line(raw, f"{path}:{number}")
    except OSError as error:
        raise UsageError(
            f"record {path} cannot be read: {error.strerror}", hint="is the path right?"
        ) from None


def parse_line(raw: bytes, where: str) -> Entry:
    """One line, strictly; ``where`` is named in the UsageError."""
    if len(raw) > MAX_LINE:
        raise _no_record(where, "the line is over 1 MB")
    if not raw.endswith(b"\n"):
        raise _no_record(where, "the line is cut off", "remove it; what it said is lost")
    try:
        obj = _JSON.decode(raw.decode())
    except (ValueError, RecursionError):
        raise _no_record(where, "this is not JSON") from None
    if not isinstance(obj, dict):
        raise _no_record(where, "this is not a JSON object")
    for name, (kinds, what) in _FIELDS.items():
        if name not in obj:
            raise _no_record(where, f"{name!r} is missing")
        # bool is an int to isinstance, and no token.
        if type(obj[name]) not in kinds:
            raise _no_record(where, f"{name!r} must be {what}")
    if not _TS.fullmatch(obj["ts"]):
        raise _no_record(where, "'ts' must be RFC 3339 in UTC with milliseconds")
    if obj["boottime_ns"] < 0:
        raise _no_record(where, "'boottime_ns' is negative")
    pop = obj.pop
    return Entry(
        pop("ts"),
        # Most lines share these with many others.
        intern(pop("event")),
        pop("election"),
        intern(pop("backend")),
        pop("holder"),
        pop("token"),
        intern(pop("boot_id")),
        pop("boottime_ns"),
        obj,
    )


_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "ts": ((str,), "a text"),
    "event": ((str,), "a text"),
    "election": ((str,), "a text"),
    "backend": ((str,), "a text"),
    "holder": ((str, type(None)), "a text or null"),
    "token": ((int, type(None)), "a whole number or null"),
    "boot_id": ((str,), "a text"),
    "boottime_ns": ((int,), "a whole number"),
}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        raise ValueError("a name is given twice")
    return obj


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


#: Made once: json.loads makes one a line.
_JSON = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _no_record(
    where: str, cause: str, hint: str = "only files written by --record are records"
) -> UsageError:
    return UsageError(f"{where}: {cause}", hint=hint)


def _check_is_record(path: Path) -> str:
    """The digest of the last line of the record; "" if there is none yet."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"record {path} is not a regular file", hint="name a file")
    if status.st_size == 0:
        return ""
    with path.open("rb") as stream:
        parse_line(stream.readline(MAX_LINE + 1), f"{path}:1")
        stream.seek(max(0, status.st_size - MAX_LINE))
        last = stream.read().rpartition(b"\n")
        if last[2]:
            raise _no_record(str(path), "its last line is cut off", "remove it, or use a new file")
        return chain.digest(last[0].rpartition(b"\n")[2])
