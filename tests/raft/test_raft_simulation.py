"""The real parts survive 300 seeds of a simulated minute, and the planted bugs do not.

What this does not show: that nothing is wrong under another seed. ``benchmarks/soak.py`` goes on.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from electctl.simulate.plan import make_plan
from electctl.simulate.run import Outcome, run, run_seed
from electctl.simulate.shrink import report, shrink
from electctl.simulate.sights import Sight
from electctl.simulate.weather import WEATHERS
from tests.raft.planted import BUGS, SHOWN_IN

SEEDS = 300
PORTIONS = 10
#: Of these each bug shows in one at least. In the rarest case it shows in every tenth, and the
#: search ends with the first, so no change of the simulator makes a seed go stale.
MOST = 120


@cache
def seen_in(portion: int) -> Counter[Sight]:
    """What the seeds of a portion have seen, none of which broke an invariant."""
    seen: Counter[Sight] = Counter()
    for seed in range(portion, SEEDS, PORTIONS):
        outcome = run_seed(seed)
        assert outcome.violation is None, report(outcome)
        assert outcome.steps > 600
        assert outcome.elected > 0
        seen.update(outcome.seen)
    return seen


def first_found(bug: str) -> Outcome:
    """The first seed in which the bug shows, in the weather that suits it."""
    for seed in range(MOST):
        outcome = run_seed(seed, BUGS[bug], SHOWN_IN.get(bug))
        if outcome.invariant is not None:
            return outcome
    raise AssertionError(f"{bug}: nothing found in {MOST} seeds")


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


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert first_found(bug).violation is not None


def test_a_failure_is_shrunk_to_a_readable_trace() -> None:
    bug = BUGS["token used again"]
    outcome = first_found("token used again")
    assert outcome.invariant == "tokens grow"
    small = shrink(outcome, bug)
    assert small.invariant == "tokens grow"
    assert len(small.plan.faults) + len(small.plan.actions) < len(outcome.plan.faults)
    text = report(outcome, bug)
    plan = outcome.plan
    assert text.startswith(f"seed {plan.seed} ({plan.weather}): tokens grow")
    assert text.endswith(small.trace[-1])
