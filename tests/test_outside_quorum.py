"""Exclusion seen from outside on three members of etcd, of ZooKeeper and of the built-in Raft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.outside.faults import faults_of
from benchmarks.stores import cluster_of
from electctl.lab.cluster import Cluster
from tests.outside import play

pytestmark = [pytest.mark.slow, pytest.mark.quiet]

#: Fault and the command that is hardest to end in time.
QUORUM_CASES = (
    ("kill-electctl", "forked"),
    ("stop-electctl", "stubborn"),
    ("swallowed", "stubborn"),
    ("sigterm", "plain"),
)


@pytest.fixture(scope="module", params=["etcd", "zk", "raft"])
def quorum(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Cluster]]:
    """Three members, whose links can be broken."""
    home = tmp_path_factory.mktemp("outside") / request.param
    with cluster_of(request.param, home, 3) as cluster:
        yield request.param, cluster


def test_the_same_on_three_members(quorum: tuple[str, Cluster], tmp_path: Path) -> None:
    scheme, cluster = quorum
    play(cluster, scheme, QUORUM_CASES, tmp_path)


def test_behind_a_member_that_is_cut_off_from_its_peers(
    quorum: tuple[str, Cluster], tmp_path: Path
) -> None:
    """It goes on answering what it can by itself, as if nothing had happened."""
    scheme, cluster = quorum
    # Where followers serve nobody it is the one that leads the others.
    fault = "cut-off" if "cut-off" in faults_of(scheme, 3) else "cut-off-leader"
    play(cluster, scheme, [(fault, "forked")], tmp_path)
