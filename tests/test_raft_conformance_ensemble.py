"""The conformance suite's faults of the store itself, on three nodes of the built-in Raft."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.stores import SeparableRaft
from electctl.testing import EnsembleConformance, EnsembleHarness
from tests.ensemble import SeparableHarness
from tests.raft_stage import RaftHarness

pytestmark = pytest.mark.slow


class RaftEnsembleHarness(SeparableHarness, RaftHarness):
    """Three nodes, of which any can be separated from the others."""

    #: What is asked of the built-in Raft: a leadership of 5 s outlives any one node.
    patient_ttl = 5.0
    followers_serve = False


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnsembleHarness]:
    with SeparableRaft(tmp_path_factory.mktemp("ensemble"), 3) as cluster:
        yield RaftEnsembleHarness(cluster)


class TestRaftEnsemble(EnsembleConformance):
    """All cases."""
