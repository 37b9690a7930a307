"""Follow one election through outages.

What this does not guarantee: that every short leadership is seen where ``traits.wakeup`` is
``poll``; nor that two observers see a change at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from electctl.base import forks
from electctl.base.clock import now
from electctl.contract.backend import Backend, View
from electctl.errors import ElectctlError, OutcomeUnknown, Throttled, Unreachable

if TYPE_CHECKING:
    from electctl.contract.backend import Watch

_POLL = 1.0
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 2.0


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an election as observed. ``at`` is a reading of :func:`electctl.base.clock.now`.

    ``waiting`` is yielded when only the queue changed, or how certain it is who leads.
    ``unreachable`` carries the cause.
    """

    kind: Literal["holder", "vacant", "waiting", "unreachable", "recovered"]
    view: View
    at: float
    cause: str = ""


class Observation:
    """The changes of one election: iterate in one thread, :meth:`close` from any other."""

    def __init__(self, backend: Backend, election: str) -> None:
        self._backend = backend
        self._election = election
        self._home = forks.here()
        self._stop = threading.Event()
        self._watch: Watch | None = None

    def close(self) -> None:
        """End the iteration soon: at once where the backend's watch can be woken.

        Does nothing in a fork of the process that observes.
        """
        if self._home != forks.here():
            return
        self._stop.set()
        watch = self._watch
        if watch is not None:
            watch.close()

    def __iter__(self) -> Iterator[Change]:
        """The current state, then each change, until :meth:`close`.

        Raises Refused and UsageError; loss of contact is a change, not an error.
        """
        try:
            yield from self._changes()
        except ElectctlError:
            if not self._stop.is_set():  # what a watch says that was closed under it is no news
                raise

    def _changes(self) -> Iterator[Change]:
        seen: View | None = None
        reachable = True
        backoff = _FIRST_BACKOFF
        while not self._stop.is_set():
            patience = 0.0
            try:
                self._watch = self._backend.watch(self._election)
                while not self._stop.is_set():
                    view = self._watch.next(_POLL)
                    if view is None:
                        continue
                    backoff = _FIRST_BACKOFF
                    if not reachable:
                        reachable = True
                        yield Change("recovered", view, now())
                    yield from _compare(seen, view)
                    seen = view
            except (Unreachable, OutcomeUnknown) as error:
                patience = error.retry_after if isinstance(error, Throttled) else 0.0
                if reachable and not self._stop.is_set():
                    reachable = False
                    yield Change("unreachable", seen or View(None), now(), error.message)
            finally:
                if self._watch is not None:
                    self._watch.close()
            self._stop.wait(max(backoff, patience))
            backoff = min(backoff * 2, _MAX_BACKOFF)


def _compare(seen: View | None, view: View) -> Iterator[Change]:
    if seen is None or seen.term != view.term:
        yield Change("vacant" if view.holder is None else "holder", view, now())
    elif seen.state != view.state:
        yield Change("waiting", view, now())
