"""What the objects of a history do, one operation at a time: the models, as data.

What these do not cover: what happens between operations (a value that expires), and what two keys
share; that needs a model of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from electctl.verify.linear.history import Operation

#: What a step comes to if the operation cannot happen in that state.
NEVER: Final = object()
#: State and operation → the state after it, or NEVER.
Step = Callable[[Any, Operation], Any]
#: State → one that is the same to all operations of a history.
Fold = Callable[[Any], Hashable]


@dataclass(frozen=True, slots=True)
class Model:
    """One kind of object: how it begins, and what each kind of operation does to it.

    ``fold`` is told of a whole history, and makes one state of those that nobody in it can tell
    apart, now or later. So a search need not try in how many ways a dead end can be reached.
    """

    initial: Hashable
    #: Kind of operation → its step.
    steps: Mapping[str, Step]
    #: The kinds that never change the state.
    reads: frozenset[str]
    fold: Callable[[Sequence[Operation]], Fold]
    #: Kinds that are named after their answer → what was called.
    called: Mapping[str, str] = field(default_factory=dict)


# A register: read, write, compare and set ---------------------------------------------------------


def _read(state: Any, operation: Operation) -> Any:
    return state if operation.answer == state else NEVER


def _write(state: Any, operation: Operation) -> Any:
    return operation.given


def _cas(state: Any, operation: Operation) -> Any:
    old, new = operation.given
    return new if state == old else NEVER


def _failed_cas(state: Any, operation: Operation) -> Any:
    old, _ = operation.given
    return state if state != old else NEVER


#: No history can hold it: it is made here.
_OTHER: Final = ("a value that nobody asked for",)


def _register_fold(operations: Sequence[Operation]) -> Fold:
    told = {o.answer for o in operations if o.kind == "read"}
    told |= {o.given[0] for o in operations if o.kind in ("cas", "failed cas")}
    return lambda state: state if state in told else _OTHER


REGISTER = Model(
    None,
    {"read": _read, "write": _write, "cas": _cas, "failed cas": _failed_cas},
    frozenset(("read", "failed cas")),
    _register_fold,
    {"failed cas": "cas"},
)

# One key of a map: get, put, append ---------------------------------------------------------------


def _append(state: Any, operation: Operation) -> Any:
    return state if state is _OTHER else state + operation.given


def _map_fold(operations: Sequence[Operation]) -> Fold:
    told = sorted({str(o.answer) for o in operations if o.kind == "get"})

    def fold(state: Any) -> Hashable:
        # What is appended to stays the beginning; of all that begin so, the first follows at once.
        place = bisect_left(told, state)
        return state if place < len(told) and told[place].startswith(state) else _OTHER

    return lambda state: _OTHER if state is _OTHER else fold(state)


MAP = Model(
    "",
    {"get": _read, "put": _write, "append": _append},
    frozenset(("get",)),
    _map_fold,
)

# A register whose writes carry a stamp that must grow: (token, version) ---------------------------


def _stamped_read(state: Any, operation: Operation) -> Any:
    return state if operation.answer == state[1] else NEVER


def _stamped_write(state: Any, operation: Operation) -> Any:
    stamp, _ = operation.given
    return operation.given if stamp > state[0] else NEVER


def _guarded_fold(operations: Sequence[Operation]) -> Fold:
    told = {o.answer for o in operations if o.kind == "read"}
    return lambda state: state if state[1] in told else (state[0], _OTHER)


GUARDED = Model(
    ((0, 0), None),
    {"read": _stamped_read, "write": _stamped_write},
    frozenset(("read",)),
    _guarded_fold,
)
