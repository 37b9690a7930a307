"""Planted bugs do not survive what the real parts do (test_raft_simulation.py); and the report."""

from __future__ import annotations

import re

import pytest

from electctl.simulate.run import Outcome, run_seed
from electctl.simulate.shrink import report
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


@pytest.mark.slow
def test_a_failure_is_shrunk_to_a_readable_trace() -> None:
    bug = BUGS["token used again"]
    outcome = first_found("token used again")
    assert outcome.invariant == "tokens grow"
    text = report(outcome, bug)
    plan = outcome.plan
    assert text.startswith(f"seed {plan.seed} ({plan.weather}): tokens grow")
    _, shrunk, left, *trace = text.splitlines()
    assert shrunk.startswith("shrunk: tokens grow")
    kept = re.fullmatch(r"left: (\d+) of (\d+) faults, (\d+) of (\d+) actions", left)
    assert kept is not None
    faults, of_faults, actions, of_actions = map(int, kept.groups())
    assert (of_faults, of_actions) == (len(plan.faults), len(plan.actions))
    assert faults + actions < of_faults
    assert len(trace) > faults
