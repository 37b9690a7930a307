"""Makes a failing run smaller: fewer faults and actions, the same invariant broken.

What this does not promise: the smallest. It is Zeller and Hildebrandt's delta debugging
("Simplifying and Isolating Failure-Inducing Input", 2002), cut short after some runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from electctl.simulate.plan import Plan
from electctl.simulate.run import SOUND, Outcome, Subject, run

Item = TypeVar("Item")


def shrink(outcome: Outcome, subject: Subject = SOUND, *, runs: int = 60) -> Outcome:
    """A run from a smaller plan that breaks the same invariant, with its trace."""
    left = runs

    def fails(plan: Plan) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and run(plan, subject).invariant == outcome.invariant

    plan = outcome.plan
    faults = _fewer(plan.faults, lambda kept: fails(replace(plan, faults=kept)))
    plan = replace(plan, faults=faults)
    actions = _fewer(plan.actions, lambda kept: fails(replace(plan, actions=kept)))
    return run(replace(plan, actions=actions), subject, traced=True)


def _fewer(items: tuple[Item, ...], fails: Callable[[tuple[Item, ...]], bool]) -> tuple[Item, ...]:
    size = len(items)
    while size:
        start = 0
        while start < len(items):
            fewer = items[:start] + items[start + size :]
            if fails(fewer):
                items = fewer
            else:
                start += size
        size //= 2
    return items


def report(outcome: Outcome, subject: Subject = SOUND, *, lines: int = 60) -> str:
    """The seed, what was broken, what is left of the plan, and the end of the trace."""
    small = shrink(outcome, subject)
    return "\n".join(_report(outcome, small, lines))


def _report(outcome: Outcome, small: Outcome, lines: int) -> Sequence[str]:
    faults, actions = small.plan.faults, small.plan.actions
    return [
        f"seed {outcome.plan.seed} ({outcome.plan.weather}): {outcome.violation}",
        f"shrunk: {small.violation}",
        f"left: {len(faults)} of {len(outcome.plan.faults)} faults, "
        f"{len(actions)} of {len(outcome.plan.actions)} actions",
        *(f"  {fault}" for fault in faults),
        *small.trace[-lines:],
    ]
