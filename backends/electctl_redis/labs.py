"""Which lab each of our URL schemes has."""

from __future__ import annotations

from pathlib import Path

from electctl.lab.cluster import Cluster
from electctl_redis.cluster_lab import ShardedCluster
from electctl_redis.lab import RedisCluster, SentinelCluster

_KINDS: dict[str, type[RedisCluster]] = {
    "redis+sentinel": SentinelCluster,
    "redis+cluster": ShardedCluster,
}


def cluster(home: Path, nodes: int | None = None, *, scheme: str = "redis") -> Cluster:
    """The cluster of one of our URL schemes."""
    return _KINDS.get(scheme, RedisCluster)(home, nodes, scheme=scheme)
