"""What elections that are over have left in Redis, and its removal.

What this does not guarantee: that a name is found at which a foreign tool alone ever held the lock;
such a lock expires and leaves nothing.

The token counter is why something is left: a name that comes back must not begin with 1 again. So
the greatest token of all that was swept stays, and a counter that is new starts above it: one
number for the whole database, or for each slot of a cluster, where a script reaches no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from electctl.contract.backend import Leftover
from electctl_redis import scripts
from electctl_redis.connect import Links
from electctl_redis.names import Keys, election_of

if TYPE_CHECKING:
    from electctl_redis.target import Address

#: Keys that one request looks at.
_BATCH = 1000


_FLOOR = scripts.FLOOR.encode()


@dataclass(frozen=True, slots=True)
class _Seen:
    """When it was used last (ms), and the key that will remember its tokens."""

    last: int
    floor: bytes


def leftovers(links: Links) -> Iterator[Leftover]:
    """Every election of this database, or cluster, that has a counter or a checkpoint and is free.

    Of a cluster all primaries are asked; a slot that moves meanwhile may be passed over.
    """
    in_cluster = b"cluster_enabled:1" in links.call("INFO", "cluster", key=_FLOOR)
    shown: set[bytes] = set()
    for node in _primaries(links) if in_cluster else (None,):
        for name in _names(links, node):
            if name not in shown:
                shown.add(name)
                leftover = _look(links, name, in_cluster)
                if leftover is not None:
                    yield leftover


def _primaries(links: Links) -> list[Address]:
    found = []
    for _, _, (host, port, *_), *_ in links.call("CLUSTER", "SLOTS", key=_FLOOR):
        # A node that knows no address of its own is where it was reached.
        found.append((host.decode() if host else links.target.hosts[0][0], int(port)))
    return list(dict.fromkeys(found))


def _names(links: Links, node: Address | None) -> Iterator[bytes]:
    cursor = 0
    while True:
        scan = ("SCAN", cursor, "MATCH", "electctl:{*:*", "COUNT", _BATCH)
        cursor, found = links.call(*scan, at=node)
        yield from filter(None, map(election_of, found))
        cursor = int(cursor)
        if not cursor:
            return


def _look(links: Links, name: bytes, in_cluster: bool) -> Leftover | None:
    try:
        election = name.decode()
    except UnicodeDecodeError:
        return None
    keys = Keys.of(election, links.target.db)
    free, last, counter, checkpoint = links.script(scripts.LEFT, (*keys.queue, keys.checkpoint))
    if not free:
        return None
    what = ["token counter"] * counter + ["checkpoint"] * checkpoint
    seen = _Seen(last, keys.floor if in_cluster else _FLOOR)
    return Leftover(election, tuple(what), last / 1000 if last else None, seen)


def sweep(links: Links, leftover: Leftover) -> bool:
    """See :meth:`electctl.contract.backend.Backend.sweep`."""
    keys = Keys.of(leftover.election, links.target.db)
    seen = leftover.seen
    assert isinstance(seen, _Seen), "a leftover of another backend"
    everything = (*keys.queue, keys.checkpoint, seen.floor)
    return bool(links.script(scripts.SWEEP, everything, seen.last) == 1)
