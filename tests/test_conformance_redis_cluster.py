"""The conformance suite on a real Redis Cluster, with redis-py's own lock as the native tool.

Whoever comes without a proxy names a node that has next to no slot, so is sent on. What is broken
is the way to the primary that has the others: a node that is sent to is reached past any proxy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from electctl.lab.cluster import make_cluster
from electctl.lab.ports import HOST
from electctl.lab.proxy import Proxy
from electctl.testing import BackendConformance, Harness
from electctl.testing.harness import Link
from electctl_redis.cluster_lab import ShardedCluster
from tests.redis_harness import RedisHarness

pytestmark = pytest.mark.slow


class LinkToPrimary(Link):
    """One proxy, before the primary."""

    def __init__(self, cluster: ShardedCluster) -> None:
        self._proxies = [Proxy(cluster.servers[cluster.leading()].address)]
        self.url = cluster.url_for([(HOST, self._proxies[0].port)])


class RedisClusterHarness(RedisHarness):
    """Six nodes."""

    cluster: ShardedCluster

    @property
    def url(self) -> str:
        return self.cluster.url_for([self.cluster.servers[1].address])

    def link(self) -> Link:
        return LinkToPrimary(self.cluster)

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.cluster.servers[self.cluster.leading()].port)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    home = tmp_path_factory.mktemp("conformance")
    with make_cluster("redis+cluster", home, breakable=True) as cluster:
        assert isinstance(cluster, ShardedCluster)
        # One primary has next to all slots, and is not replaced because the machine is busy.
        for server in cluster.servers:
            with redis.Redis(port=server.port) as node:
                node.config_set("cluster-node-timeout", 5000)
        yield RedisClusterHarness(cluster)


class TestRedisCluster(BackendConformance):
    """All cases."""
