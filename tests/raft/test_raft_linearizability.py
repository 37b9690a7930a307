"""The checker of histories, on histories whose verdict is known, and against a dumb one."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.simulate.linearizability import Operation, linearizable


def write(call: float, back: float | None, value: bytes, token: int, version: int = 1) -> Operation:
    return Operation("write", call, back, value, (token, version))


def read(call: float, back: float, value: bytes | None) -> Operation:
    return Operation("read", call, back, value)


GOOD = {
    "nothing": [],
    "a read of nothing": [read(0, 1, None)],
    "one after the other": [write(0, 1, b"a", 1), read(2, 3, b"a")],
    "a read during a write may see it": [write(0, 9, b"a", 1), read(1, 2, b"a")],
    "a read during a write may not see it": [write(0, 9, b"a", 1), read(1, 2, None)],
    "an unknown write may act late": [
        write(0, None, b"a", 1),
        read(1, 2, None),
        read(50, 51, b"a"),
    ],
    "an unknown write may never act": [write(0, None, b"a", 1), read(50, 51, None)],
    "an unknown write of a deposed leader": [
        write(0, None, b"a", 1),
        write(5, 6, b"b", 2),
        read(7, 8, b"b"),
    ],
}
BAD = {
    "a read of what was never written": [read(0, 1, b"a")],
    "a stale read": [write(0, 1, b"a", 1), read(2, 3, None)],
    "the new value, then the old one": [
        write(0, 9, b"a", 1),
        read(1, 2, b"a"),
        read(3, 4, None),
    ],
    "a deposed leader's write": [write(0, 1, b"b", 2), write(2, 3, b"a", 1)],
    "an unknown write undoes a later one": [
        write(0, None, b"a", 1),
        write(5, 6, b"b", 2),
        read(7, 8, b"b"),
        read(9, 10, b"a"),
    ],
    "an earlier version comes back": [
        write(0, 1, b"a", 1, 1),
        write(2, 3, b"b", 1, 2),
        read(4, 5, b"a"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_can_have_happened(name: str) -> None:
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_have_happened(name: str) -> None:
    assert not linearizable(BAD[name])


def by_trying_all(history: list[Operation]) -> bool:
    """Every subset of the unknown writes, every order: Herlihy and Wing's definition, literally."""
    answered = [o for o in history if o.back is not None]
    unknown = [o for o in history if o.back is None]
    for mask in range(2 ** len(unknown)):
        chosen = answered + [o for n, o in enumerate(unknown) if mask >> n & 1]
        if any(legal(order) for order in permutations(chosen)):
            return True
    return False


def legal(order: tuple[Operation, ...]) -> bool:
    stamp, value = (0, 0), None
    for place, operation in enumerate(order):
        if any(o.back is not None and o.back < operation.call for o in order[place + 1 :]):
            return False
        if operation.kind == "read" and operation.value != value:
            return False
        if operation.kind == "write":
            if operation.stamp <= stamp:
                return False
            stamp, value = operation.stamp, operation.value
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    found = []
    for number in range(draw(st.integers(0, 5))):
        call = draw(st.integers(0, 12)) + number / 10
        back = call + draw(st.integers(1, 6)) + 0.05
        if draw(st.booleans()):
            value = draw(st.sampled_from([None, b"0", b"1", b"2", b"3"]))
            found.append(Operation("read", call, back, value))
        else:
            known = draw(st.booleans())
            stamp = draw(st.integers(1, 3)), number + 1
            value = str(number).encode()
            found.append(Operation("write", call, back if known else None, value, stamp))
    return found


@settings(deadline=None, max_examples=300, derandomize=True)
@given(histories())
def test_the_clever_checker_agrees_with_the_dumb_one(history: list[Operation]) -> None:
    assert linearizable(history) == by_trying_all(history)


def test_writes_that_nobody_read_cost_no_time() -> None:
    """Of 40 that may or may not have acted there are a million million subsets."""
    lost = [Operation("write", n, None, b"lost %d" % n, (1, n)) for n in range(40)]
    late = Operation("write", 50, 51, b"kept", (2, 1))
    assert linearizable([*lost, late, Operation("read", 52, 53, b"kept")])
    assert not linearizable([*lost, late, Operation("read", 52, 53, None)])
