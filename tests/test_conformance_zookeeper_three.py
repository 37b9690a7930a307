"""The conformance suite on three ZooKeeper servers; a module for each number, to run side by side.

kazoo's own lock is the native tool.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from tests.zookeeper import ZooKeeperHarness, cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), 3) as servers:
        yield ZooKeeperHarness(servers)


class TestZooKeeperOnThree(BackendConformance):
    """All cases."""
