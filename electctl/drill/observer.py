"""Who leads in the store, asked of the store itself, past every fault.

What this does not guarantee: the moment of a change to less than the time between two questions,
:data:`EVERY`, and that of an answer. A store that does not answer is said to be unreachable.
"""

from __future__ import annotations

import threading
from pathlib import Path

from electctl.base.clock import now
from electctl.contract.backend import Backend, View
from electctl.contract.url import BackendURL
from electctl.core import registry
from electctl.core.observe import Change
from electctl.drill.evidence import Read, Span, Term
from electctl.drill.written import parse_value
from electctl.errors import ElectctlError
from electctl.record.events import Event
from electctl.record.history import Recorder
from electctl.record.watch import Target, event_of

#: Seconds between two questions.
EVERY = 0.015
_JOIN = 10.0


class Observer:
    """Asks in a thread of its own until it is closed; what it sees is appended to ``record``."""

    def __init__(self, url: str, election: str, record: Path) -> None:
        parsed = BackendURL.parse(url)
        self._target = Target(election, parsed)
        self._backend: Backend = registry.open_backend(parsed)
        self._recorder = Recorder(record)
        self._stop = threading.Event()
        #: What was seen last; None before the first answer, and while there is none.
        self.view: View | None = None
        self.changes: list[Change] = []
        self._mark("recording")
        self._thread = threading.Thread(target=self._run, name="drill-observer", daemon=True)
        self._thread.start()

    def _mark(self, name: str) -> None:
        url = {"url": self._target.url.masked()}
        self._recorder.write(Event(name, self._target.election, self._target.scheme, details=url))

    def _run(self) -> None:
        seen: View | None = None
        reachable = True
        while not self._stop.wait(EVERY):
            try:
                view = self._backend.view(self._target.election)
            except ElectctlError as error:
                if reachable:
                    reachable = False
                    self.view = None
                    self._tell(Change("unreachable", seen or View(None), now(), error.message))
                continue
            at = now()
            if not reachable:
                reachable = True
                self._tell(Change("recovered", view, at))
            if seen is None or seen.term != view.term:
                self._tell(Change("vacant" if view.holder is None else "holder", view, at))
            self.view = seen = view

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        self._recorder.write(event_of(self._target, change))

    def finish(self) -> Read | None:
        """Look no more; what the guarded checkpoint holds. None without one, or an answer."""
        self._stop.set()
        self._thread.join(_JOIN)
        self._mark("recorded")
        began = now()
        try:
            value = self._backend.read_checkpoint(self._target.election, "")
        except ElectctlError:
            return None
        ended = now()
        found = None if value is None else parse_value(value.decode(errors="replace"))
        return Read(int(began * 1e9), int(ended * 1e9), found)

    def close(self) -> None:
        """Free the file and the connection."""
        self._stop.set()
        self._thread.join(_JOIN)
        self._recorder.close()
        self._backend.close()


def spans_of(changes: list[Change], ended: int) -> tuple[Span, ...]:
    """Who led from when to when, up to where the store stopped answering."""
    spans: list[Span] = []
    since = 0
    term: Term | None = None
    for change in changes:
        at = int(change.at * 1e9)
        if at >= ended:
            break
        if term is not None and change.kind in ("vacant", "holder", "unreachable"):
            spans.append(Span(term, since, at, seen=change.kind != "unreachable"))
            term = None
        holder = change.view.holder
        if holder is not None and change.kind in ("holder", "recovered"):
            term, since = Term(holder.id, holder.token), at
    if term is not None:
        spans.append(Span(term, since, None))
    return tuple(spans)
