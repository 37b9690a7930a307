"""The real parts survive 200 seeds of a simulated minute.

What this does not show: that nothing is wrong under another seed. ``benchmarks/soak.py`` goes on.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from electctl.simulate.plan import make_plan
from electctl.simulate.run import run, run_seed
from electctl.simulate.shrink import report
from electctl.simulate.sights import Sight
from electctl.simulate.weather import WEATHERS

SEEDS = 200
PORTIONS = 10


@cache
def seen_in(portion: int) -> Counter[Sight]:
    """What the seeds of a portion have seen, none of which broke an invariant."""
    seen: Counter[Sight] = Counter()
    for seed in range(portion, SEEDS, PORTIONS):
        outcome = run_seed(seed)
        assert outcome.violation is None, report(outcome)
        assert outcome.steps > 200
        assert outcome.elected > 0
        seen.update(outcome.seen)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_seed_breaks_an_invariant(portion: int) -> None:
    assert seen_in(portion)[Sight.CRASH] > 0


@pytest.mark.slow
def test_every_kind_of_trouble_has_been_seen() -> None:
    seen = sum(map(seen_in, range(PORTIONS)), Counter())
    assert set(seen) == set(Sight)
    weathers = {make_plan(seed).weather for seed in range(SEEDS)}
    assert weathers == set(WEATHERS)


def test_a_seed_always_gives_the_same_run() -> None:
    first, second = (run(make_plan(4), traced=True) for _ in range(2))
    assert first == second
    assert len(first.trace) > 1000
