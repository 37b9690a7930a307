"""The real parts survive 300 seeds of a simulated minute, and the planted bugs do not.

What this does not show: that nothing is wrong under another seed. ``benchmarks/soak.py`` goes on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from electctl.simulate.plan import Fault, make_plan
from electctl.simulate.run import run, run_seed
from electctl.simulate.shrink import report, shrink
from tests.raft.planted import BUGS, FOUND_AT

SEEDS = 300
PORTIONS = 10


@pytest.mark.slow
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_seed_breaks_an_invariant(portion: int) -> None:
    for seed in range(portion, SEEDS, PORTIONS):
        outcome = run_seed(seed)
        assert outcome.violation is None, report(outcome)
        assert outcome.steps > 600
        assert outcome.elected > 0


def test_a_seed_always_gives_the_same_run() -> None:
    first, second = (run(make_plan(4), traced=True) for _ in range(2))
    assert first == second
    assert len(first.trace) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("bug", FOUND_AT)
def test_a_planted_bug_is_found(bug: str) -> None:
    """Within ten seeds of where it was first found when this was written."""
    start = FOUND_AT[bug]
    seeds = range(start, start + 10)
    assert any(run_seed(seed, BUGS[bug]).invariant for seed in seeds), (
        f"{bug}: nothing found in seeds {start} to {start + 9}"
    )


@pytest.mark.parametrize("bug", ["renewal without (c)", "read without (c)"])
def test_a_leader_cut_off_with_a_client_shows_what_c_is_for(bug: str) -> None:
    cuts = tuple(
        Fault(at, "wedge", 8.0, pick, True) for at, pick in ((6.0, 2), (18.0, 5), (30.0, 6))
    )
    plans = [replace(make_plan(seed), servers=3, server_rates=(1.0,) * 3) for seed in range(14)]
    assert all(run(replace(plan, faults=cuts)).invariant is None for plan in plans[:3])
    assert any(run(replace(plan, faults=cuts), BUGS[bug]).invariant for plan in plans)


def test_a_failure_is_shrunk_to_a_readable_trace() -> None:
    bug = BUGS["token used again"]
    outcome = run_seed(FOUND_AT["token used again"], bug)
    assert outcome.invariant == "tokens grow"
    small = shrink(outcome, bug)
    assert small.invariant == "tokens grow"
    assert len(small.plan.faults) + len(small.plan.actions) < len(outcome.plan.faults)
    text = report(outcome, bug)
    assert text.startswith(f"seed {outcome.plan.seed}: tokens grow")
    assert text.endswith(small.trace[-1])
