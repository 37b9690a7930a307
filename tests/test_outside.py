"""Exclusion seen from outside the program, under every fault and every kind of command.

One round each on Redis here, a few on three members of the others in test_outside_quorum.py;
``make outside`` plays many of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.outside.faults import faults_of
from benchmarks.outside.rounds import COMMANDS
from benchmarks.stores import cluster_of
from electctl.lab.cluster import Cluster
from tests.outside import play

pytestmark = [pytest.mark.slow, pytest.mark.quiet]

#: Thousands of processes, which no other test can be measured beside.
CROWDED = ("crowd",)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of its own, because a fault stops it."""
    with cluster_of("redis", tmp_path_factory.mktemp("outside") / "redis") as cluster:
        yield cluster


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.alone) if fault in CROWDED else fault
        for fault in faults_of("redis", 1)
    ],
)
def test_the_first_is_gone_before_the_second_begins(
    fault: str, tmp_path: Path, redis: Cluster
) -> None:
    play(redis, "redis", [(fault, command) for command in COMMANDS], tmp_path)
