"""Does one order of a history's operations respect time and the model? No I/O, no clock.

What this does not guarantee: an answer. The problem is NP-complete (Gibbons and Korach, "Testing
Shared Memories", 1997), so a search ends where its limits are, and says so.

Sources: Herlihy and Wing, "Linearizability" (TOPLAS 1990); Wing and Gong, "Testing and Verifying
Concurrent Objects" (1993), whose search this is; Lowe, "Testing for Linearizability" (2017), for
the memory of configurations. A configuration is what has been put in order, and the state then.
What is ours makes the search smaller and loses no verdict (the tests compare with all orders):

- What only reads is put in order as soon as it fits: it is in nobody's way there.
- Of two operations that do the same, the one that was both called and answered first comes first.
- Operations of unknown outcome are used sparingly. A configuration that was reached with some of
  them is not looked at again with more, and those with the fewest are looked at first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from electctl.verify.linear.history import Operation
from electctl.verify.linear.models import NEVER, Model

#: What one configuration takes beside its state and its bits, in bytes: measured, and rounded up.
_CONFIGURATION: Final = 300
#: Configurations between two looks at the clock of the caller.
_STEP: Final = 256

#: The numbers of the operations in the order found, the last one first.
_Path = tuple[int, "_Path"] | None
Verdict = Literal["linearizable", "not_linearizable", "inconclusive"]
Limit = Literal["memory", "time"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a search gives up: at about ``memory`` bytes, or when ``enough`` says so."""

    memory: int = 500_000_000
    enough: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Found:
    """What a search comes to."""

    verdict: Verdict
    #: The longest order that was found, as numbers of operations.
    order: tuple[int, ...]
    #: The operation before whose answer every order ends; None if it is linearizable.
    stuck: int | None
    #: Configurations that were looked at.
    configurations: int
    #: The one at which it gave up.
    limit: Limit | None = None


class _Configuration(NamedTuple):
    """Of the answered ones, those before ``base`` are in order, and those whose bit is set after.

    Both count in the order of the calls, so ``beyond`` is never longer than what overlaps.
    """

    base: int
    beyond: int
    state: Any
    #: Which of those of unknown outcome have acted, as bits.
    used: int
    path: _Path


class Search:
    """One search; ``run`` it once."""

    def __init__(
        self, operations: Sequence[Operation], model: Model, limits: Limits | None = None
    ) -> None:
        self._operations = operations
        self._model = model
        self._fold = model.fold(operations)
        self._limits = limits or Limits()
        calls, backs = _ranks(operations)
        order = sorted(range(len(operations)), key=calls.__getitem__)
        self._answered = [n for n in order if operations[n].back is not None]
        # A read that nobody got the answer of says nothing.
        self._unknown = [
            n for n in order if operations[n].back is None and operations[n].kind not in model.reads
        ]
        self._calls = [calls[n] for n in self._answered]
        self._backs = [backs[n] for n in self._answered]
        self._unknown_calls = [calls[n] for n in self._unknown]
        self._twins = self._first_of_two(self._answered, backs)
        self._unknown_twins = self._first_of_two(self._unknown, backs)
        #: What of the answered ones is in order, and the state → the fewest unknown ones for that.
        self._seen: dict[tuple[int, int, Any], list[int]] = {}
        #: What is to be looked at, by the number of unknown ones that have acted.
        self._waiting: list[list[_Configuration]] = [[] for _ in range(len(self._unknown) + 1)]
        self._memory = 0
        self._furthest = (-1, -1)
        self._longest: _Path = None
        self._stuck: int | None = None

    def run(self) -> Found:
        """Look at configurations until one has all that was answered in order, or none is left."""
        looked = 0
        self._meet(_Configuration(0, 0, self._fold(self._model.initial), 0, None))
        for waiting in self._waiting:
            while waiting:
                configuration = waiting.pop()
                if configuration.used not in self._seen[configuration[:3]]:
                    continue  # meanwhile it was reached with fewer
                looked += 1
                if not self._go_on(configuration):
                    return Found("linearizable", _order(configuration.path), None, looked)
                if self._memory > self._limits.memory:
                    return self._ended("inconclusive", looked, "memory")
                if looked % _STEP == 0 and self._limits.enough():
                    return self._ended("inconclusive", looked, "time")
        return self._ended("not_linearizable", looked)

    def _ended(self, verdict: Verdict, looked: int, limit: Limit | None = None) -> Found:
        return Found(verdict, _order(self._longest), self._stuck, looked, limit)

    def _go_on(self, configuration: _Configuration) -> bool:
        """Meet all that follow it. False if there is nothing left to put in order."""
        base, beyond, state, used, path = configuration
        open_ones, first_back = self._open(base, beyond)
        if not open_ones:
            return False
        length = base + beyond.bit_count()
        if (first_back, length) > self._furthest:
            self._furthest, self._longest = (first_back, length), path
            self._stuck = next(
                self._answered[place] for place in open_ones if self._backs[place] == first_back
            )
        following: list[_Configuration] = []
        for place in open_ones:
            number, twin = self._answered[place], self._twins[place]
            if twin >= base and not beyond >> (twin - base) & 1:
                continue
            after = self._step(state, number)
            if after is NEVER:
                continue
            one_more = _Configuration(*_with(base, beyond, place), after, used, (number, path))
            if self._operations[number].kind in self._model.reads:
                self._meet(one_more)
                return True
            following.append(one_more)
        for one_more in reversed(following):  # so that the first is looked at first
            self._meet(one_more)
        for place, number in enumerate(self._unknown):
            if self._unknown_calls[place] > first_back:
                break
            twin = self._unknown_twins[place]
            if used >> place & 1 or (twin >= 0 and not used >> twin & 1):
                continue
            after = self._step(state, number)
            if after is not NEVER and after != state:
                self._meet(_Configuration(base, beyond, after, used | 1 << place, (number, path)))
        return True

    def _open(self, base: int, beyond: int) -> tuple[list[int], int]:
        """The answered ones that may come next, and when the first of them was answered."""
        found: list[int] = []
        first_back = len(self._operations) * 2
        for place in range(base, len(self._calls)):
            if self._calls[place] > first_back:
                break
            if not beyond >> (place - base) & 1:
                found.append(place)
                first_back = min(first_back, self._backs[place])
        return found, first_back

    def _step(self, state: Any, number: int) -> Any:
        operation = self._operations[number]
        after = self._model.steps[operation.kind](state, operation)
        return after if after is NEVER else self._fold(after)

    def _meet(self, configuration: _Configuration) -> None:
        """Keep it, unless it was reached with as few of the unknown ones, or fewer."""
        used = configuration.used
        others = self._seen.get(configuration[:3])
        if others is None:
            self._seen[configuration[:3]] = [used]
        elif any(other & used == other for other in others):
            return
        else:
            others[:] = [other for other in others if other & used != used]
            others.append(used)
        self._memory += (
            _CONFIGURATION
            + sys.getsizeof(configuration.state)
            + (configuration.beyond.bit_length() + used.bit_length()) // 8
        )
        self._waiting[used.bit_count()].append(configuration)

    def _first_of_two(self, numbers: Sequence[int], backs: Sequence[int]) -> list[int]:
        """For each place the one of a twin that must come before it; -1 where there is none."""
        last: dict[tuple[object, ...], int] = {}
        found: list[int] = []
        for place, number in enumerate(numbers):
            operation = self._operations[number]
            key = (operation.kind, operation.given, operation.answer)
            twin = last.get(key, -1)
            found.append(twin if twin >= 0 and backs[numbers[twin]] <= backs[number] else -1)
            last[key] = place
        return found


def _ranks(operations: Sequence[Operation]) -> tuple[list[int], list[int]]:
    """When each was called and answered, as places in the order of all that happened.

    What happens at one time overlaps: calls stand before answers.
    """
    calls, backs = [0] * len(operations), [2 * len(operations)] * len(operations)
    moments = sorted(
        moment for number, operation in enumerate(operations) for moment in _both(number, operation)
    )
    for rank, (_, is_back, number) in enumerate(moments):
        (backs if is_back else calls)[number] = rank
    return calls, backs


def _both(number: int, operation: Operation) -> Iterator[tuple[float, bool, int]]:
    yield operation.call, False, number
    if operation.back is not None:
        yield operation.back, True, number


def _with(base: int, beyond: int, place: int) -> tuple[int, int]:
    """The answered ones that are in order when ``place`` is too."""
    beyond |= 1 << (place - base)
    together = (~beyond & (beyond + 1)).bit_length() - 1
    return base + together, beyond >> together


def _order(path: _Path) -> tuple[int, ...]:
    found: list[int] = []
    while path is not None:
        number, path = path
        found.append(number)
    return tuple(reversed(found))
