"""What servers and clients have shown of themselves, as far as the invariants need it.

What this does not hold: anything that they keep to themselves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Shown:
    """What one server has shown of itself."""

    #: Terms of the entries after the snapshot, from what it told its disk.
    terms: list[int]
    base: int
    base_term: int
    commit: int
    applied: int
    #: Ticks that it has taken in as a leader since another was elected.
    outlived: int = 0

    def last(self) -> int:
        return self.base + len(self.terms)

    def end(self) -> tuple[int, int]:
        """By which logs are compared in an election (section 5.4.1)."""
        return self.terms[-1] if self.terms else self.base_term, self.last()

    def term_at(self, index: int) -> int | None:
        if index == self.base:
            return self.base_term
        offset = index - self.base - 1
        return self.terms[offset] if 0 <= offset < len(self.terms) else None


@dataclass(slots=True)
class Belief:
    """A client takes itself for the leader until ``until``, in true time."""

    client: str
    token: int
    until: float
