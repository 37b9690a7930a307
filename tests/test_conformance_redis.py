"""The conformance suite on a real Redis, with redis-py's own lock as the native tool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.lock import Lock

from electctl.lab.cluster import make_cluster
from electctl.testing import BackendConformance, Foreign, Harness
from electctl.url import BackendURL


class RedisHarness(Harness):
    """One redis-server without a password, so that any password is a wrong one."""

    ttl = 2.0

    def _client(self) -> redis.Redis:
        host, port = self.cluster.entrances[0].address
        return redis.Redis(host=host, port=port)

    def revoke(self, election: str) -> None:
        with self._client() as client:
            assert client.delete(election) == 1

    def wrong_credentials(self) -> str:
        (host, port) = BackendURL.parse(self.url).hosts[0]
        return f"redis://nobody:wrong-secret@{host}:{port}/0"

    def foreign(self) -> Foreign:
        @contextmanager
        def hold(election: str, wait: float) -> Iterator[bool]:
            with self._client() as client:
                lock = Lock(client, election, timeout=30, sleep=0.02)
                got = lock.acquire(blocking_timeout=wait)
                yield got
                if got and lock.owned():
                    lock.release()

        return hold


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with make_cluster("redis", tmp_path_factory.mktemp("conformance")) as cluster:
        yield RedisHarness(cluster)


class TestRedis(BackendConformance):
    """All cases."""
