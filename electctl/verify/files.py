"""Histories in files: two passes over each, so that memory does not grow with their length.

The first pass finds on which clocks there are lines, where the order of time is broken, and what a
record's seals say. The second gives the lines of one clock after the other, in order of time, over
all files. Several writers share a file, and a line may tell of a moment that has passed, so lines
may stand a little late; where they stand far too late (two files in one) the file is read from
several places at once.

What this does not guarantee: anything about a file that is being changed meanwhile; what is
appended after the first pass is left for the next time.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heappop, heappush, heappushpop, merge
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from electctl.errors import UsageError
from electctl.record.history import MAX_LINE, parse_line
from electctl.verify import shape
from electctl.verify.checker import Checker
from electctl.verify.seals import Seals
from electctl.verify.verdict import Line, Verdict, Violation

#: Lines that may stand too late without ado.
_WINDOW = 1000
#: Places at which one clock's lines are read at once.
_MOST_PARTS = 256
_WHEN = re.compile(rb'"boot_id": ?"([^"\\]*)", ?"boottime_ns": ?([0-9]{1,19})[,}]')
_WRITER = re.compile(rb'"(?:observer|candidate)": ?("(?:[^"\\]|\\.)*")')
_RECORDING = b'"event": "recording"'
_ELECTION = re.compile(rb'"election": ?"((?:[^"\\]|\\.)*)"')
#: Elections that are held in memory at once, about.
_AT_ONCE = 20_000
#: Told how many bytes have been read, now and then.
Progress = Callable[[int], None]
_STEP = 1 << 20


@dataclass(slots=True)
class _Part:
    """Lines of one clock in one file that are nearly in order: from one byte to another."""

    path: Path
    start: int
    number: int
    end: int = 0
    #: The times of the newest lines, and the last one that left them.
    times: list[int] = field(default_factory=list)
    out: int = -1


#: Where a line begins, its number, its bytes.
_Raw = tuple[int, int, bytes]


class Histories:
    """One or several files, one history."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts: dict[str, list[_Part]] = {}
        self._apart: set[tuple[str, str]] = set()
        self._targets: dict[tuple[str, str, str], str] = {}
        self._cut_off: list[str] = []
        self._notes: list[str] = []
        self._tampered: Violation | None = None
        self._names = Names()
        self._paths = self._distinct(paths)
        #: Bytes that both passes read, about.
        self.size = 2 * sum(path.stat().st_size for path in self._paths)
        self._read = 0
        self._told = 0
        self._progress: Progress = lambda size: None

    def verify(self, progress: Progress | None = None) -> Verdict:
        """Read it all. Raises UsageError, with file and line, for what is no line of a history."""
        if progress is not None:
            self._progress = progress
        for path in self._paths:
            self._scan(path)
        checker = Checker(self._apart)
        for place in self._cut_off:
            checker.doubts.add("cut_off", f"{place}: the last line is cut off: its writer died")
        if self._tampered is not None:
            return checker.finish(self._tampered, tuple(self._notes))
        return checker.finish(self._check(checker), tuple(self._notes))

    def _check(self, checker: Checker) -> Violation | None:
        for share in range(self._names.shares):
            for clock, parts in self._parts.items():
                for line in self._lines(clock, parts, share):
                    violation = checker.take(line, clock)
                    if violation is not None:
                        return violation
                violation = checker.close(clock)
                if violation is not None:
                    return violation
            checker.forget()
        return None

    def _distinct(self, paths: Sequence[Path]) -> list[Path]:
        found: dict[tuple[int, int], Path] = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from None
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(
                    f"{path} is not a regular file", hint="name the files of a history"
                )
            if found.setdefault((status.st_dev, status.st_ino), path) is not path:
                self._notes.append(f"{path} was given twice")
        return list(found.values())

    # The first pass ------------------------------------------------------------------------------

    def _scan(self, path: Path) -> None:
        seals = Seals(str(path))
        open_parts: dict[str, _Part] = {}
        with _open(path) as stream:
            for start, number, raw in self._raw(stream, path, 0, None, 1):
                seals.take(number, raw)
                clock, at = _when(raw, path, number)
                part = open_parts.get(clock)
                if part is None or not _takes(part, at):
                    part = open_parts[clock] = _Part(path, start, number)
                    _takes(part, at)
                    self._add(clock, part)
                part.end = start + len(raw)
                self._names.add(raw, path, number)
                if _RECORDING in raw:
                    self._recording(raw, f"{path}:{number}")
        self._tampered = self._tampered or seals.broken
        if seals.unsealed:
            self._notes.append(
                f"{path}: {seals.unsealed} lines of observers have no hash, so that it cannot be "
                "seen whether one is missing or changed"
            )

    def _add(self, clock: str, part: _Part) -> None:
        parts = self._parts.setdefault(clock, [])
        parts.append(part)
        if len(parts) > _MOST_PARTS:
            raise UsageError(
                f"{part.path}:{part.number}: the lines are in no order of time",
                hint="sort them by boottime_ns",
            )

    def _recording(self, raw: bytes, where: str) -> None:
        """Remember elections of one name on several stores of one kind."""
        entry = parse_line(raw, where)
        observer, url = entry.data.get("observer"), entry.data.get("url")
        key = (str(observer), entry.backend, entry.election)
        if self._targets.setdefault(key, str(url)) != str(url):
            self._apart.add(key[1:])
        if len(self._targets) > _WINDOW:  # those of one observer stand together
            del self._targets[next(iter(self._targets))]

    # The second pass -----------------------------------------------------------------------------

    def _lines(self, clock: str, parts: Sequence[_Part], share: int) -> Iterator[Line]:
        """The lines of one clock in order of time; the same line twice is one."""
        with ExitStack() as stack:
            streams = [
                self._sorted(clock, part, share, stack.enter_context(_open(part.path)))
                for part in parts
            ]
            ordered = (
                streams[0] if len(streams) == 1 else merge(*streams, key=lambda item: item[:2])
            )
            last = -1
            same: list[Line] = []
            for at, _, line in ordered:
                if at != last:
                    last = at
                    same = [line]
                elif any(line.entry == other.entry for other in same):
                    continue
                else:
                    same.append(line)
                yield line

    def _sorted(
        self, clock: str, part: _Part, share: int, stream: BinaryIO
    ) -> Iterator[tuple[int, int, Line]]:
        window: list[tuple[int, int, Line]] = []
        file = str(part.path)
        for _, number, raw in self._raw(stream, part.path, part.start, part.end, part.number):
            found, at = _when(raw, part.path, number)
            if found != clock or not self._names.belongs(raw, share, part.path, number):
                continue
            where = f"{file}:{number}"
            entry = parse_line(raw, where)
            if entry.boottime_ns != at:
                raise UsageError(
                    f"{where}: the time of the line is not clear", hint="it stands there twice"
                )
            shape.check(entry, where)
            item = (at, number, Line(file, number, entry))
            if len(window) < _WINDOW:
                heappush(window, item)
            else:
                yield heappushpop(window, item)
        while window:
            yield heappop(window)

    def _raw(
        self, stream: BinaryIO, path: Path, start: int, end: int | None, number: int
    ) -> Iterator[_Raw]:
        stream.seek(start)
        try:
            while end is None or start < end:
                line = stream.readline(MAX_LINE + 1)
                if not line:
                    return
                if not line.endswith(b"\n") and len(line) <= MAX_LINE:
                    if end is None:
                        self._cut_off.append(f"{path}:{number}")
                    return
                yield start, number, line
                start += len(line)
                number += 1
                self._read += len(line)
                if self._read - self._told >= _STEP:
                    self._told = self._read
                    self._progress(self._read)
        except OSError as error:
            raise _unreadable(path, error) from None


class Names:
    """About how many elections there are, and which share of them a line belongs to.

    Counted by hashes in a bitmap (Whang, Vander-Zanden, Taylor, "A linear-time probabilistic
    counting algorithm", 1990); a share too many does no harm.
    """

    _BITS = 1 << 23

    def __init__(self) -> None:
        self._seen = bytearray(self._BITS // 8)
        self._distinct = 0

    def add(self, raw: bytes, path: Path, number: int) -> None:
        """Count the election of a line."""
        index = _hash(raw, path, number) % self._BITS
        byte, bit = index >> 3, 1 << (index & 7)
        if not self._seen[byte] & bit:
            self._seen[byte] |= bit
            self._distinct += 1

    @property
    def shares(self) -> int:
        """How many times everything is read, for a share of the elections each time."""
        return max(1, -(-self._distinct // _AT_ONCE))

    def belongs(self, raw: bytes, share: int, path: Path, number: int) -> bool:
        """Whether the election of a line is one of this share."""
        shares = self.shares
        return shares == 1 or _hash(raw, path, number) % shares == share


def _hash(raw: bytes, path: Path, number: int) -> int:
    """Of the election's name, however it is escaped. Raises UsageError for what is no line."""
    found = _ELECTION.search(raw)
    name = b"\\" if found is None else found[1]
    if b"\\" in name or not name.isascii():
        name = parse_line(raw, f"{path}:{number}").election.encode(errors="surrogatepass")
    return crc32(name)


def _takes(part: _Part, at: int) -> bool:
    """Whether a line of this time can still be put in its place; it is, if so."""
    if at < part.out:
        return False
    if len(part.times) < _WINDOW:
        heappush(part.times, at)
    else:
        part.out = heappushpop(part.times, at)
    return True


def _when(raw: bytes, path: Path, number: int) -> tuple[str, int]:
    """The clock of a line and its time on it. Without a boot id each writer has a clock of its own.

    Raises UsageError for what is no line.
    """
    found = _WHEN.search(raw)
    if found is None:
        entry = parse_line(raw, f"{path}:{number}")
        clock, at = entry.boot_id, entry.boottime_ns
    else:
        clock, at = found[1].decode(errors="replace"), int(found[2])
    if not clock:
        writer = _WRITER.search(raw)
        clock = f"{path} {'' if writer is None else json.loads(writer[1])}"
    return clock, at


def _open(path: Path) -> BinaryIO:
    try:
        return open(os.fspath(path), "rb", buffering=1 << 18)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror}", hint="is the path right?")
