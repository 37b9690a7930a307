"""SIGKILL of real nodes: what was acknowledged stays.

What this does not show: the loss of power, or of a disk. ``python -m benchmarks.kills`` kills more.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.kills import kill_leaders


def test_no_acknowledged_checkpoint_is_lost_when_leaders_are_killed(tmp_path: Path) -> None:
    outcome = kill_leaders(tmp_path, 3)
    assert outcome.acknowledged > 0
    assert len(outcome.outages) == 3
