"""Is this history of a guarded register linearizable? The checker of Wing and Gong.

What this does not do: finish soon on every history; the problem is NP-complete. Histories with
few operations open at once, as ours, are quick.

Sources: Herlihy and Wing, "Linearizability" (TOPLAS 1990); Wing and Gong, "Testing and Verifying
Concurrent Objects" (1993); Lowe, "Testing for Linearizability" (2017), whose memory of
configurations already seen is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """One read or write from ``call`` to ``back``, on one clock.

    ``back`` is None where no answer came: a write may then have acted at any time after its call,
    or never. ``stamp`` of a write is what the register must grow by: (token, version). A read has
    the value it returned; None for "nothing written yet".
    """

    kind: Literal["read", "write"]
    call: float
    back: float | None
    value: bytes | None
    stamp: tuple[int, int] = (0, 0)


State = tuple[tuple[int, int], bytes | None]
EMPTY: State = ((0, 0), None)


def _step(state: State, operation: Operation) -> State | None:
    """The register after the operation; None if it cannot happen in this state."""
    if operation.kind == "read":
        return state if operation.value == state[1] else None
    return (operation.stamp, operation.value) if operation.stamp > state[0] else None


def linearizable(history: Sequence[Operation]) -> bool:
    """Whether every answered operation fits into one order that respects time and the register."""
    read = {operation.value for operation in history if operation.kind == "read"}
    # A write of unknown outcome that nobody read can be left out of any order in which it stands:
    # the write after it, if there is one, needs a lower stamp at most. Many of these take for ever.
    operations = sorted(
        (o for o in history if o.back is not None or o.value in read),
        key=lambda operation: operation.call,
    )
    ends = [float("inf") if o.back is None else o.back for o in operations]
    answered = sum(1 << n for n, o in enumerate(operations) if o.back is not None)
    seen: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, EMPTY)]
    while stack:
        done, state = stack.pop()
        if done & answered == answered:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        first_end = float("inf")
        candidates: list[int] = []
        for number, operation in enumerate(operations):
            if operation.call > first_end:
                break
            if not done >> number & 1:
                candidates.append(number)
                first_end = min(first_end, ends[number])
        for number in reversed(candidates):
            if operations[number].call <= first_end:
                following = _step(state, operations[number])
                if following is not None:
                    stack.append((done | 1 << number, following))
    return False
