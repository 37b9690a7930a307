"""When entries of the log were made, as far as that is known: some indices and what a clock showed.

What this does not guarantee: the time of an entry. It is told as the first time noted after it, so
never too early by the clocks that were noted, and too late by as long as nothing was noted.

It is bounded: two notes are a day apart, but for the last one, and those beyond 400 days go.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

_DAY = 86_400
_KEPT = 400 * _DAY


class Times:
    """Pairs of an index and Unix time in seconds; both only grow."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self.pairs: list[tuple[int, int]] = list(pairs)

    @property
    def covered(self) -> int:
        """The last index that has a time; 0 if there is none."""
        return self.pairs[-1][0] if self.pairs else 0

    def add(self, index: int, at: int) -> None:
        """Note the time of an entry. A clock that is behind what was noted is not believed."""
        pairs = self.pairs
        if pairs and at < pairs[-1][1]:
            return
        if len(pairs) >= 2 and pairs[-1][1] - pairs[-2][1] < _DAY:
            pairs.pop()
        pairs.append((index, at))
        # One of them beyond, so that all that is older is known to be.
        while len(pairs) > 2 and pairs[1][1] < at - _KEPT:
            pairs.pop(0)

    def of(self, index: int) -> int:
        """When that entry was made at the latest; 0 if nothing was noted since."""
        place = bisect_left(self.pairs, (index, 0))
        return self.pairs[place][1] if place < len(self.pairs) else 0
