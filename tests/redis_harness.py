"""Redis under the conformance suite: how it is reached, broken, and led by redis-py's own lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.lock import Lock

from electctl.testing import Foreign, Harness


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
        return self.url.replace("://", "://nobody:wrong-secret@")

    @contextmanager
    def full(self) -> Iterator[None]:
        with self._client() as client:
            client.config_set("maxmemory", 1)
            try:
                yield
            finally:
                client.config_set("maxmemory", 0)

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
