"""The conformance suite on real etcd, one member and three, with ``etcdctl lock`` beside us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from electctl_etcd.lab import EtcdCluster
from tests.etcd import EtcdHarness

LOGIN = "worker:the-right-one"


@pytest.fixture(
    scope="module",
    params=[1, pytest.param(3, marks=pytest.mark.slow)],
    ids=["one-member", "three-members"],
)
def harness(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    home = tmp_path_factory.mktemp("conformance")
    with EtcdCluster(home, request.param, login=LOGIN) as cluster:
        yield EtcdHarness(cluster, LOGIN)


class TestEtcd(BackendConformance):
    """All cases."""
