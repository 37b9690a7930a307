"""The conformance suite on one ZooKeeper server; a module for each number, to run side by side.

kazoo's own lock is the native tool.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from tests.zookeeper import ZooKeeperHarness, cluster


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), 1) as servers:
        yield ZooKeeperHarness(servers)


class TestZooKeeperOnOne(BackendConformance):
    """All cases."""
