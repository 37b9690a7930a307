"""SIGKILL and SIGTERM of real nodes: what was acknowledged stays.

What this does not show: the loss of power, or of a disk. ``python -m benchmarks.kills`` kills more.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.kills import kill_leaders


def test_no_acknowledged_checkpoint_is_lost_when_leaders_are_killed(tmp_path: Path) -> None:
    outcome = kill_leaders(tmp_path, 3)
    assert outcome.acknowledged > 0
    assert len(outcome.outages) == 3


def test_a_leader_that_is_told_to_stop_hands_over_first(tmp_path: Path) -> None:
    """Nobody waits for an election time-out, which is 0.5 s at least."""
    outcome = kill_leaders(tmp_path, 5, stop=True)
    assert outcome.lost == 0
    assert statistics.median(outcome.waits) < 0.4
