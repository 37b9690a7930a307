"""The search for an order: against all orders, on histories that happened, on ones that did not."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.verify.linear.history import Operation
from electctl.verify.linear.judge import explain
from electctl.verify.linear.logs import read_map, read_register
from electctl.verify.linear.models import GUARDED, MAP, REGISTER, Model
from electctl.verify.linear.search import Limits, Search
from tests import operations as made


@dataclass(frozen=True)
class Subject:
    """A model, and what it is held against."""

    model: Model
    initial: Any
    act: made.Act
    operation: Callable[[st.DrawFn, int], Operation]


def _register(draw: st.DrawFn, number: int) -> Operation:
    value = st.integers(0, 2)
    match draw(st.sampled_from(("read", "read", "write", "cas", "failed cas"))):
        case "read":
            return Operation("read", 0, 0, None, draw(st.none() | value))
        case "write":
            return Operation("write", 0, 0, draw(value))
        case kind:
            return Operation(kind, 0, 0, (draw(value), draw(value)))


def _key(draw: st.DrawFn, number: int) -> Operation:
    match draw(st.sampled_from(("get", "get", "put", "append", "append"))):
        case "get":
            return Operation("get", 0, 0, None, draw(st.sampled_from(("", "a", "b", "ab", "aba"))))
        case kind:
            return Operation(kind, 0, 0, draw(st.sampled_from(("a", "b", "ab", ""))))


def _guarded(draw: st.DrawFn, number: int) -> Operation:
    if draw(st.booleans()):
        return Operation("read", 0, 0, None, draw(st.sampled_from((None, b"0", b"1", b"2", b"3"))))
    stamp = (draw(st.integers(1, 3)), number + 1)
    return Operation("write", 0, 0, (stamp, str(number).encode()))


SUBJECTS = {
    "register": Subject(REGISTER, None, made.register, _register),
    "map": Subject(MAP, "", made.key_of_map, _key),
    "guarded": Subject(GUARDED, ((0, 0), None), made.guarded, _guarded),
}


@st.composite
def histories(draw: st.DrawFn, subject: Subject, most: int = 6) -> list[Operation]:
    found = []
    for number in range(draw(st.integers(0, most))):
        operation = subject.operation(draw, number)
        call = draw(st.integers(0, 10))
        back: int | None = call + draw(st.integers(0, 6))  # at one time: they overlap
        if operation.kind != "failed cas" and draw(st.integers(0, 3)) == 0:
            back = None
        if back is None and operation.kind in ("read", "get"):
            operation = replace(operation, answer=None)
        found.append(replace(operation, call=call, back=back))
    return found


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_clever_search_agrees_with_all_orders(name: str) -> None:
    subject = SUBJECTS[name]
    verdicts: Counter[bool] = Counter()

    @settings(deadline=None, max_examples=1000, derandomize=True, database=None)
    @given(histories(subject))
    def agrees(history: list[Operation]) -> None:
        expected = made.by_trying_all(history, subject.initial, subject.act)
        verdicts[expected] += 1
        found = Search(history, subject.model).run()
        assert found.verdict == ("linearizable" if expected else "not_linearizable")
        respects(subject, history, found.order, complete=expected)

    agrees()
    assert min(verdicts[True], verdicts[False]) > 200, verdicts


def respects(
    subject: Subject, history: Sequence[Operation], order: Sequence[int], *, complete: bool
) -> None:
    """An order that is shown is one: no operation twice, in time, and possible one by one."""
    assert len(set(order)) == len(order)
    left = set(range(len(history))) - set(order)
    state = subject.initial
    for place, number in enumerate(order):
        later = [history[other] for other in (*order[place + 1 :], *left)]
        assert not any(o.back is not None and o.back < history[number].call for o in later)
        state = subject.act(state, history[number])
    if complete:
        assert all(history[number].back is None for number in left)


def until(history: Sequence[Operation], moment: float) -> list[Operation]:
    """What was known then; what an open operation would answer was not."""
    return [
        o
        if o.back is not None and o.back <= moment
        else replace(o, back=None, answer=None, kind="cas" if "cas" in o.kind else o.kind)
        for o in history
        if o.call <= moment
    ]


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_prefix_that_is_explained_is_the_shortest(name: str) -> None:
    subject = SUBJECTS[name]

    @settings(deadline=None, max_examples=500, derandomize=True, database=None)
    @given(histories(subject))
    def shortest(history: list[Operation]) -> None:
        found = Search(history, subject.model).run()
        if found.stuck is None:
            return
        ends = history[found.stuck].back
        assert ends is not None
        violation = explain("", history, ends, subject.model, Limits())
        backs = sorted({o.back for o in history if o.back is not None})
        expected = next(
            moment
            for moment in backs
            if not made.by_trying_all(until(history, moment), subject.initial, subject.act)
        )
        assert violation.shortest
        assert violation.until == expected
        assert ends <= (violation.operation.back or 0) <= expected
        state = subject.initial
        for operation, after in violation.order:
            state = subject.act(state, operation)
            assert state == after
        assert state == violation.state

    shortest()


def test_the_answer_that_rules_out_what_could_have_been_ends_the_prefix() -> None:
    history = [
        Operation("write", 1, 2, 0),
        Operation("failed cas", 3, 10, (0, 1)),
        Operation("read", 4, 5, None, 1),
        Operation("read", 6, 7, None, 0),
        Operation("write", 8, 9, 5),
    ]
    # Until 7 nothing could be said of the first read alone, but the second is after it.
    assert explain("", history, 5, REGISTER, Limits()).until == 7
    del history[3]
    violation = explain("", history, 5, REGISTER, Limits())
    assert (violation.until, violation.operation.back) == (10, 5)
    assert [o.kind for o, _ in violation.order] == ["write"]


# Histories that happened --------------------------------------------------------------------------

KINDS = {"register": (REGISTER, made.REGISTER), "map": (MAP, made.MAP)}
SHAPES = [(60, 3, 0.0), (60, 5, 0.15), (80, 8, 0.1), (200, 5, 0.03)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", KINDS)
def test_what_happened_is_never_refused(name: str, shape: tuple[int, int, float]) -> None:
    model, kind = KINDS[name]
    for seed in range(25):
        history = made.happened(kind, seed, *shape)
        assert Search(history, model).run().verdict == "linearizable", seed


@pytest.mark.parametrize("name", KINDS)
def test_a_read_of_what_was_never_written_is_refused(name: str) -> None:
    model, kind = KINDS[name]
    for seed in range(25):
        history = made.happened(kind, seed, 60, 5, 0.1)
        place, read = [(n, o) for n, o in enumerate(history) if o.kind in ("read", "get")][-1]
        history[place] = replace(read, answer="<never>" if name == "map" else 9)
        found = Search(history, model).run()
        assert found.verdict == "not_linearizable", seed
        assert found.stuck == place


def test_a_lost_append_is_refused() -> None:
    """It was answered, and a later get does not have it, though no put came between."""
    refused = 0
    for seed in range(60):
        history = made.happened(made.MAP, seed, 40, 4, 0.0)
        last_put = max((o.back or 0 for o in history if o.kind == "put"), default=0)
        lost = [o for o in history if o.kind == "append" and o.call > last_put]
        gone = next(
            (o for o in lost if any(g.kind == "get" and g.call > (o.back or 0) for g in history)),
            None,
        )
        if gone is None:
            continue
        text = str(gone.given)
        broken = [
            replace(o, answer=o.answer.replace(text, "")) if o.kind == "get" else o for o in history
        ]
        assert Search(broken, MAP).run().verdict == "not_linearizable", seed
        refused += 1
    assert refused > 10


def test_a_lost_update_is_refused() -> None:
    """Two compare and sets from the same value, both answered with yes."""
    both = [
        Operation("write", 1, 2, 0),
        Operation("cas", 3, 6, (0, 1)),
        Operation("cas", 4, 5, (0, 2)),
    ]
    assert Search(both, REGISTER).run().verdict == "not_linearizable"
    assert Search([*both, Operation("write", 3, None, 0)], REGISTER).run().verdict == "linearizable"


def test_long_logs_of_one_key() -> None:
    for seed in range(10):
        history = made.happened(made.MAP, seed, 150, 5, 0.0)
        assert Search(history, MAP).run().verdict == "linearizable"
        place = next(n for n in reversed(range(150)) if history[n].kind == "get")
        history[place] = replace(history[place], answer=f"{history[place].answer}<gone>")
        assert Search(history, MAP).run().verdict == "not_linearizable"


# The guarded register -----------------------------------------------------------------------------


def write(call: float, back: float | None, value: bytes, token: int, version: int = 1) -> Operation:
    return Operation("write", call, back, ((token, version), value))


def read(call: float, back: float, value: bytes | None) -> Operation:
    return Operation("read", call, back, None, value)


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
    "two writes of one version": [write(0, 1, b"a", 1), write(2, 3, b"b", 1)],
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
    assert Search(GOOD[name], GUARDED).run().verdict == "linearizable"


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_have_happened(name: str) -> None:
    assert Search(BAD[name], GUARDED).run().verdict == "not_linearizable"


# What it takes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"kept", None])
def test_writes_that_nobody_read_cost_little(value: bytes | None) -> None:
    """Of 40 that may or may not have acted there are a million million subsets."""
    lost = [write(n, None, b"lost %d" % n, 1, n) for n in range(1, 41)]
    history = [*lost, write(50, 51, b"kept", 2), read(52, 53, value)]
    found = Search(history, GUARDED).run()
    assert found.verdict == ("linearizable" if value else "not_linearizable")
    assert found.configurations < 3000


def test_equal_writes_of_unknown_outcome_cost_little() -> None:
    """Which of 30 equal ones has acted makes no difference, only how many."""
    lost = [Operation("write", n, None, 1) for n in range(30)]
    history = list(lost)
    for n in range(10):
        history += [Operation("write", 100 + 4 * n, 101 + 4 * n, 2)]
        history += [Operation("read", 102 + 4 * n, 103 + 4 * n, None, 1)]
    found = Search([*history, Operation("read", 200, 201, None, 3)], REGISTER).run()
    assert found.verdict == "not_linearizable"
    assert found.configurations < 500


def test_a_history_of_many_operations_is_walked_in_linear_memory() -> None:
    history = [Operation("write", 2 * n, 2 * n + 3, n % 7) for n in range(20_000)]
    found = Search(history, REGISTER).run()
    assert found.verdict == "linearizable"
    assert found.configurations <= 40_000


def hard(count: int) -> list[Operation]:
    """``count`` writes at once, of which each prefix of reads may choose anew: 2 ** count ways."""
    return [
        *(Operation("write", n / 1000, 100, n) for n in range(count)),
        *(Operation("read", 200 + n, 200.5 + n, None, n) for n in range(count)),
    ]


def test_at_the_limit_of_memory_it_says_so_and_has_not_taken_more() -> None:
    tracemalloc.start()
    try:
        found = Search(hard(24), REGISTER, Limits(memory=5_000_000)).run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.verdict, found.limit) == ("inconclusive", "memory")
    assert 1_000_000 < peak < 6_000_000


def test_long_states_count_for_what_they_take() -> None:
    big = "x" * 100_000
    history = [Operation("append", n / 100, 100, f"{n}{big}") for n in range(6)]
    whole = "".join(str(o.given) for o in history)
    history.append(Operation("get", 200, 201, None, whole))
    found = Search(history, MAP, Limits(memory=1_000_000)).run()
    assert (found.verdict, found.limit) == ("inconclusive", "memory")
    assert Search(history, MAP, Limits(memory=50_000_000)).run().verdict == "linearizable"


def test_it_ends_when_it_is_told_to() -> None:
    asked = 0

    def enough() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    found = Search(hard(24), REGISTER, Limits(enough=enough)).run()
    assert (found.verdict, found.limit) == ("inconclusive", "time")
    assert asked == 3
    assert found.order, "what was found until then is told"


def test_what_is_written_as_a_log_is_read_as_it_was() -> None:
    for seed in range(5):
        history = made.happened(made.REGISTER, seed, 40, 4, 0.1)
        log = read_register(made.register_log(history).splitlines(), "log")
        assert Counter(_outline(o) for o in log.histories[""]) == Counter(map(_outline, history))
        history = made.happened(made.MAP, seed, 40, 4, 0.1)
        log = read_map(made.map_log(history).splitlines(), "log")
        assert Counter(_outline(o) for o in log.histories["k"]) == Counter(map(_outline, history))


def _outline(operation: Operation) -> tuple[Any, ...]:
    return (operation.kind, operation.given, operation.answer, operation.back is None)
