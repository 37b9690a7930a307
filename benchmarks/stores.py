"""The stores that are measured, and what their servers were asked.

What this does not guarantee: that others count alike. What a store counts is its own affair.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import redis

from electctl.lab.cluster import Cluster, make_cluster
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from electctl_zookeeper.lab import ZooKeeperCluster

#: Seconds: the shortest TTL that leaves room for the machine's own delays. etcd grants no less
#: than 2 s, and counts in whole seconds.
TTL = {"redis": 2.0, "etcd": 3.0, "zk": 3.0, "raft": 3.0}


#: Members where a majority is to survive the loss of one.
NODES = {"etcd": 3, "zk": 3, "raft": 3}


def cluster_of(scheme: str, home: Path, nodes: int | None = None) -> Cluster:
    """The servers of a scheme, not started; where a majority decides, three, separable."""
    return make_cluster(scheme, home, nodes or NODES.get(scheme), breakable=True)


# What the servers have been asked ----------------------------------------------------------------


def operations(cluster: Cluster) -> Counter[str]:
    """What clients have asked of all servers so far, by kind; pings and keep-alives included.

    etcd: messages of each gRPC method; ZooKeeper: packets; Redis: commands, also those in scripts;
    raft: entries of the log, which renewals and reads do not make.
    """
    found: Counter[str] = Counter()
    if isinstance(cluster, RaftCluster):
        found["entries"] = max(status.commit for status in cluster.statuses().values())
        return found
    for server in cluster.entrances:
        if isinstance(cluster, EtcdCluster):
            for labels, value in _metrics(cluster.port(f"{server.name}-status"), RECEIVED):
                method = labels.partition('grpc_method="')[2].partition('"')[0]
                found[method] += int(value)
        elif isinstance(cluster, ZooKeeperCluster):
            told = cluster.word(int(server.name.removeprefix("server")), b"mntr")
            found["packets"] += int(told.partition("zk_packets_received")[2].split()[0])
        else:
            with redis.Redis(port=server.port) as client:
                stats: Any = client.info("commandstats")
            found.update({name.removeprefix("cmdstat_"): s["calls"] for name, s in stats.items()})
            # Our own question, and what a new connection says of itself.
            for name in ("info", "client|setinfo", "client|setname"):
                found.pop(name, None)
    return found


RECEIVED = "grpc_server_msg_received_total"


def _metrics(port: int, name: str) -> list[tuple[str, float]]:
    """Labels and value of each line of a Prometheus metric."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = (line.removeprefix(name) for line in lines if line.startswith(name + "{"))
    return [
        (labels, float(value)) for labels, _, value in (line.rpartition(" ") for line in wanted)
    ]
