"""A result as text: its lanes, drawn for a terminal. Pure.

What this does not guarantee: the right proportions of what is far shorter than the rest; it is
drawn one column wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NARROWEST = 20
_WIDEST = 80
_VIEWS = ("store", "belief", "effect")


def timeline(result: Mapping[str, Any], width: int) -> str:
    """At most ``width`` columns where that is possible.

    ``=`` leads, ``#`` while another one does in that view, ``>`` a leadership that goes on, ``x``
    the fault while it lasts; so it needs no colour.
    """
    length = max(1, result["length"])
    rows = [(view, *row) for view in _VIEWS for row in _rows(result["lanes"][view], length)]
    label = max((len(row[1]) for row in rows), default=0)
    room = max(_NARROWEST, min(_WIDEST, width - label - 12))
    drawn = []
    shown = ""
    for view, name, spans, both in rows:
        head = "" if view == shown else view
        shown = view
        cells = _cells(spans, both, length, room)
        drawn.append(f"  {head:8}{name.ljust(label)}  {cells}".rstrip())
    injected = result["injected"]
    if injected is not None:
        until = length if injected["until"] is None else injected["until"]
        spans = [(injected["from"], until)]
        drawn.append(f"  {'fault':8}{'':{label}}  {_cells(spans, [], length, room, 'x')}".rstrip())
    drawn.append(f"  {'':8}{'':{label}}  0{f'{length / 1000:.1f} s'.rjust(room)}")
    return "\n".join(drawn)


_Spans = list[tuple[int, int]]


def _rows(lane: Sequence[Mapping[str, Any]], length: int) -> list[tuple[str, _Spans, _Spans]]:
    """Each leadership of a view: its name, its spans, and those of all others."""
    terms: dict[tuple[str, int | None], _Spans] = {}
    for span in lane:
        # One that goes on ends beyond the last column.
        until = length + 1 if span["until"] is None else span["until"]
        terms.setdefault((span["candidate"], span["token"]), []).append((span["from"], until))
    return [
        (
            candidate if token is None else f"{candidate} (token {token})",
            spans,
            [span for other, more in terms.items() if other != (candidate, token) for span in more],
        )
        for (candidate, token), spans in terms.items()
    ]


def _cells(spans: _Spans, others: _Spans, length: int, room: int, ink: str = "=") -> str:
    cells = [" "] * room
    for since, until in spans:
        for column in range(*_columns(since, until, length, room)):
            cells[column] = ink
        for first, last in others:
            if max(since, first) < min(until, last):
                both = _columns(max(since, first), min(until, last), length, room)
                for column in range(*both):
                    cells[column] = "#"
    return "".join(cells) + (">" if any(until > length for _, until in spans) else "")


def _columns(since: int, until: int, length: int, room: int) -> tuple[int, int]:
    first = min(room - 1, since * room // length)
    return first, max(first + 1, min(room, until * room // length))
