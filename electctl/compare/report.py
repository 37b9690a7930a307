"""The comparison as one HTML file that needs nothing else: promises, verdicts, timelines, times.

The page draws from the lines that ``compare --json`` prints, which it carries. It asks no server
for anything, and its own policy forbids that, and every script but its own.

What this does not guarantee: anything about a browser older than 2023.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from itertools import groupby
from statistics import median

from electctl.compare import evidence as seen
from electctl.compare import textbook
from electctl.compare.evidence import ELECTCTL, Cell, Evidence
from electctl.compare.promises import ROWS, Promise, losses, schemes_of

_SCRIPTS = ("page.js", "timeline.js", "spread.js")


@dataclass(frozen=True)
class Column:
    """One scheme, campaigned for by electctl or by a native tool."""

    scheme: str
    candidate: str
    title: str
    source: str

    @property
    def native(self) -> bool:
        """Whether the candidates are another tool's."""
        return self.candidate != ELECTCTL


@dataclass(frozen=True)
class Shown:
    """A drill that is pointed to, and its cell if there is a run of it."""

    label: str
    what: str
    cell: Cell | None


def render(found: Sequence[Promise], evidence: Evidence, *, version: str, at: str) -> str:
    """The page. ``version`` of electctl made it, ``at`` a time for people."""
    # Not before it is needed: every start of electctl would pay for it.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals |= {
        "words": seen.WORDS,
        "no_run": seen.NO_RUN,
        "losses": losses,
        "schemes_of": schemes_of,
        "rows_of": ROWS,
        "ms": seen.ms,
    }
    style = _part("page.css")
    script = "".join(map(_part, _SCRIPTS))
    columns = [column for promise in found for column in _columns(promise, evidence)]
    cells = {
        (cell.scheme, cell.candidate, cell.fault): cell
        for promise in found
        for cell in evidence.of(promise.schemes)
    }
    return environment.from_string(_part("page.html.j2")).render(
        version=version,
        at=at,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=[seen.as_dict(promise, evidence) for promise in found],
        columns=columns,
        groups=_groups(columns, cells, evidence.rows(found)),
        cells=list(cells.values()),
        mixed=len({cell.origin for cell in cells.values()}) > 1,
        spreads=[(column, *_spread(column, cells.values())) for column in columns],
        textbook=_textbook(found, cells),
        heads=textbook.HEADS,
        promises=[(promise, _weaknesses(promise, cells)) for promise in found],
    )


def _part(name: str) -> str:
    return (files("electctl.compare") / "page" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: draw by its own style and script, and nothing else."""

    def own(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {own(style)}; script-src {own(script)};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _columns(promise: Promise, evidence: Evidence) -> Iterable[Column]:
    for scheme, candidate in evidence.candidates(promise.schemes):
        cells = [cell for cell in evidence.of([scheme]) if cell.candidate == candidate]
        source = seen.source(cells) if cells else f"{seen.NO_RUN} yet"
        yield Column(scheme, candidate, promise.traits.title, source)


_Cells = dict[tuple[str, str, str], Cell]
_Row = tuple[str, list[Cell | None]]


def _groups(columns: Sequence[Column], cells: _Cells, faults: Iterable[str]) -> list[list[_Row]]:
    """The rows of the matrix, those of one fault and its variants together."""
    table: list[_Row] = [
        (fault, [cells.get((column.scheme, column.candidate, fault)) for column in columns])
        for fault in faults
    ]
    return [list(rows) for _, rows in groupby(table, key=lambda row: seen.base(row[0]))]


def _spread(column: Column, cells: Iterable[Cell]) -> tuple[dict[str, float] | None, ...]:
    """Number, least, median and most of the fail-over and hand-over times of a column."""
    mine = [
        cell for cell in cells if (cell.scheme, cell.candidate) == (column.scheme, column.candidate)
    ]
    kinds = (
        [time for cell in mine for time in cell.failovers],
        [time for cell in mine for time in cell.handovers],
    )
    return tuple(
        {"n": len(times), "least": min(times), "median": median(times), "most": max(times)}
        if times
        else None
        for times in kinds
    )


def _textbook(found: Sequence[Promise], cells: _Cells) -> list[tuple[tuple[str, ...], list[Shown]]]:
    chosen = {scheme for promise in found for scheme in promise.schemes}
    return [
        (
            row,
            [
                Shown(
                    f"{shown.scheme} × {shown.fault}",
                    shown.what,
                    cells.get((shown.scheme, ELECTCTL, shown.fault)),
                )
                for shown in textbook.SHOWN[row[0]]
                if shown.scheme in chosen
            ],
        )
        for row in textbook.ROWS
    ]


def _weaknesses(promise: Promise, cells: _Cells) -> list[list[Cell]]:
    """For each weakness, electctl's cells of the fault that shows it."""
    return [
        [
            cell
            for (scheme, candidate, fault), cell in cells.items()
            if scheme in promise.schemes
            and candidate == ELECTCTL
            and seen.base(fault) == weakness.fault
        ]
        for weakness in promise.traits.weaknesses
    ]
