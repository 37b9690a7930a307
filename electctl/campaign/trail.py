"""The last steps of a term, for the report of a crash.

What this does not guarantee: completeness. What comes often pushes out what came before it.
"""

from __future__ import annotations

from collections import deque

#: Steps that are kept, and characters of each.
_STEPS = 64
_LENGTH = 400


class Trail:
    """A ring of the last steps."""

    def __init__(self) -> None:
        self._steps: deque[str] = deque(maxlen=_STEPS)

    def note(self, now: float, before: str, event: object, after: str, said: object) -> None:
        """In stage ``before`` came ``event``; it led to ``after``, and ``said`` was to be done."""
        where = before if before == after else f"{before} → {after}"
        line = f"{now:.3f} {where}: {event!r}" + (f" → {said!r}" if said else "")
        self._steps.append(line if len(line) <= _LENGTH else line[: _LENGTH - 1] + "…")

    def lines(self) -> list[str]:
        """Oldest first."""
        return list(self._steps)
