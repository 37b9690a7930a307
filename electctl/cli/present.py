"""How a stream of sightings is shown: a live table, lines for people, JSON lines.

What this does not guarantee: that a table shows every change; lines and JSON do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from electctl.cli import render
from electctl.clock import now, timestamp

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from electctl.cli.frame import Frame
    from electctl.observe import Change
    from electctl.watch import Sighting, Target

_TICK = 0.5


class Presenter(Protocol):
    """Shows a stream; a context manager."""

    #: Seconds after which :meth:`refresh` wants to be called although nothing changed.
    tick: float | None

    def show(self, sighting: Sighting) -> None:
        """Show one change."""

    def refresh(self) -> None:
        """Show the time that has passed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def presenter(frame: Frame, targets: Sequence[Target]) -> Presenter:
    """The one that suits the options and the terminal."""
    if frame.json:
        return _Lines(frame, _json)
    if render.is_live(frame.stdout):
        return _LiveTable(targets)
    several = len({target.url.masked() for target in targets}) > 1
    return _Lines(frame, lambda sighting: _sentence(sighting, name_backend=several))


class _Lines:
    """One line a change."""

    tick: float | None = None

    def __init__(self, frame: Frame, line: Callable[[Sighting], str]) -> None:
        self._frame = frame
        self._line = line

    def show(self, sighting: Sighting) -> None:
        self._frame.print(self._line(sighting))

    def refresh(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def _json(sighting: Sighting) -> str:
    from electctl.watch import event_of

    return event_of(sighting.target, sighting.change).as_line()


def _sentence(sighting: Sighting, *, name_backend: bool) -> str:
    target, change = sighting.target, sighting.change
    where = f" on {target.url.masked()}" if name_backend else ""
    return f"{timestamp(change.at)}  {render.shown(target.election)}{where}: {_state(change)}"


def _state(change: Change) -> str:
    if change.kind == "unreachable":
        return f"unreachable: {render.message_text(change.cause)}"
    holder = change.view.holder
    queue = f", waiting {names}" if (names := render.names(change.view.waiting)) else ""
    if holder is None:
        text = "nobody leads" + queue
    else:
        token = "" if holder.token is None else f" (token {holder.token})"
        text = f"{render.shown(render.holder_name(holder.id))} leads{token}{queue}"
    return f"recovered: {text}" if change.kind == "recovered" else text


class _LiveTable:
    """A row a target, redrawn in place; how long each state has been seen counts on."""

    tick: float | None = _TICK

    def __init__(self, targets: Sequence[Target]) -> None:
        self._rows: dict[Target, Change | None] = dict.fromkeys(targets)
        self._since: dict[Target, float] = {}
        self._live: Live | None = None

    def show(self, sighting: Sighting) -> None:
        target, change = sighting.target, sighting.change
        before = self._rows[target]
        if before is None or before.view.term != change.view.term:
            self._since[target] = change.at
        self._rows[target] = change

    def refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(self._table(), auto_refresh=False)
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        several = len({target.url.masked() for target in self._rows}) > 1
        heads = ["ELECTION", *(["BACKEND"] if several else []), "LEADER", "TOKEN", "SEEN FOR"]
        table = Table(*heads, "WAITING", "STATE", box=box.SIMPLE_HEAD)
        for target, change in self._rows.items():
            backend = [target.url.masked()] if several else []
            cells = [render.shown(target.election), *backend, *self._cells(target, change)]
            style = "dim" if change is None or change.kind == "unreachable" else ""
            table.add_row(*(Text(cell) for cell in cells), style=style)
        return table

    def _cells(self, target: Target, change: Change | None) -> list[str]:
        if change is None:
            return ["", "", "", "", "connecting"]
        holder = change.view.holder
        token = "" if holder is None or holder.token is None else str(holder.token)
        name = render.holder_name(None if holder is None else holder.id)
        state = "vacant" if holder is None else "led"
        if change.kind == "unreachable":
            # What was seen last is shown dimmed: it may no longer be so.
            state = f"unreachable: {render.message_text(change.cause)}"
        return [
            render.shown(name),
            token,
            render.seconds(now() - self._since[target]),
            render.names(change.view.waiting),
            state,
        ]
