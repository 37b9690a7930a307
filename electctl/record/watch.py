"""Several elections on several backends at once: a thread each, one stream, and its events.

What this does not guarantee: an order between changes of different elections, nor more than
:mod:`electctl.core.observe` does for each of them.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl.base.clock import now
from electctl.core.observe import Change, Observation
from electctl.errors import Unreachable
from electctl.record.events import Event

if TYPE_CHECKING:
    from electctl.contract.backend import Backend
    from electctl.contract.url import BackendURL

#: Seconds within which one of the backends must answer for the first time.
CONTACT_LIMIT = 10.0
_JOIN = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """One election on one backend."""

    election: str
    url: BackendURL

    @property
    def scheme(self) -> str:
        """The backend's URL scheme."""
        return self.url.scheme


@dataclass(frozen=True, slots=True)
class Sighting:
    """One change of one target."""

    target: Target
    change: Change


def event_of(target: Target, change: Change) -> Event:
    """The event of a change, as ``electctl/schemas/watch-event.schema.json`` describes it.

    ``holder`` is None when vacant and also while unreachable, when nobody can know.
    """
    details: dict[str, object] = {"url": target.url.masked()}
    holder = change.view.holder
    if change.kind == "unreachable":
        holder = None
        details["cause"] = change.cause
    else:
        details["waiting"] = list(change.view.waiting)
        if not change.view.certain:
            details |= {"certain": False, "doubt": change.view.doubt}
    if holder is not None:
        details |= {
            "since": holder.since,
            "ttl": holder.ttl,
            "expires_in": holder.expires_in,
        }
    return Event(
        change.kind,
        target.election,
        target.scheme,
        None if holder is None else holder.id,
        None if holder is None else holder.token,
        details,
        round(change.at * 1e9),
    )


def look(target: Target, backend: Backend) -> Change:
    """What one look at an election shows. Loss of contact is raised, not returned."""
    view = backend.view(target.election)
    return Change("vacant" if view.holder is None else "holder", view, now())


class Watcher:
    """Follows every target until it is closed; a context manager.

    ``backends`` must be open and are not closed here. The first contact has to be made with one
    of them within the smaller of ``limit`` seconds and 10 s.
    """

    def __init__(
        self, targets: Sequence[tuple[Target, Backend]], *, limit: float | None = None
    ) -> None:
        self._queue: queue.SimpleQueue[Sighting | BaseException | None] = queue.SimpleQueue()
        self._observations = [Observation(b, target.election) for target, b in targets]
        self._contact_by: float | None = now() + min(
            CONTACT_LIMIT, CONTACT_LIMIT if limit is None else limit
        )
        self._cause = "no answer"
        self._threads = [
            threading.Thread(
                target=self._follow, args=(target, seen), name="electctl-watch", daemon=True
            )
            for (target, _), seen in zip(targets, self._observations, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def next(self, timeout: float | None) -> Sighting | None:
        """The next change; None if there is none for ``timeout`` seconds (None: wait for ever), or
        after :meth:`wake`.

        Raises Unreachable if no backend answered in time, and what :class:`Observation` raises.
        """
        deadline = None if timeout is None else now() + timeout
        while True:
            until = min((t for t in (deadline, self._contact_by) if t is not None), default=None)
            try:
                item = self._queue.get(timeout=None if until is None else max(0.0, until - now()))
            except queue.Empty:
                if self._contact_by is not None and now() >= self._contact_by:
                    raise Unreachable(
                        f"no contact with any backend: {self._cause}",
                        hint="is the server running, and the URL right?",
                    ) from None
                if deadline is not None and now() >= deadline:
                    return None
                continue
            if item is None:
                return None
            if isinstance(item, BaseException):
                raise item
            if item.change.kind == "unreachable":
                self._cause = item.change.cause
            else:
                self._contact_by = None
            return item

    def wake(self) -> None:
        """Make :meth:`next` return None soon. May be called from a signal handler."""
        self._queue.put(None)

    def close(self) -> None:
        """Stop watching. A thread that hangs in its client library is left behind."""
        for observation in self._observations:
            observation.close()
        deadline = now() + _JOIN
        for thread in self._threads:
            thread.join(max(0.0, deadline - now()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _follow(self, target: Target, observation: Observation) -> None:
        # Signals belong to the main thread: one that comes to another interrupts no call there.
        # Threads that a client library starts from here inherit this.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for change in observation:
                self._queue.put(Sighting(target, change))
        except BaseException as error:  # noqa: BLE001
            # Raised again where the stream is read: a thread that dies alone would look like calm.
            self._queue.put(error)
