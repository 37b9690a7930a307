"""``etcd://`` and ``etcds://``: a key under a lease, ordered by its create revision.

Importing this module imports no client library. What it does not guarantee: see ``traits``.
"""

from __future__ import annotations

from electctl.contract.backend import Plugin
from electctl_etcd.traits import TRAITS

PLUGIN = Plugin(
    schemes=("etcd", "etcds"),
    traits=TRAITS,
    backend="electctl_etcd.elector:EtcdBackend",
    requires="etcd3",
    lab="electctl_etcd.lab:EtcdCluster",
    natives={
        "etcdctl-lock": "electctl_etcd.native:lock",
        "etcdctl-elect": "electctl_etcd.native:elect",
    },
    example="etcd://127.0.0.1:2379",
    options={
        "ca": "file with the certificates to trust (etcds://; the system's own by default)",
        "cert": "file with our client certificate (etcds://, together with key)",
        "key": "file with the key of our client certificate",
    },
)
