"""The conformance suite on a real Redis, with redis-py's own lock as the native tool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.lab.cluster import make_cluster
from electctl.testing import BackendConformance, Harness
from tests.redis_harness import RedisHarness


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with make_cluster("redis", tmp_path_factory.mktemp("conformance")) as cluster:
        yield RedisHarness(cluster)


class TestRedis(BackendConformance):
    """All cases."""
