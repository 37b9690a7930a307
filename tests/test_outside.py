"""Exclusion seen from outside the program, under every fault and every kind of command.

One round each on Redis, a few on three members of etcd and of ZooKeeper; ``make outside`` plays
many of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.outside import COMMANDS, ENDS, Round, faults_of, one_round
from benchmarks.stores import TTL, cluster_of
from electctl.lab.cluster import Cluster

pytestmark = pytest.mark.slow

#: The hardest command for each fault that the store's own expiry settles, and the store's faults.
QUORUM_CASES = (
    ("kill-electctl", "forked"),
    ("stop-electctl", "stubborn"),
    ("swallowed", "stubborn"),
    ("sigterm", "plain"),
    ("cut-off", "forked"),
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of its own, because a fault stops it."""
    with cluster_of("redis", tmp_path_factory.mktemp("outside") / "redis") as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["etcd", "zk"])
def quorum(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Three members, whose links can be broken."""
    home = tmp_path_factory.mktemp("outside") / request.param
    with cluster_of(request.param, home, 3) as cluster:
        yield cluster


def check(done: Round) -> None:
    assert done.gap > 0, done
    if done.before_end is not None and done.fault != "kill-tree":
        assert done.before_end > 0, done
    if done.fault in ENDS and done.fault != "sigterm":
        assert done.exit_code == 79, done


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", faults_of("redis", 1))
def test_the_first_is_gone_before_the_second_begins(
    fault: str, command: str, tmp_path: Path, redis: Cluster
) -> None:
    check(one_round(redis, fault, command, TTL["redis"], tmp_path))


@pytest.mark.parametrize(("fault", "command"), QUORUM_CASES)
def test_the_same_on_three_members(
    quorum: Cluster, fault: str, command: str, tmp_path: Path
) -> None:
    check(one_round(quorum, fault, command, 3.0, tmp_path))
