"""Histories of operations for the linearizability checker: made, broken, and tried in all orders.

Nothing here uses the models of the checker: what an object does is written down once more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from electctl.verify.linear.history import Operation

#: State and operation → the state after it; raises Impossible.
Act = Callable[[Any, Operation], Any]


class Impossible(Exception):
    """The operation cannot have had this answer in this state."""


def register(state: Any, operation: Operation) -> Any:
    """A register: nil at first."""
    match operation.kind, operation.given:
        case "read", _:
            if operation.answer != state:
                raise Impossible
            return state
        case "write", value:
            return value
        case "cas", (old, new):
            if old != state:
                raise Impossible
            return new
        case "failed cas", (old, _):
            if old == state:
                raise Impossible
            return state
    raise AssertionError(operation)


def key_of_map(state: Any, operation: Operation) -> Any:
    """One key: the empty text at first."""
    match operation.kind, operation.given:
        case "get", _:
            if operation.answer != state:
                raise Impossible
            return state
        case "put", value:
            return value
        case "append", value:
            return state + value
    raise AssertionError(operation)


def guarded(state: Any, operation: Operation) -> Any:
    """A register that takes a write only under a higher stamp."""
    stamp, value = state
    if operation.kind == "read":
        if operation.answer != value:
            raise Impossible
        return state
    if operation.given[0] <= stamp:
        raise Impossible
    return operation.given


def by_trying_all(history: Sequence[Operation], state: Any, act: Act) -> bool:
    """Every order of all answered operations and any of the others: Herlihy and Wing's definition.

    An operation may be next if none of those that are left was answered before it was called.
    """
    if all(operation.back is None for operation in history):
        return True
    for place, operation in enumerate(history):
        rest = [*history[:place], *history[place + 1 :]]
        if any(other.back is not None and other.back < operation.call for other in rest):
            continue
        if operation.back is None and operation.kind in ("read", "get"):
            continue
        try:
            after = act(state, operation)
        except Impossible:
            continue
        if by_trying_all(rest, after, act):
            return True
    return False


@dataclass(frozen=True)
class Kind:
    """How to make histories of one kind of object."""

    initial: Any
    act: Act
    #: An operation without its times, and for a read without its answer.
    draw: Callable[[random.Random, int], Operation]
    answer: Callable[[Any, Operation], Operation]


def _draw_register(rng: random.Random, number: int) -> Operation:
    match rng.choice(("read", "write", "cas")):
        case "write":
            return Operation("write", 0, 0, rng.randrange(4))
        case "cas":
            return Operation("cas", 0, 0, (rng.randrange(4), rng.randrange(4)))
    return Operation("read", 0, 0)


def _answer_register(state: Any, operation: Operation) -> Operation:
    if operation.kind == "read":
        return replace(operation, answer=state)
    if operation.kind == "cas" and operation.given[0] != state:
        return replace(operation, kind="failed cas")
    return operation


def _draw_map(rng: random.Random, number: int) -> Operation:
    kind = rng.choice(("get", "get", "get", "append", "append", "append", "put"))
    return Operation(kind, 0, 0, None if kind == "get" else f"<{number}>")


def _answer_map(state: Any, operation: Operation) -> Operation:
    return replace(operation, answer=state) if operation.kind == "get" else operation


REGISTER = Kind(None, register, _draw_register, _answer_register)
MAP = Kind("", key_of_map, _draw_map, _answer_map)


def happened(kind: Kind, seed: int, count: int, processes: int, lost: float) -> list[Operation]:
    """A history that did happen: each operation acts at one moment, on one object.

    A share of ``lost`` has no answer, and acts late or never.
    """
    rng = random.Random(seed)
    free = [rng.random() for _ in range(processes)]
    drawn: list[tuple[float, Operation]] = []
    history: list[Operation] = []
    for number in range(count):
        process = min(range(processes), key=free.__getitem__)
        call = free[process] + rng.random() / 3
        back = free[process] = call + rng.expovariate(1)
        operation = replace(kind.draw(rng, number), call=call, back=back, process=str(process))
        if rng.random() < lost and operation.kind not in ("read", "get"):
            operation = replace(operation, back=None)
            if rng.random() < 0.5:
                history.append(operation)  # never
            else:
                drawn.append((call + rng.expovariate(0.2), operation))
        else:
            drawn.append((rng.uniform(call, back), operation))
    state = kind.initial
    for _, operation in sorted(drawn, key=lambda pair: pair[0]):
        answered = kind.answer(state, operation)
        if operation.back is None and answered.kind != operation.kind:
            history.append(operation)  # it compared, and nobody learned that
            continue
        state = kind.act(state, answered)
        history.append(answered)
    return history


def register_log(history: Sequence[Operation]) -> str:
    """As Jepsen writes it; each operation by a process of its own, unless it has one."""
    names = {None: "nil"}

    def value(of: Any) -> str:
        return f"[{of[0]} {of[1]}]" if isinstance(of, tuple) else names.get(of, str(of))

    def lines(number: int, one: Operation) -> list[tuple[float, str]]:
        kind = "cas" if one.kind == "failed cas" else one.kind
        head = f"INFO  jepsen.util - {number}\t"
        found = [(one.call, f"{head}:invoke\t:{kind}\t{value(one.given)}\n")]
        if one.back is not None:
            moment = "fail" if one.kind == "failed cas" else "ok"
            said = one.answer if kind == "read" else one.given
            found.append((one.back, f"{head}:{moment}\t:{kind}\t{value(said)}\n"))
        return found

    return _in_order(history, lines)


def map_log(history: Sequence[Operation], key: str = "k") -> str:
    """As the logs of a map are written."""

    def lines(number: int, one: Operation) -> list[tuple[float, str]]:
        def line(moment: str, value: str | None) -> str:
            text = "nil" if value is None else f'"{value}"'
            return (
                f"{{:process {number}, :type :{moment}, :f :{one.kind}, "
                f':key "{key}", :value {text}}}\n'
            )

        found = [(one.call, line("invoke", one.given))]
        if one.back is not None:
            found.append((one.back, line("ok", one.answer if one.kind == "get" else one.given)))
        return found

    return _in_order(history, lines)


def _in_order(
    history: Sequence[Operation], lines: Callable[[int, Operation], list[tuple[float, str]]]
) -> str:
    found = [line for number, one in enumerate(history) for line in lines(number, one)]
    return "".join(text for _, text in sorted(found, key=lambda line: line[0]))
