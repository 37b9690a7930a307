"""Planted bugs do not survive what the real parts do (test_raft_simulation.py); and the report."""

from __future__ import annotations

import pytest

from electctl.simulate.run import Outcome, run_seed
from electctl.simulate.shrink import report, shrink
from tests.raft.planted import BUGS, SHOWN_IN

#: Of these each bug shows in one at least. In the rarest case it shows in every tenth, and the
#: search ends with the first, so no change of the simulator makes a seed go stale.
MOST = 120


def first_found(bug: str) -> Outcome:
    """The first seed in which the bug shows, in the weather that suits it."""
    for seed in range(MOST):
        outcome = run_seed(seed, BUGS[bug], SHOWN_IN.get(bug))
        if outcome.invariant is not None:
            return outcome
    raise AssertionError(f"{bug}: nothing found in {MOST} seeds")


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
