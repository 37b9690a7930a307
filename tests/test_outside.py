"""Exclusion seen from outside the program, under every fault and every kind of command.

One round each on Redis, a few on three members of etcd, of ZooKeeper and of the built-in Raft;
``make outside`` plays many of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.outside import ALONE, COMMANDS, ENDS, Round, faults_of, one_round
from benchmarks.stores import TTL, cluster_of
from electctl.lab.cluster import Cluster

pytestmark = pytest.mark.slow

#: Fault and the command that is hardest to end in time.
QUORUM_CASES = (
    ("kill-electctl", "forked"),
    ("stop-electctl", "stubborn"),
    ("swallowed", "stubborn"),
    ("sigterm", "plain"),
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of its own, because a fault stops it."""
    with cluster_of("redis", tmp_path_factory.mktemp("outside") / "redis") as cluster:
        yield cluster


@pytest.fixture(scope="module", params=["etcd", "zk", "raft"])
def quorum(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Cluster]]:
    """Three members, whose links can be broken."""
    home = tmp_path_factory.mktemp("outside") / request.param
    with cluster_of(request.param, home, 3) as cluster:
        yield request.param, cluster


def play(cluster: Cluster, scheme: str, cases: Sequence[tuple[str, str]], home: Path) -> None:
    """A round of each, at the same time unless it is the store that suffers."""
    at_once = 1 if cases[0][0] in ALONE else len(cases)
    with ThreadPoolExecutor(at_once) as pool:
        jobs = [pool.submit(one_round, cluster, *case, TTL[scheme], home) for case in cases]
    for job in jobs:
        check(job.result())


def check(done: Round) -> None:
    assert done.gap > 0, done
    if done.before_end is not None and done.fault != "kill-tree":
        assert done.before_end > 0, done
    if done.fault in ENDS and done.fault != "sigterm":
        assert done.exit_code == 79, done


@pytest.mark.parametrize("fault", faults_of("redis", 1))
def test_the_first_is_gone_before_the_second_begins(
    fault: str, tmp_path: Path, redis: Cluster
) -> None:
    play(redis, "redis", [(fault, command) for command in COMMANDS], tmp_path)


def test_the_same_on_three_members(quorum: tuple[str, Cluster], tmp_path: Path) -> None:
    scheme, cluster = quorum
    play(cluster, scheme, QUORUM_CASES, tmp_path)


def test_behind_a_member_that_is_cut_off_from_its_peers(
    quorum: tuple[str, Cluster], tmp_path: Path
) -> None:
    """It goes on answering what it can by itself, as if nothing had happened."""
    scheme, cluster = quorum
    # Where followers serve nobody it is the one that leads the others.
    fault = "cut-off" if "cut-off" in faults_of(scheme, 3) else "cut-off-leader"
    play(cluster, scheme, [(fault, "forked")], tmp_path)
