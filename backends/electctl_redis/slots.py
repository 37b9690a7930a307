"""Which node of a Redis Cluster has a slot, as far as nodes have said.

What this does not guarantee: that it is so still. A node that has it no more says so itself
(MOVED), and that is what is believed from then on. So no map is kept of the slots that nobody asked
for, and a server that is no cluster is one that has all of them.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "Redirection and
resharding".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from electctl_redis.names import slot_of

if TYPE_CHECKING:
    from electctl_redis.target import Address


class Slots:
    """What was learnt, from any thread. ``seeds`` are the nodes that the URL names."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        #: The nodes to ask, those that failed us last at the end.
        self.seeds = tuple(seeds)
        self._owners: dict[int, Address] = {}

    def owner(self, key: bytes) -> Address | None:
        """The node that has a key's slot; None if none was heard of."""
        return self._owners.get(slot_of(key))

    def learn(self, key: bytes, owner: Address) -> None:
        """That node has said that it has the slot, or another has said so of it."""
        self._owners[slot_of(key)] = owner

    def forget(self, node: Address) -> None:
        """That node failed: ask others who has what it had.

        What another thread learns meanwhile stays; but of a slot that the node had it may be asked
        for once more.
        """
        for slot, one in self._owners.copy().items():
            if one == node:
                self._owners.pop(slot, None)
        self.seeds = tuple(sorted(self.seeds, key=lambda seed: seed == node))
