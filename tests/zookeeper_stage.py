"""What the tests of zk:// on one server share: campaigns in threads, and the queue they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from electctl.core.elector import LeaderElector
from electctl.testing.stage import Contender, eventually
from electctl_zookeeper.names import in_order

TTL = 2.0
SOON = 5.0

Contend = Callable[..., Contender]


@contextmanager
def contending(elector: LeaderElector, election: str) -> Iterator[Contend]:
    """Begins campaigns, each in a thread; what is still there at the end is cleared away."""
    made: list[Contender] = []

    def begin(candidate: str, *, using: LeaderElector | None = None, ttl: float = TTL) -> Contender:
        contender = Contender((using or elector).attempt(election, candidate, ttl=ttl))
        made.append(contender)
        return contender

    try:
        yield begin
    finally:
        for contender in made:
            contender.close()


def queued(elector: LeaderElector, election: str, *ids: str) -> None:
    eventually(f"{ids} wait", lambda: elector.candidates(election) == ids, SOON)


def children(native: Any, election: str) -> list[str]:
    if native.exists(f"/{election}") is None:
        return []
    return [one.name for one in in_order(native.get_children(f"/{election}"))]
