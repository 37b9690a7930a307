"""What a linearizability check works on: operations, each with when it was called and answered.

What this does not guarantee: that the times are of one clock. Whoever makes the operations must
know that; in a log of one observer the numbers of the lines are such a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation from ``call`` to ``back``, on one clock; the unit does not matter.

    ``back`` is None where the outcome is unknown: it may have acted at any time after its call, or
    never. One that is known to have failed has not acted, and is in no history. What ``given`` and
    ``answer`` are for each ``kind`` is the model's affair; they can be hashed.
    """

    kind: str
    call: float
    back: float | None
    given: Any = None
    answer: Any = None
    #: Who called, for people.
    process: str = ""
