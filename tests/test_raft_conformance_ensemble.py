"""The conformance suite's faults of the store itself, on three nodes of the built-in Raft."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Renewal
from electctl.errors import Unreachable
from electctl.lab.cluster import make_cluster
from electctl.testing import EnsembleConformance, EnsembleHarness
from electctl_raft.backend import RaftBackend
from electctl_raft.candidacy import RaftCandidacy
from tests.ensemble import must_make_two_leaders
from tests.raft_stage import RaftHarness

pytestmark = pytest.mark.slow


class RaftEnsembleHarness(EnsembleHarness, RaftHarness):
    """Three nodes, of which any can be separated from the others."""

    #: What is asked of the built-in Raft: a leadership of 5 s outlives any one node.
    patient_ttl = 5.0


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnsembleHarness]:
    with make_cluster("raft", tmp_path_factory.mktemp("ensemble"), 3, breakable=True) as cluster:
        yield RaftEnsembleHarness(cluster)


class TestRaftEnsemble(EnsembleConformance):
    """All cases."""


class BelievesSilence(RaftCandidacy):
    """Takes a node that is connected and says nothing for one that agrees."""

    def renew(self) -> Renewal:
        since = now()
        try:
            return super().renew()
        except Unreachable:
            return Renewal(since, self._bid.ttl)


class BelievingBackend(RaftBackend):
    def candidacy(self, bid: Bid) -> Candidacy:
        return BelievesSilence(self._target, self._desk, bid)


def test_a_candidacy_that_takes_silence_for_a_proof_fails(harness: EnsembleHarness) -> None:
    must_make_two_leaders(harness, BelievingBackend, "leader")
