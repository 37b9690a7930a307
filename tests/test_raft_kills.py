"""SIGKILL of real nodes: what was acknowledged stays, and so does who leads.

What this does not show: the loss of power, or of a disk. ``python -m benchmarks.kills`` kills more.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.kills import kill_leaders
from electctl import connect
from electctl.testing.cases.ensemble import goes_on
from electctl_raft.lab import RaftCluster


def test_no_acknowledged_checkpoint_is_lost_when_leaders_are_killed(tmp_path: Path) -> None:
    outcome = kill_leaders(tmp_path, 3)
    assert outcome.acknowledged > 0
    assert len(outcome.outages) == 3


def test_a_leadership_of_five_seconds_lives_through_the_kill_of_each_node(tmp_path: Path) -> None:
    with (
        RaftCluster(tmp_path, 3) as cluster,
        connect(cluster.url) as elector,
        elector.campaign("steady", ttl=5.0, wait=30.0) as leadership,
    ):
        for server in cluster.servers:
            server.kill()
            goes_on(leadership)
            server.start()
            cluster.settle()
        goes_on(leadership)
