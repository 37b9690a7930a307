"""The contract of a node's durable store, and a store in memory.

What the store in memory does not do: outlive its process. It is for tests; the durable one is
:mod:`electctl.raft.io.sqlite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from msgspec.structs import replace

from electctl.raft.pure.messages import Persist, Stored


class Storage(ABC):
    """What a node must know again after a crash (figure 2, "persistent state")."""

    @abstractmethod
    def load(self) -> Stored:
        """What is stored; an empty :class:`Stored` at first. Raises StoreDamaged."""

    @abstractmethod
    def write(self, *persists: Persist) -> None:
        """Store them in this order: all or nothing, and durable when this returns.

        Raises StoreDamaged if that cannot be promised. Then the node must stop at once: what it
        has in memory may be ahead of its store.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what was opened. Writes nothing."""


def after(stored: Stored, persist: Persist) -> Stored:
    """What is stored once ``persist`` is written: the meaning of :class:`Persist`."""
    entries = stored.entries
    base = entries[0].index if entries else persist.first or 0
    if persist.first is not None:
        entries = entries[: max(0, persist.first - base)] + persist.entries
    snapshot = stored.snapshot
    if persist.snapshot is not None:
        snapshot = persist.snapshot
        entries = entries[max(0, snapshot.index + 1 - base) :]
    return replace(stored, term=persist.term, vote=persist.vote, snapshot=snapshot, entries=entries)


class MemoryStorage(Storage):
    """A store that lives as long as this object."""

    def __init__(self) -> None:
        self._stored = Stored()

    def load(self) -> Stored:
        return self._stored

    def write(self, *persists: Persist) -> None:
        for persist in persists:
            self._stored = after(self._stored, persist)

    def close(self) -> None:
        return
