"""What the tests of the Redis backend share: candidacies to block in, and the server's counters."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import redis

from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant
from electctl.core.registry import open_backend
from electctl.lab.cluster import Cluster
from tests.processes import wait_for

TTL = 10.0


class Stage:
    """Candidacies for one election, each closed at the end, and threads to block in."""

    def __init__(self, backend: Backend, election: str) -> None:
        self.backend = backend
        self.election = election
        self.threads = ThreadPoolExecutor(128)
        self.candidacies: list[Candidacy] = []

    def enter(
        self, who: str, ttl: float = TTL, backend: Backend | None = None, timeout: float = 2.0
    ) -> Candidacy:
        bid = Bid(self.election, who, ttl, timeout)
        found = (backend or self.backend).candidacy(bid)
        self.candidacies.append(found)
        return found

    def lead(self, who: str, ttl: float = TTL) -> tuple[Candidacy, Grant]:
        candidacy = self.enter(who, ttl)
        grant = candidacy.acquire(now())
        assert grant is not None
        return candidacy, grant

    def wait(
        self, who: str, ttl: float = TTL, backend: Backend | None = None
    ) -> tuple[Candidacy, Future[Grant | None]]:
        """Enter the queue, and return once the store shows it."""
        candidacy = self.enter(who, ttl, backend)
        before = len(self.queue())
        future = self.threads.submit(candidacy.acquire, None)
        wait_for(lambda: len(self.queue()) > before or future.done(), what=f"{who} waits")
        return candidacy, future

    def queue(self) -> tuple[str, ...]:
        return self.backend.view(self.election).waiting

    def holder(self) -> str | None:
        found = self.backend.view(self.election).holder
        return None if found is None else found.id

    def close(self) -> None:
        for candidacy in self.candidacies:
            candidacy.cancel()
        self.threads.shutdown()
        for candidacy in self.candidacies:
            candidacy.close()


@contextmanager
def staged(url: str, election: str) -> Iterator[Stage]:
    """A stage on the backend of ``url``."""
    with open_backend(url) as backend:
        stage = Stage(backend, election)
        try:
            yield stage
        finally:
            stage.close()


@contextmanager
def bare_client(cluster: Cluster) -> Iterator[Any]:
    """redis-py's own client, to look at the server from outside."""
    client: Any = redis.Redis(port=cluster.servers[0].port)
    with client:
        yield client


def calls(store: Any, *names: str) -> int:
    """How often the server has run these commands, or all."""
    stats = store.info("commandstats")
    return sum(
        entry["calls"]
        for key, entry in stats.items()
        if not names or key.removeprefix("cmdstat_").partition("|")[0] in names
    )
