"""Leader election on ZooKeeper: ephemeral sequential znodes. Importing this imports no kazoo.

What it does not guarantee is in :mod:`electctl_zookeeper.traits`.
"""

from __future__ import annotations

from electctl.contract.backend import Plugin
from electctl_zookeeper.target import OPTIONS
from electctl_zookeeper.traits import TRAITS

PLUGIN = Plugin(
    schemes=("zk",),
    traits=TRAITS,
    backend="electctl_zookeeper.backend:ZooKeeperBackend",
    requires="kazoo",
    lab="electctl_zookeeper.lab:ZooKeeperCluster",
    natives={"kazoo-election": "electctl_zookeeper.native:election"},
    example="zk://127.0.0.1:2181",
    options=OPTIONS,
)
