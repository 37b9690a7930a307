"""What a check comes to: a violation, doubts, notes.

What this does not guarantee: that a history is true. A verdict is about what is written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from electctl.record.history import Entry

View = Literal["store", "belief", "effect"]
Kind = Literal[
    # of the file
    "line_removed",
    "line_changed",
    "line_moved",
    "line_added",
    # of the elections
    "two_leaders",
    "token_falls",
    "token_repeats",
    "grant_returned",
    "acts_after_end",
    "late_stop",
    "released_early",
    # of checkpoints and other resources
    "stale_write",
    "lost_write",
    "old_value",
    "changed_value",
]
DoubtKind = Literal[
    "empty",
    "no_observer",
    "gap",
    "no_campaign",
    "no_effect",
    "no_beginning",
    "no_end",
    "clocks",
    "observers_differ",
    "two_stores",
    "unknown_event",
    "cut_off",
]
#: What each view of a leadership is, in words.
VIEWS: dict[View, str] = {
    "store": "who leads in the store",
    "belief": "who takes itself for the leader",
    "effect": "whose command is alive",
}
#: Doubts that are kept in full; of more of them only the number.
KEPT = 20


class Line(NamedTuple):
    """One line of a history, and where it stands."""

    file: str
    number: int
    entry: Entry

    @property
    def place(self) -> str:
        """As editors write it."""
        return f"{self.file}:{self.number}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        entry = self.entry
        return {
            "file": self.file,
            "line": self.number,
            "ts": entry.ts,
            "event": entry.event,
            "holder": _who(entry),
            "token": entry.token,
            "boot_id": entry.boot_id,
            "boottime_ns": entry.boottime_ns,
        }


def _who(entry: Entry) -> str | None:
    candidate = entry.data.get("candidate")
    return candidate if isinstance(candidate, str) else entry.holder


class Stretch(NamedTuple):
    """From when to when something held, in nanoseconds; ``until`` None: it goes on."""

    label: str
    since: int
    until: int | None


@dataclass(frozen=True, slots=True)
class Violation:
    """The first thing that must not be."""

    kind: Kind
    message: str
    #: "" where it is about a file.
    backend: str = ""
    election: str = ""
    view: View | None = None
    #: For how long two led at least, in nanoseconds; None where it is not about two.
    overlap_ns: int | None = None
    #: The lines that show it, in order of time.
    lines: tuple[Line, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    #: Where it is about a line of a file.
    file: str = ""
    number: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        overlap = None if self.overlap_ns is None else self.overlap_ns / 1e6
        return {
            "kind": self.kind,
            "message": self.message,
            "backend": self.backend or None,
            "election": self.election or None,
            "view": self.view,
            "overlap_ms": overlap,
            "file": self.file or None,
            "line": self.number or None,
            "lines": [line.as_dict() for line in self.lines],
        }


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a history that breaks nothing proves nothing either."""

    kind: DoubtKind
    message: str
    backend: str = ""
    election: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "kind": self.kind,
            "message": self.message,
            "backend": self.backend or None,
            "election": self.election or None,
        }


class Doubts:
    """The first doubts, one a kind and election, and how many more there are. Bounded."""

    def __init__(self) -> None:
        self.kept: dict[tuple[DoubtKind, str, str], Doubt] = {}
        self.more: Counter[DoubtKind] = Counter()

    def add(self, kind: DoubtKind, message: str, backend: str = "", election: str = "") -> None:
        """Keep it, or count it."""
        key = (kind, backend, election)
        if key not in self.kept and len(self.kept) < KEPT:
            self.kept[key] = Doubt(kind, message, backend, election)
        else:
            self.more[kind] += 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history comes to."""

    lines: int
    elections: int
    violation: Violation | None = None
    doubts: tuple[Doubt, ...] = ()
    more_doubts: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def word(self) -> Literal["holds", "violated", "unproved"]:
        """The verdict in one word."""
        if self.violation is not None:
            return "violated"
        return "unproved" if self.doubts else "holds"

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "verdict": self.word,
            "lines": self.lines,
            "elections": self.elections,
            "violation": None if self.violation is None else self.violation.as_dict(),
            "doubts": [doubt.as_dict() for doubt in self.doubts],
            "more_doubts": self.more_doubts,
            "notes": list(self.notes),
        }
