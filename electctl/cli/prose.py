"""Running text for people: wrapped to the terminal, in paragraphs and in columns.

What this does not guarantee: that a terminal draws every printable character in one column.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

#: Lines of this length read well, and fit into every terminal and pipe.
WIDTH = 80
_GAP = 2
_NARROWEST = 20
_UNIT = re.compile(r"(?<=\d) (?=%|s\b)")


def width(most: int = WIDTH) -> int:
    """Columns to write in: those of the terminal, at most ``most``; 80 in a pipe.

    ``COLUMNS`` counts, as in other programs.
    """
    return max(40, min(most, shutil.get_terminal_size((WIDTH, 24)).columns))


def wrapped(text: str, columns: int, indent: str = "", first: str | None = None) -> str:
    """``text`` in lines of at most ``columns``. ``first`` opens the first line instead."""
    # A number stays with its unit: textwrap does not break at what is no ASCII blank.
    tied = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    filled = textwrap.fill(
        tied,
        columns,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\N{NO-BREAK SPACE}", " ")


def section(label: str, texts: Iterable[str], columns: int, indent: str = "  ") -> str:
    """A label on a line of its own, and each text under it; ``indent`` from its second line on."""
    return "\n".join([label, *(wrapped(text, columns, indent, "  ") for text in texts)])


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]], columns: int) -> str:
    """Rows under their heads, each cell wrapped in its column; the first is as wide as it needs.

    Lines of a cell are wrapped one by one; those that begin with "- " hang. Where there is no room
    for columns, each row is a section.
    """
    table = [heads, *rows]
    label = max(len(row[0]) for row in table)
    others = len(heads) - 1
    each = (columns - label - _GAP * others) // others
    if each < _NARROWEST:
        return "\n".join(_stacked(heads, row, columns) for row in table[1:])
    widths = [label, *[each] * others]
    return "\n".join(_row(row, widths) for row in table)


def _stacked(heads: Sequence[str], row: Sequence[str], columns: int) -> str:
    cells = (f"{head}: {cell}" for head, cell in zip(heads[1:], row[1:], strict=True))
    return section(row[0], cells, columns, "    ")


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        [
            line
            for part in cell.split("\n")
            for line in wrapped(part, width, "  " if part.startswith("- ") else "", "").split("\n")
        ]
        for cell, width in zip(row, widths, strict=True)
    ]
    lines = (
        (" " * _GAP).join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in zip_longest(*cells, fillvalue="")
    )
    return "\n".join(line.rstrip() for line in lines)
