"""A server's disk: what is not synced can be lost or torn, and a sync takes time.

What this does not simulate: damage to what was synced. A store that loses that breaks Raft's
assumptions, and the node that notices refuses to go on.
"""

from __future__ import annotations

import random
from collections import Counter

from electctl.raft.pure.codec import Decoder, Malformed, encode
from electctl.raft.pure.driver import Write
from electctl.raft.pure.messages import Persist, Stored
from electctl.raft.pure.storage import Storage, after
from electctl.simulate.sights import Sight

_decoder = Decoder(Write)


class Disk(Storage):
    """A journal, a record for each write. What was synced stays; a crash decides about the rest.

    :meth:`write` is the contract's; the world calls :meth:`begin` and :meth:`sync`, to let a crash
    fall between them.
    """

    def __init__(self, draw: random.Random, seen: Counter[Sight]) -> None:
        self._draw = draw
        self._seen = seen
        self._synced = Stored()
        self._unsynced: list[Write] = []

    def begin(self, write: Write) -> None:
        """Hand it to the disk; nothing is promised yet."""
        self._unsynced.append(write)

    def sync(self) -> None:
        """What was begun is durable."""
        for write in self._unsynced:
            self._keep(write)
        self._unsynced = []

    def crash(self) -> None:
        """Of what was not synced a first part survives, the rest is torn or lost."""
        survives = True
        for write in self._unsynced:
            data = encode(write)
            written = self._draw.choice((0, len(data) // 2, len(data)))
            survives = survives and self._survives(data[:written])
            self._seen[_fate(written, survives)] += 1
        self._unsynced = []

    def _survives(self, data: bytes) -> bool:
        try:
            self._keep(_decoder.decode(data))
        except Malformed:
            return False
        return True

    def _keep(self, write: Write) -> None:
        for persist in write.persists:
            self._synced = after(self._synced, persist)

    def load(self) -> Stored:
        return self._synced

    def write(self, *persists: Persist) -> None:
        self.begin(Write(persists))
        self.sync()

    def close(self) -> None:
        return


def _fate(written: int, survives: bool) -> Sight:
    if survives:
        return Sight.KEPT_WRITE
    return Sight.TORN_WRITE if written else Sight.LOST_WRITE
