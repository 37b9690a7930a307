"""One view of one election on one clock: who leads from when to when, and that there is one only.

What this does not guarantee: to see two leaders at once where a record does not say until when one
of them led. A leadership counts from its beginning to the last word that proves it; what lies
after that is not known, and is left to the doubts.

Two stretches overlap if and only if the one that begins later begins within the other. So it is
enough to remember, for each that is open, the first that began meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from electctl.verify.verdict import Line

#: Who and under which token.
Grant = tuple[str, int | None]
#: Leaderships that stay open because nobody said how they ended, at most.
OPEN_LIMIT = 64
_REMEMBERED = 16


@dataclass(slots=True)
class Span:
    """One leadership. ``end`` may lie ahead; None while it is not known."""

    grant: Grant
    first: Line
    since: int
    last: Line
    end: int | None = None
    rival: Span | None = None

    @property
    def proven_until(self) -> int:
        """Nanoseconds until when it held for certain."""
        if self.end is not None:
            return self.end
        return max(self.since, self.last.entry.boottime_ns)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two that led at once: ``later`` began while ``earlier`` led."""

    earlier: Span
    later: Span

    @property
    def ns(self) -> int:
        """For how long, at least."""
        until = min(self.earlier.proven_until, self.later.proven_until)
        return max(0, until - self.later.since)


class Lane:
    """Told in order of time; an end may lie before or after the moment at which it is told."""

    __slots__ = ("closed", "dropped", "open")

    def __init__(self) -> None:
        self.open: dict[Grant, Span] = {}
        self.closed: deque[Grant] = deque(maxlen=_REMEMBERED)
        #: Spans whose end nobody told, and that were forgotten.
        self.dropped = 0

    def begin(self, line: Line, grant: Grant) -> Overlap | None:
        """``grant`` leads from here on."""
        at = line.entry.boottime_ns
        span = Span(grant, line, at, line)
        for other in list(self.open.values()):
            if other.end is None:
                other.rival = other.rival or span
            elif at < other.end:
                return Overlap(other, span)
            else:
                self._close(other)
        if len(self.open) >= OPEN_LIMIT:
            del self.open[next(iter(self.open))]
            self.dropped += 1
        self.open[grant] = span
        return None

    def prove(self, line: Line, grant: Grant) -> Overlap | None:
        """``grant``, which is open, still leads."""
        span = self.open[grant]
        span.last = line
        return self._met(span, line.entry.boottime_ns)

    def end(self, line: Line, grant: Grant, at: int) -> Overlap | None:
        """``grant``, which is open, leads until ``at``."""
        span = self.open[grant]
        if span.end is not None:
            return None
        span.last = line
        span.end = max(at, span.since)
        overlap = self._met(span, span.end)
        if overlap is None and span.end <= line.entry.boottime_ns:
            self._close(span)
        return overlap

    def ended(self, grant: Grant) -> bool:
        """Whether it is one of those that ended last."""
        return grant in self.closed

    def forget(self, grant: Grant) -> None:
        """It is about to begin anew."""
        if grant in self.closed:
            self.closed.remove(grant)

    def unfinished(self) -> Span | None:
        """One that nobody saw end, although another one led after it."""
        return next((s for s in self.open.values() if s.end is None and s.rival), None)

    def _met(self, span: Span, until: int) -> Overlap | None:
        if span.rival is not None and until > span.rival.since:
            return Overlap(span, span.rival)
        return None

    def _close(self, span: Span) -> None:
        del self.open[span.grant]
        span.rival = None  # or each would keep alive all that came after it
        self.closed.append(span.grant)
