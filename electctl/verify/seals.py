"""Whether the lines of a record are all there, as they were written and in their order.

What this does not guarantee: see :mod:`electctl.record.chain`; nor the order of lines of different
observers, each of which has a chain of its own.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from electctl.record import chain
from electctl.verify.verdict import Kind, Violation

#: Lines among which the one must be that stood last when a run began: others append meanwhile.
_BEFORE = 1000
#: Bytes from which on only the digest of a line is kept.
_LONG = 4096
#: Runs that are followed at once.
_RUNS = 10_000


@dataclass(slots=True)
class _Run:
    n: int
    hash: str
    number: int


class Seals:
    """Told every line of one file, in the file's order."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._recent: deque[bytes] = deque(maxlen=_BEFORE)
        #: The first thing that is wrong, in the order of the file.
        self.broken: Violation | None = None
        #: A line that is missing so far: (observer, n).
        self._missing: tuple[str, int] | None = None
        #: Lines of observers without a seal.
        self.unsealed = 0

    def take(self, number: int, raw: bytes) -> None:
        """One whole line."""
        if b'"observer"' in raw:
            link = chain.link(raw)
            if link is not None:
                self._linked(number, link)
            elif self._runs:
                self._break("line_added" if b'"hash"' not in raw else "line_changed", number)
            else:
                self.unsealed += 1
        self._recent.append(raw if len(raw) < _LONG else chain.digest(raw).encode())

    def _linked(self, number: int, link: chain.Link) -> None:
        run = self._runs.get(link.observer)
        if self._missing == (link.observer, link.n):
            # What was missing has turned up: it was moved, not removed.
            self._missing = None
            assert self.broken is not None
            self.broken = self._violation("line_moved", number)
            return
        if not link.sound:
            self._break("line_changed", number)
        elif run is None:
            self._first(number, link)
        elif link.n > run.n + 1:
            self._miss(number, link.observer, run.n + 1)
        elif link.n <= run.n:
            self._break("line_added", number)
            return
        elif link.prev != run.hash:
            # This line is whole, so the one before it was changed, and its hash made anew.
            self._break("line_changed", run.number)
        self._runs[link.observer] = _Run(link.n, link.hash, number)
        self._runs.move_to_end(link.observer)
        if len(self._runs) > _RUNS:
            self._runs.popitem(last=False)

    def _first(self, number: int, link: chain.Link) -> None:
        if link.n:
            self._miss(number, link.observer, 0)
        elif link.prev:
            if not any(_digest(raw) == link.prev for raw in reversed(self._recent)):
                self._break("line_removed", number)
        elif number > _BEFORE:
            self._break("line_added", number)

    def _miss(self, number: int, observer: str, n: int) -> None:
        if self.broken is None:
            self._missing = (observer, n)
        self._break("line_removed", number)

    def _break(self, kind: Kind, number: int) -> None:
        if self.broken is None:
            self.broken = self._violation(kind, number)

    def _violation(self, kind: Kind, number: int) -> Violation:
        what = {
            "line_removed": "before this line another one was removed, or the one that it follows "
            "was changed",
            "line_changed": "this line was changed after it had been written",
            "line_moved": "this line was moved: it stood further up",
            "line_added": "this line was added, or copied: the observer did not write it here",
        }
        return Violation(
            kind, f"{self._file}:{number}: {what[kind]}", file=self._file, number=number
        )


def _digest(kept: bytes) -> str:
    return chain.digest(kept) if kept.endswith(b"\n") else kept.decode()
