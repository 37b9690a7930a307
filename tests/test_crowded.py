"""All processes of the user are used up right after an election: it costs neither the leadership
nor its release.

What this does not show: a connection that breaks while no thread is to be had for the next one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.core.elector import connect
from electctl.lab.cluster import Cluster, make_cluster

#: Root has no limit; whoever is root becomes a user who may only read what root may.
NOBODY = [
    "setpriv",
    "--reuid=54321",
    "--regid=54321",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
]
TTL = {"redis": 2.0, "etcd": 3.0, "zk": 6.0, "raft": 2.0}


@pytest.fixture(params=list(TTL))
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    with make_cluster(request.param, tmp_path / "store") as found:
        yield found


def test_a_leader_needs_no_thread_that_it_does_not_have(cluster: Cluster, election: str) -> None:
    scheme = cluster.url.partition(":")[0]
    order = {"url": cluster.url, "election": election, "ttl": TTL[scheme]}
    leader = subprocess.run(
        [*(NOBODY if os.geteuid() == 0 else []), sys.executable, "-m", "tests.crowded"],
        input=json.dumps(order) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert leader.returncode == 0
    said = json.loads(leader.stdout)
    assert said["crowded"], "the limit was none"
    assert not said["lost"]
    assert said["remaining"] > 0
    assert said["release"] == ""
    assert said["trouble"] in ("", "Unreachable")
    with connect(cluster.url) as elector:
        assert elector.holder(election) is None
