"""Exclusion seen from outside the program, under every fault and every kind of command.

One round each; ``make outside`` plays many.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.outside import COMMANDS, FAULTS, one_round
from electctl.lab.cluster import Cluster

TTL = 2.0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_is_gone_before_the_second_begins(
    fault: str, command: str, tmp_path: Path, redis_cluster: Cluster
) -> None:
    done = one_round("redis", fault, command, TTL, tmp_path, redis_cluster)
    assert done.gap > 0, done
    if done.before_end is not None and fault != "kill-tree":
        assert done.before_end > 0, done
    if fault == "store-gone":
        assert done.exit_code == 79
