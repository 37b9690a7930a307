"""The live table of ``electctl watch``: a row a target, on the terminal's other screen.

On the other screen because a terminal that is made narrower wraps old lines, and what was wrapped
cannot be drawn over. When watching ends, the last table is printed where the command was typed.
What the terminal is asked for, and given back, is in :mod:`electctl.cli.screen`.

What this does not guarantee: that a table shows every change; lines and JSON do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl.base.clock import now
from electctl.cli import render

if TYPE_CHECKING:
    from rich.console import Console, Group

    from electctl.cli.screen import Screen
    from electctl.core.observe import Change
    from electctl.record.watch import Sighting, Target

_TICK = 0.5
#: Columns that a narrow terminal does without, the first one first.
_SPARE = ("WAITING", "SEEN FOR", "BACKEND", "TOKEN")
#: Characters that these columns are cut to before another one is given up.
_SHORTEST = {"ELECTION": 16, "BACKEND": 24, "LEADER": 16, "WAITING": 16}
#: Between columns, and at the edges, as rich draws them.
_GAP = 3


@dataclass
class _Row:
    """What is known of a target. Times are of :func:`electctl.base.clock.now`."""

    change: Change | None = None
    #: What was seen when there was contact.
    last: Change | None = None
    #: When the leader, or that there is none, was first seen; when contact was lost.
    since: float = 0.0
    lost: float = 0.0

    @property
    def silent(self) -> bool:
        """Whether nobody can know who leads."""
        return self.change is None or self.change.kind == "unreachable"


class LiveTable:
    """A row a target, redrawn in place; how long each state has been seen counts on."""

    tick: float | None = _TICK

    def __init__(self, targets: Sequence[Target], screen: Screen | None = None) -> None:
        self._rows = {target: _Row() for target in targets}
        self._several = len({target.url.masked() for target in targets}) > 1
        self._screen = screen
        self._console: Console | None = None

    def show(self, sighting: Sighting) -> None:
        """Take in one change."""
        row, change = self._rows[sighting.target], sighting.change
        if change.kind == "unreachable":
            row.lost = change.at
        else:
            if row.last is None or row.last.view.term != change.view.term:
                row.since = change.at
            row.last = change
        row.change = change

    def refresh(self) -> bool:
        """Draw it again: time has passed, or the window has changed. False once q was typed."""
        if self._screen is None or self._console is None:
            return True
        goes_on = self._screen.attend()
        with self._console.capture() as drawn:
            self._console.print(self.drawn(self._console))
        self._screen.draw(drawn.get().splitlines()[: self._console.height])
        return goes_on

    def __enter__(self) -> Self:
        from rich.console import Console

        if self._screen is not None:
            self._console = Console()
            self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._screen is not None and self._console is not None:
            self._screen.__exit__(kind, error, trace)
            with suppress(OSError):  # the terminal itself has gone
                self._console.print(self.drawn(self._console, height=None))

    def drawn(self, console: Console, height: int | None = 0) -> Group:
        """The table, and below it why there is no contact. ``height`` None: however long."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows = [self._cells(target, row) for target, row in self._rows.items()]
        notes = self._notes()
        # Around the rows there are the heads, three lines, and the notes, mostly of two lines.
        room = len(rows) if height is None else max(1, console.height - 5 - 2 * len(notes))
        table = Table(box=box.SIMPLE_HEAD)
        widths = _widths(rows, console.width)
        for head, width in widths.items():
            table.add_column(head, no_wrap=True, overflow="ellipsis", width=width)
        for row, cells in list(zip(self._rows.values(), rows, strict=True))[:room]:
            style = "dim" if row.silent else ""
            table.add_row(*(Text(cells[head]) for head in widths), style=style)
        if len(rows) > room:
            notes.insert(0, f"and {len(rows) - room} more: this window is too low")
        return Group(table, *(Text(f"  {note}") for note in notes))

    def _cells(self, target: Target, row: _Row) -> dict[str, str]:
        leader = token = since = waiting = ""
        if row.change is None:
            leader = "(connecting)"
        elif row.silent:
            leader = "(unknown)"
            if row.last is not None and row.last.view.holder is not None:
                leader = f"(was {render.shown(render.holder_name(row.last.view.holder.id))})"
            since = render.seconds(now() - row.lost)
        else:
            holder = row.change.view.holder
            leader = render.shown(render.holder_name(None if holder is None else holder.id))
            leader += render.doubt(row.change.view)
            token = "" if holder is None or holder.token is None else str(holder.token)
            since = render.seconds(now() - row.since)
            waiting = render.names(row.change.view.waiting)
        return {
            "ELECTION": render.shown(target.election),
            "BACKEND": target.url.masked() if self._several else "",
            "LEADER": leader,
            "TOKEN": token,
            "SEEN FOR": since,
            "WAITING": waiting,
        }

    def _notes(self) -> list[str]:
        """Why targets are silent; one line a cause."""
        causes: dict[str, list[str]] = {}
        for target, row in self._rows.items():
            if row.change is not None and row.silent:
                causes.setdefault(row.change.cause, []).append(render.shown(target.election))
        return [
            f"{', '.join(dict.fromkeys(names))}: unreachable: {render.message_text(cause)}"
            for cause, names in causes.items()
        ]


def _widths(rows: Sequence[dict[str, str]], width: int) -> dict[str, int]:
    """Which columns fit into a terminal of that width, and how wide each may be."""
    longest = {head: max(len(head), *(len(cells[head]) for cells in rows)) for head in rows[0]}
    if not any(cells["BACKEND"] for cells in rows):
        del longest["BACKEND"]
    shortest = {head: min(chars, _SHORTEST.get(head, chars)) for head, chars in longest.items()}
    for spare in _SPARE:
        if sum(shortest.values()) + _GAP * len(shortest) < width:
            break
        shortest.pop(spare, None)
    left = max(0, width - 1 - sum(shortest.values()) - _GAP * len(shortest))
    widths = {}
    for head, chars in shortest.items():
        more = min(left, longest[head] - chars)
        widths[head] = chars + more
        left -= more
    return widths
