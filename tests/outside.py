"""A round of the outside measurement as a test."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.outside.faults import ALL_GONE, ALONE, ENDS, PRIVILEGED
from benchmarks.outside.rounds import Round, one_round
from benchmarks.stores import TTL
from electctl.faults.fault import NotInjected
from electctl.lab.cluster import Cluster


def play(cluster: Cluster, scheme: str, cases: Sequence[tuple[str, str]], home: Path) -> None:
    """A round of each, at the same time unless it is the store that suffers."""
    at_once = 1 if cases[0][0] in ALONE else len(cases)
    with ThreadPoolExecutor(at_once) as pool:
        jobs = [pool.submit(one_round, cluster, *case, TTL[scheme], home) for case in cases]
    for job in jobs:
        try:
            check(job.result())
        except NotInjected as error:
            # What anybody may do must take hold.
            if cases[0][0] not in PRIVILEGED:
                raise
            pytest.skip(f"{cases[0][0]}: {error}")


def check(done: Round) -> None:
    assert done.gap > 0, done
    if done.before_end is not None and done.fault not in ALL_GONE:
        assert done.before_end > 0, done
    if done.fault in ENDS and done.fault != "sigterm":
        assert done.exit_code == 79, done
