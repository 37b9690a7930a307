"""The conformance suite on one node; a module for each number of nodes, to run side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from electctl_raft.lab import RaftCluster
from tests.raft_stage import RaftHarness


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with RaftCluster(tmp_path_factory.mktemp("raft"), 1) as cluster:
        yield RaftHarness(cluster)


class TestRaftOnOne(BackendConformance):
    """All cases."""
