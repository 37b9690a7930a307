"""``raft://``, ``rafts://`` and ``local:``: a lease table that the built-in Raft replicates.

Importing this module imports no backend. What it does not guarantee: see ``traits``.
"""

from __future__ import annotations

from electctl.contract.backend import Plugin
from electctl_raft.local_traits import LOCAL_TRAITS
from electctl_raft.traits import TRAITS

PLUGIN = Plugin(
    schemes=("raft", "rafts"),
    traits=TRAITS,
    backend="electctl_raft.backend:RaftBackend",
    lab="electctl_raft.lab:RaftCluster",
    example="raft://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403",
    options={
        "ca": "file with the certificate of the authority that the nodes trust (rafts://)",
        "cert": "file with our certificate (rafts://)",
        "key": "file with the key of our certificate (rafts://)",
    },
)

LOCAL = Plugin(
    schemes=("local",),
    traits=LOCAL_TRAITS,
    backend="electctl_raft.local:LocalBackend",
    prepare="electctl_raft.local:prepare",
    example="local:",
    options={"idle": "the server ends when nobody has used it for so long (default: 1m)"},
)
