"""Was there ever more than one leader: lines in, a verdict out. No I/O, no clock of its own.

What this does not guarantee: that a history is complete or true. It says where it is seen to be
incomplete, and then a history that breaks nothing is *unproved*, not good.

Memory: a few lines an election, however many there are. Where the elections are too many, give it
some of them at a time, and :meth:`forget` them.
"""

from __future__ import annotations

from collections.abc import Collection

from electctl.verify.election import Election
from electctl.verify.verdict import Doubts, Line, Verdict, Violation


class Checker:
    """Give it every line of one clock in order of time, then :meth:`close`, then the next clock.

    ``apart`` are the (backend, election) that one observer recorded on several stores: campaigns
    do not say which of them they mean.
    """

    def __init__(self, apart: Collection[tuple[str, str]] = ()) -> None:
        self.doubts = Doubts()
        self.lines = 0
        self._apart = frozenset(apart)
        self._finished = 0
        self._elections: dict[tuple[str, ...], Election] = {}
        #: Where two led at once; what is still to be learned is for how long.
        self._found: Election | None = None
        for backend, name in sorted(self._apart):
            self.doubts.add(
                "two_stores",
                f"{name!r} was recorded on several {backend} stores, and campaigns do not say "
                "which one they mean: verify them apart",
                backend,
                name,
            )

    def take(self, line: Line, clock: str) -> Violation | None:
        """One line; the first violation ends the check.

        Two leaders are told of when it is known until when both led, or there are no more lines.
        """
        self.lines += 1
        entry = line.entry
        key: tuple[str, ...] = (entry.backend, entry.election)
        if key in self._apart:
            url = entry.data.get("url")
            if not isinstance(url, str):
                return None
            key = (*key, url)
        election = self._elections.get(key)
        if election is None:
            election = self._elections[key] = Election(entry.backend, entry.election, self.doubts)
        if self._found is None:
            violation = election.take(line, clock)
            if election.overlap is None:
                return violation
            self._found = election
        elif self._found is election:
            election.take(line, clock)
        return self._found.two_leaders() if self._found.settled() else None

    def close(self, clock: str) -> Violation | None:
        """There is nothing more on this clock."""
        if self._found is not None:
            return self._found.two_leaders()
        for election in self._elections.values():
            election.close(clock)
        return None

    def forget(self) -> None:
        """There is nothing more of the elections that it has been told of so far."""
        for election in self._elections.values():
            election.finish()
        self._finished += len(self._elections)
        self._elections.clear()

    def finish(self, violation: Violation | None = None, notes: tuple[str, ...] = ()) -> Verdict:
        """The verdict on all of it."""
        if violation is None:
            if not self.lines:
                self.doubts.add("empty", "there is no line in it")
            self.forget()
        return Verdict(
            self.lines,
            self._finished + len(self._elections),
            violation,
            tuple(self.doubts.kept.values()),
            self.doubts.more.total(),
            notes,
        )
