"""The verdict on a log, key by key, and why a history is not linearizable. No I/O, no clock.

Each key of a map is judged alone: linearizability is local (Herlihy and Wing 1990, theorem 1).

What this does not guarantee: the longest order that exists; it is the longest that was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from electctl.errors import InternalError
from electctl.verify.linear.history import Operation
from electctl.verify.linear.logs import Log
from electctl.verify.linear.models import Model
from electctl.verify.linear.search import Found, Limit, Limits, Search, Verdict


@dataclass(frozen=True, slots=True)
class Violation:
    """Why the operations on one key cannot have happened."""

    #: "" for a register.
    key: str
    #: Up to when it is: at the answer to ``operation``, or at one that rules out what else there
    #: could have been.
    until: float
    #: Whether it is sure that everything up to ``until`` but without it can have been, and that
    #: everything with it cannot; else a limit was reached on the way, and it may be less.
    shortest: bool
    #: The one that cannot be put in order.
    operation: Operation
    #: The longest order of the others that was found, each with the state after it.
    order: tuple[tuple[Operation, Any], ...]
    #: The state at its end.
    state: Any
    #: The others that were called until then, and are not in that order.
    left: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a log comes to."""

    verdict: Verdict
    lines: int
    operations: int
    keys: int
    #: Configurations that were looked at, over all keys.
    configurations: int
    #: The one that shows first, of the keys in ``violated``.
    violation: Violation | None = None
    violated: tuple[str, ...] = ()
    #: Where it gave up, and the keys that have no verdict for it.
    limit: Limit | None = None
    undecided: tuple[str, ...] = ()


def judge(log: Log, model: Model, limits: Limits) -> Judgement:
    """Search each key; of those that are not linearizable explain the one that shows first."""
    found = {key: Search(history, model, limits).run() for key, history in log.histories.items()}
    violated = {
        key: ends
        for key, one in found.items()
        if (ends := _ends(log.histories[key], one)) is not None
    }
    undecided = {key: one.limit for key, one in found.items() if one.limit is not None}
    violation = None
    if violated:
        first = min(violated, key=violated.__getitem__)
        violation = explain(first, log.histories[first], violated[first], model, limits)
    return Judgement(
        "not_linearizable" if violated else "inconclusive" if undecided else "linearizable",
        log.lines,
        log.operations,
        len(log.histories),
        sum(one.configurations for one in found.values()),
        violation,
        tuple(violated),
        next(iter(undecided.values()), None),
        tuple(undecided),
    )


def _ends(history: Sequence[Operation], found: Found) -> float | None:
    """When every order has ended, if that is why there is none."""
    if found.verdict != "not_linearizable" or found.stuck is None:
        return None
    return history[found.stuck].back


def explain(
    key: str, history: Sequence[Operation], ends: float, model: Model, limits: Limits
) -> Violation:
    """Where a history that is not linearizable stops being so: at ``ends``, or later.

    Later only where an operation that is open at ``ends`` has an answer that rules out what it
    could have done till then.
    """
    for until in sorted(o.back for o in history if o.back is not None and o.back >= ends):
        before = _before(history, until, model)
        found = Search(before, model, limits).run()
        if found.stuck is not None:
            return _violation(key, until, before, found, model)
    raise InternalError(f"the history of {key!r} is linearizable up to each of its answers")


def _before(history: Sequence[Operation], until: float, model: Model) -> list[Operation]:
    """What was known at ``until``: an operation that was open then may or may not have acted."""
    return [
        operation
        if operation.back is not None and operation.back <= until
        else replace(
            operation,
            back=None,
            answer=None,
            kind=model.called.get(operation.kind, operation.kind),
        )
        for operation in history
        if operation.call <= until
    ]


def _violation(
    key: str, until: float, history: Sequence[Operation], found: Found, model: Model
) -> Violation:
    assert found.stuck is not None
    state: Any = model.initial
    order: list[tuple[Operation, Any]] = []
    for number in found.order:
        state = model.steps[history[number].kind](state, history[number])
        order.append((history[number], state))
    placed = {found.stuck, *found.order}
    left = [
        operation
        for number, operation in enumerate(history)
        if number not in placed and not (operation.back is None and operation.kind in model.reads)
    ]
    return Violation(
        key,
        until,
        found.verdict == "not_linearizable",
        history[found.stuck],
        tuple(order),
        state,
        tuple(left),
    )
