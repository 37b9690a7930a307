"""The conformance suite on three members of etcd; a module for each number, to run side by side.

``etcdctl lock`` is the native tool.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from electctl_etcd.lab import EtcdCluster
from tests.etcd import LOGIN, EtcdHarness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 3, login=LOGIN) as cluster:
        yield EtcdHarness(cluster, LOGIN)


class TestEtcdOnThree(BackendConformance):
    """All cases."""
