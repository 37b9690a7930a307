"""Follow one election through outages.

What this does not guarantee: that every short leadership is seen where ``traits.wakeup`` is
``poll``; nor that two observers see a change at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from electctl.backend import Backend, View
from electctl.clock import now
from electctl.errors import OutcomeUnknown, Unreachable

_POLL = 1.0
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 2.0


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an election as observed. ``at`` is a reading of :func:`electctl.clock.now`.

    ``waiting`` is yielded when only the queue changed. ``unreachable`` carries the cause.
    """

    kind: Literal["holder", "vacant", "waiting", "unreachable", "recovered"]
    view: View
    at: float
    cause: str = ""


def observe(
    backend: Backend, election: str, stop: threading.Event | None = None
) -> Iterator[Change]:
    """Yield the current state, then each change, until ``stop`` is set (checked every second).

    Raises Refused and UsageError; loss of contact is a change, not an error.
    """
    stop = stop or threading.Event()
    seen: View | None = None
    reachable = True
    backoff = _FIRST_BACKOFF
    while not stop.is_set():
        watch = None
        try:
            watch = backend.watch(election)
            while not stop.is_set():
                view = watch.next(_POLL)
                if view is not None or not reachable:
                    backoff = _FIRST_BACKOFF
                if not reachable and view is not None:
                    reachable = True
                    yield Change("recovered", view, now())
                if view is not None:
                    yield from _compare(seen, view)
                    seen = view
        except (Unreachable, OutcomeUnknown) as error:
            if reachable:
                reachable = False
                yield Change("unreachable", seen or View(None), now(), error.message)
        finally:
            if watch is not None:
                watch.close()
        stop.wait(backoff)
        backoff = min(backoff * 2, _MAX_BACKOFF)


def _compare(seen: View | None, view: View) -> Iterator[Change]:
    if seen is None or seen.term != view.term:
        yield Change("vacant" if view.holder is None else "holder", view, now())
    elif seen.waiting != view.waiting:
        yield Change("waiting", view, now())
