"""What a worker thread does for a term: it may block, and posts its answer.

What this does not guarantee: an answer. The term has a limit for each of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from electctl.base.clock import now
from electctl.campaign import once, orders
from electctl.errors import ElectctlError, NotElected, Unreachable

if TYPE_CHECKING:
    from electctl.core.elector import Attempt
    from electctl.core.leadership import Leadership

Post = Callable[[orders.Event], None]


def run_attempt(attempt: Attempt, won: Callable[[Leadership], None], post: Post) -> None:
    """Wait to be elected."""
    try:
        leadership = attempt.run()
    except ElectctlError as error:
        post(orders.AttemptFailed(error))
    else:
        won(leadership)


def overdue(
    attempt: Attempt, began: float, wait: float | None, *, seen: bool
) -> ElectctlError | None:
    """What an attempt that began at ``began`` should have said by now; None if nothing yet.

    ``seen``: somebody was seen leading. A store that is silent is no contention.
    """
    waited, election = now() - began, attempt.bid.election
    if not attempt.candidacy.contacted:
        return Unreachable(
            f"the store of {election!r} has not answered within {waited:.1f} s",
            hint="does its name resolve, and does a server listen there?",
        )
    if wait is None or waited < wait:
        return None
    if seen:
        return NotElected(
            f"not elected for {election!r}: waited {wait:g} s",
            hint="electctl holders shows who leads",
        )
    return Unreachable(f"the store of {election!r} answers no more")


def ask_store(
    instruction: orders.ReadMark | orders.WriteMark | orders.Release,
    leadership: Leadership,
    key: str,
    post: Post,
) -> None:
    """Do what needs the store; ``key`` is that of ``--once``."""
    match instruction:
        case orders.ReadMark():
            try:
                post(orders.MarkRead(once.find(leadership, key)))
            except ElectctlError as error:
                post(orders.MarkRead(error=error))
        case orders.WriteMark():
            try:
                once.write(leadership, key)
                post(orders.MarkWritten())
            except ElectctlError as error:
                post(orders.MarkWritten(error))
        case orders.Release():
            leadership.release()
            post(orders.GivenBack(leadership.release_error))
        case _:
            assert_never(instruction)
