"""The log in memory: entries after a snapshot, terms, truncation.

What this does not do: make anything durable. :meth:`electctl.raft.pure.core.Raft.handle` tells what
must be, in a :class:`~electctl.raft.pure.messages.Persist`.
"""

from __future__ import annotations

from electctl.raft.pure.errors import StoreDamaged
from electctl.raft.pure.messages import Entry, Snapshot


class Log:
    """Entries ``snapshot.index + 1`` to ``last_index``, without gaps."""

    def __init__(self, snapshot: Snapshot, entries: tuple[Entry, ...]) -> None:
        """Raises StoreDamaged if the entries do not follow the snapshot without a gap."""
        self.snapshot = snapshot
        self._entries = [entry for entry in entries if entry.index > snapshot.index]
        self.last_index = snapshot.index + len(self._entries)
        term = snapshot.term
        for index, entry in enumerate(self._entries, snapshot.index + 1):
            if entry.index != index or entry.term < term:
                raise StoreDamaged(
                    f"the log has entry {entry.index} of term {entry.term} "
                    f"where entry {index} of term {term} or later belongs"
                )
            term = entry.term

    @property
    def last_term(self) -> int:
        """The term of the last entry; the snapshot's where there is none."""
        return self._entries[-1].term if self._entries else self.snapshot.term

    def term_at(self, index: int) -> int | None:
        """The term of that entry; None where the log does not reach, or no longer does."""
        offset = index - self.snapshot.index
        if 0 < offset <= len(self._entries):
            return self._entries[offset - 1].term
        return self.snapshot.term if offset == 0 else None

    def entry(self, index: int) -> Entry:
        """That entry, which must be there."""
        return self._entries[index - self.snapshot.index - 1]

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries ``first`` to ``last``, both included."""
        base = self.snapshot.index + 1
        return tuple(self._entries[first - base : last + 1 - base])

    def append(self, entry: Entry) -> None:
        """Add the next entry."""
        self._entries.append(entry)
        self.last_index += 1

    def truncate(self, first: int) -> None:
        """Remove the entry ``first`` and all after it."""
        del self._entries[first - self.snapshot.index - 1 :]
        self.last_index = self.snapshot.index + len(self._entries)

    def up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as complete as this one (section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def agreement(self, index: int, term: int) -> int:
        """The largest index up to ``index`` where a log with ``term`` at ``index`` may agree.

        Terms never fall along a log, so entries of later terms cannot match (section 5.3).
        """
        index = min(index, self.last_index)
        while index >= self.snapshot.index and (self.term_at(index) or 0) > term:
            # Also past the snapshot's own entry: then the snapshot itself must be sent.
            index -= 1
        return index

    def compact(self, snapshot: Snapshot) -> None:
        """Forget the entries for which the snapshot stands."""
        self._entries = self._entries[snapshot.index - self.snapshot.index :]
        self.snapshot = snapshot
        self.last_index = snapshot.index + len(self._entries)

    def restart(self, snapshot: Snapshot) -> None:
        """Forget everything but the snapshot."""
        self._entries = []
        self.snapshot = snapshot
        self.last_index = snapshot.index
