"""The conformance suite's faults of the store itself, on three ZooKeeper servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy
from electctl.errors import LeadershipLost
from electctl.lab.cluster import make_cluster
from electctl.testing import EnsembleConformance, EnsembleHarness
from electctl_zookeeper.backend import ZooKeeperBackend
from electctl_zookeeper.candidacy import ZooKeeperCandidacy
from electctl_zookeeper.session import Session
from tests.ensemble import must_make_two_leaders
from tests.zookeeper import ZooKeeperHarness

pytestmark = pytest.mark.slow


class ZooKeeperEnsembleHarness(EnsembleHarness, ZooKeeperHarness):
    """Three servers, of which any can be separated from the others."""

    patient_ttl = 12.0
    # Seen: 3 to 45 s and more until the other two agree on one of them.
    replaces_separated_leader = False


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnsembleHarness]:
    with make_cluster("zk", tmp_path_factory.mktemp("ensemble"), 3, breakable=True) as cluster:
        yield ZooKeeperEnsembleHarness(cluster)


class TestZooKeeperEnsemble(EnsembleConformance):
    """All cases."""


class BelievesReads(ZooKeeperCandidacy):
    """Takes an answered read for as good as a committed write, as kazoo's state does."""

    def _touch(self, session: Session, place: Any, timeout: float) -> None:
        sent = now()
        if session.ask(partial(self._exists, name=place.name), timeout) is None:
            raise LeadershipLost("our znode was deleted", reason="deleted")
        session.committed(sent)


class BelievingBackend(ZooKeeperBackend):
    def candidacy(self, bid: Bid) -> Candidacy:
        return BelievesReads(self.target, bid, self.notes)


def test_a_candidacy_that_takes_an_answered_read_for_a_proof_fails(
    harness: EnsembleHarness,
) -> None:
    must_make_two_leaders(harness, BelievingBackend)
