"""What was recorded in one round of a drill. Times are nanoseconds of CLOCK_BOOTTIME.

What this does not guarantee: that it is complete; ``trouble`` says where it is known not to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resource = Literal["unfenced", "fenced", "checkpoint"]
Verdict = Literal["safe", "fenced", "split-brain", "not_injected", "inconclusive"]
View = Literal["store", "belief", "effect"]
Break = Literal["exclusion", "token", "liveness", "checkpoint"]
Outcome = Literal["accepted", "refused", "unknown"]
MarkKind = Literal[
    "elected",
    "lost",
    "released",
    "started",
    "exited",
    "fault",
    "undone",
    "accepted",
    "refused",
    "lost_checkpoint",
]


@dataclass(frozen=True, slots=True)
class Term:
    """One leadership: whose, and under which token."""

    candidate: str
    token: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """A leadership in one view. ``until`` is None where it went on to the end of the round."""

    term: Term
    since: int
    until: int | None
    #: Whether it was seen to end then; else nothing is known from then on.
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Act:
    """One attempt to write to the ledger, taken in at ``at``; what the fenced resource said."""

    at: int
    term: Term
    accepted: bool


@dataclass(frozen=True, slots=True)
class Set:
    """One attempt to set the guarded checkpoint; ``version`` counts those of a term."""

    began: int
    ended: int
    term: Term
    version: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Read:
    """What the checkpoint held: the term and the version of a :class:`Set`; None for nothing."""

    began: int
    ended: int
    found: tuple[Term, int] | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment to be shown. ``count`` alike are drawn as one."""

    at: int
    candidate: str
    kind: MarkKind
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Injection:
    """The fault: from when to when (None: it was not undone), on whom, and what was seen of it."""

    since: int
    until: int | None
    target: str
    confirmed: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One round. ``began`` and ``ended`` bound what is judged."""

    began: int
    ended: int
    election: str
    #: The candidate that the fault was done to, or whose store was broken.
    leader: str
    injection: Injection | None
    #: Why nothing was injected, or why the record says too little; "" if neither.
    trouble: str
    #: Whether that was the fault's doing, and not a candidate's.
    not_injected: bool = False
    store: tuple[Span, ...] = ()
    belief: tuple[Span, ...] = ()
    acts: tuple[Act, ...] = ()
    sets: tuple[Set, ...] = ()
    reads: tuple[Read, ...] = ()
    marks: tuple[Mark, ...] = ()
    #: After ``ended``: from the SIGTERM of whoever led to the first act of the next, in ns.
    handover: int | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """What a scheme, or a native tool on it, gives. ``bound`` is that on fail-over, in ns."""

    #: Whether a leader is told a token.
    token: bool
    checkpoint: bool
    bound: int
