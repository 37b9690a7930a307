"""The conformance suite on a real ZooKeeper, with kazoo's own lock as the native tool.

All cases, on one server and on an ensemble of three.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.testing import BackendConformance, Harness
from tests.zookeeper import ZooKeeperHarness, cluster


@pytest.fixture(
    scope="module", params=[1, pytest.param(3, marks=pytest.mark.slow)], ids=["one", "three"]
)
def harness(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    with cluster(tmp_path_factory.mktemp("zookeeper"), request.param) as servers:
        yield ZooKeeperHarness(servers)


class TestZooKeeper(BackendConformance):
    """All cases."""
