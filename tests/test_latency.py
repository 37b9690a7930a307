"""A TTL that cannot be kept at the latency that was measured is said so, on ZooKeeper and Raft.

Redis and etcd: tests/test_redis_queue.py, tests/test_etcd_links.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from electctl.base.latency import too_slow
from electctl.core.elector import connect
from electctl.errors import Unreachable
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl_raft.lab import RaftCluster
from electctl_zookeeper.lab import ZooKeeperCluster

#: Seconds from one end of a slow link to the other: more, there and back, than a renewal may take
#: at a TTL of 3 s, on either scheme; far less than at one of 30 s.
FAR = 0.4
SAID = re.compile(r"took (\d+\.\d+) s to answer.* at a TTL of 3 s: .*--ttl (\d+)s would do")


def raft(home: Path) -> Cluster:
    return RaftCluster(home, 1)


def zookeeper(home: Path) -> Cluster:
    return ZooKeeperCluster(home, 1, scheme="zk")


@pytest.fixture(scope="module", params=[zookeeper, raft])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make: Callable[[Path], Cluster] = request.param
    with make(tmp_path_factory.mktemp("far")) as found:
        yield found


@pytest.fixture
def far(cluster: Cluster) -> Iterator[str]:
    """The URL of a way that is slow."""
    with Proxy(cluster.entrances[0].address) as link:
        link.delay(FAR)
        yield cluster.url_for([link.address])


@pytest.mark.server
def test_a_ttl_that_cannot_be_kept_is_said(far: str, election: str) -> None:
    with connect(far) as elector, pytest.raises(Unreachable) as caught:
        elector.campaign(election, "a", ttl=3.0, wait=8.0)
    found = SAID.search(caught.value.message)
    assert found is not None, caught.value.message
    took, enough = float(found[1]), int(found[2])
    assert took >= 2 * FAR
    assert enough >= 4.5 * took  # a renewal every (ttl - grace - margin) / 3


@pytest.mark.server
def test_one_that_can_be_is_led_and_nothing_said(far: str, election: str) -> None:
    with connect(far) as elector, elector.campaign(election, "a", ttl=30.0, wait=25.0):
        assert not elector.backend.notes


@pytest.mark.parametrize(
    ("took", "answers", "renewals", "enough"), [(0.5, 1, 3, 3), (0.5, 2, 3, 6), (0.5, 1, 6, 6)]
)
def test_what_would_do(took: float, answers: int, renewals: int, enough: int) -> None:
    said = too_slow("it", took, answers, 0.3, 2.0, renewals)
    assert said is not None
    assert f"--ttl {enough}s would do" in said
    assert too_slow("it", took, answers, answers * took, 2.0, renewals) is None
