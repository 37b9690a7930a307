"""What leaders write to one resource: never under a stale token, and nothing accepted is lost.

What this does not guarantee: to judge a write whose outcome nobody knows, until somebody reads it;
nor a value under a token without a version, of which any write of that token may be the last.

A write or a read took from ``began_ns`` to its line's own time. What was completed before it began
is the floor that it is held against: a register of the highest (token, version), which never falls.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from electctl.verify.verdict import Kind, Line, Violation

#: Rises of the floor that are remembered for requests that were long under way, and values.
REMEMBERED = 1024

#: (token, version) of a write.
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Floor:
    """The highest that was accepted or read; ``stamp`` is (token, version)."""

    at: int
    stamp: Stamp
    line: Line


class Resource:
    """Told in order of completion."""

    __slots__ = ("_name", "_rises", "_values")

    def __init__(self, name: str) -> None:
        self._name = name
        self._rises: deque[Floor] = deque(maxlen=REMEMBERED)
        #: The newest writes by their value, for reads that do not say who wrote what they found.
        #: None for one whose outcome is unknown: it may have taken effect at any time.
        self._values: OrderedDict[str, Stamp | None] = OrderedDict()

    def accepted(self, line: Line) -> Violation | None:
        """A write that was accepted, under a token."""
        floor = self._before(line)
        stamp = _stamp(line)
        if floor is not None and _below(stamp, floor.stamp, _version(line) is None):
            return self._violation(
                "stale_write",
                f"{self._name} accepted a write under {_words(line)} after {_words(floor.line)}",
                floor,
                line,
            )
        self._raise(stamp, line)
        self._remember(line, stamp)
        return None

    def tried(self, line: Line) -> None:
        """A write that may have been accepted, at some time, or under no token."""
        self._remember(line, None)

    def found(self, line: Line) -> Violation | None:
        """What was read, where nobody says who had written it: known by its value.

        A value that no line of this record has written accuses nobody: others may write too.
        """
        floor = self._before(line)
        value = line.entry.data["value"]
        if floor is None:
            return None
        if value is None:
            return self._lost(floor, line, "nothing")
        stamp = self._values.get(value)
        if stamp is not None and stamp < floor.stamp:
            return self._lost(floor, line, f"a value of token {stamp[0]} (version {stamp[1]})")
        return None

    def read(self, line: Line) -> Violation | None:
        """What was read, with the token that it was written under; None if there was nothing."""
        floor = self._before(line)
        if line.entry.token is None:
            return None if floor is None else self._lost(floor, line, "nothing")
        stamp = _stamp(line)
        if floor is not None:
            if _below(stamp, floor.stamp, _version(line) is None):
                return self._lost(floor, line, f"the value of {_words(line)}")
            known = _version(line) is not None and _version(floor.line) is not None
            values = line.entry.data.get("value"), floor.line.entry.data.get("value")
            if stamp == floor.stamp and known and None not in values and values[0] != values[1]:
                return self._violation(
                    "changed_value",
                    f"{self._name} holds another value under {_words(line)} than was written",
                    floor,
                    line,
                )
        self._raise(stamp, line)
        return None

    def _lost(self, floor: Floor, line: Line, found: str) -> Violation:
        kind: Kind = "old_value" if floor.line.entry.event == "read" else "lost_write"
        had = "accepted" if kind == "lost_write" else "shown"
        what = f"{self._name} had {had} the value of {_words(floor.line)}, then shows {found}"
        return self._violation(kind, what, floor, line)

    def _before(self, line: Line) -> Floor | None:
        """The floor when the request of ``line`` began."""
        began = line.entry.data.get("began_ns", line.entry.boottime_ns)
        for floor in reversed(self._rises):
            if floor.at <= began:
                return floor
        return None

    def _remember(self, line: Line, stamp: Stamp | None) -> None:
        value = line.entry.data.get("value")
        if value is None:
            return
        known = self._values.pop(value, stamp)
        # Which of two writes of one value was read, nobody can tell: the later one accuses least.
        self._values[value] = None if known is None or stamp is None else max(known, stamp)
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)

    def _raise(self, stamp: tuple[int, int], line: Line) -> None:
        if not self._rises or stamp > self._rises[-1].stamp:
            self._rises.append(Floor(line.entry.boottime_ns, stamp, line))

    def _violation(self, kind: Kind, message: str, floor: Floor, line: Line) -> Violation:
        entry = line.entry
        return Violation(kind, message, entry.backend, entry.election, lines=(floor.line, line))


def _version(line: Line) -> int | None:
    version: int | None = line.entry.data.get("version")
    return version


def _stamp(line: Line) -> Stamp:
    return (line.entry.token or 0, _version(line) or 0)


def _below(stamp: Stamp, floor: Stamp, no_version: bool) -> bool:
    return stamp[0] < floor[0] if no_version else stamp < floor


def _words(line: Line) -> str:
    version = _version(line)
    return f"token {line.entry.token}" + ("" if version is None else f" (version {version})")
