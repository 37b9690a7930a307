"""The conformance suite's faults of the store itself, on three members of etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Renewal
from electctl.errors import OutcomeUnknown, Unreachable
from electctl.lab.cluster import make_cluster
from electctl.testing import EnsembleConformance, EnsembleHarness
from electctl_etcd.candidacy import EtcdCandidacy
from electctl_etcd.elector import EtcdBackend
from electctl_etcd.rpc import pb
from tests.ensemble import must_make_two_leaders
from tests.etcd import EtcdHarness

pytestmark = pytest.mark.slow


class EtcdEnsembleHarness(EnsembleHarness, EtcdHarness):
    """Three members, of which any can be separated from the others."""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnsembleHarness]:
    with make_cluster("etcd", tmp_path_factory.mktemp("ensemble"), 3, breakable=True) as cluster:
        yield EtcdEnsembleHarness(cluster)


class TestEtcdEnsemble(EnsembleConformance):
    """All cases."""


class BelievesOneMember(EtcdCandidacy):
    """Where a keep-alive is not answered, a read will do that the member answers by itself."""

    def renew(self) -> Renewal:
        try:
            return super().renew()
        except (Unreachable, OutcomeUnknown):
            since = now()
            query = pb.RangeRequest(key=self._key, serializable=True)
            answer = self._client.endpoint.kv.Range(query, timeout=self._timeout)
            return Renewal(since, self._ttl if answer.kvs else 0.0)


class BelievingBackend(EtcdBackend):
    def candidacy(self, bid: Bid) -> Candidacy:
        return BelievesOneMember(self._client, bid, self.notes)


def test_a_candidacy_that_takes_a_members_own_word_for_a_proof_fails(
    harness: EnsembleHarness,
) -> None:
    must_make_two_leaders(harness, BelievingBackend)
