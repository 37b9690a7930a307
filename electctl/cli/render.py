"""How things are shown: escaping, JSON lines, error lines.

What this does not guarantee: that a terminal draws every printable character in one column.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from electctl.contract.url import mask_text

if TYPE_CHECKING:
    from electctl.contract.backend import View

_MAX_MESSAGE = 1000
_MAX_CELL = 60


def shown(text: str, limit: int | None = None) -> str:
    """``text`` made safe to show to people: one line, no control characters, valid UTF-8.

    Control and format characters (ANSI escapes, newlines, bidirectional overrides), lone
    surrogates (bytes of a command line that are not UTF-8) and unassigned ones are written as
    Python escapes. ``limit`` cuts what is longer, with an ellipsis.
    """
    safe = "".join(ch if ch.isprintable() else _escaped(ch) for ch in text)
    if limit is not None and len(safe) > limit:
        return safe[: limit - 1] + "…"
    return safe


def _escaped(ch: str) -> str:
    code = ord(ch)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return repr(ch)[1:-1]


def json_line(obj: object) -> str:
    """``obj`` as one line of JSON in plain ASCII, newline included."""
    return json.dumps(obj, ensure_ascii=True, separators=(", ", ": ")) + "\n"


def error_lines(message: str, hint: str | None) -> str:
    """The two lines of an error: the cause, and the cure where there is one. Passwords masked."""
    text = f"electctl: {message_text(message)}\n"
    if hint:
        text += f"hint: {message_text(hint)}\n"
    return text


def message_text(text: str) -> str:
    """A message made safe to show: escaped, its URLs without passwords, not endless."""
    return shown(mask_text(text), _MAX_MESSAGE)


def coloured(stream: IO[str], drawn: str) -> str:
    """A drawing in which "#" is what must not be: red on a terminal with colours.

    Rich knows which it is, and NO_COLOR.
    """
    if not is_live(stream):
        return drawn
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    text = Text(drawn)
    text.highlight_regex("#+", "bold red")
    with console.capture() as capture:
        console.print(text, soft_wrap=True)
    return capture.get()


def is_live(stream: IO[Any]) -> bool:
    """Whether ``stream`` is a terminal that may be redrawn.

    ``TERM=dumb`` is one that may not. Colour is Rich's business, which respects ``NO_COLOR``.
    """
    return os.environ.get("TERM", "dumb") != "dumb" and stream.isatty()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """Rows under their heads, aligned by spaces: reads well, and `awk` can read it too.

    Where a line would be longer than ``columns``, each row is a list of its own, one cell a line.
    """
    cells = [list(heads), *([shown(cell, _MAX_CELL) or "-" for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = [_aligned(row, widths) for row in cells]
    if columns is None or max(map(len, lines)) <= columns:
        return "\n".join(lines) + "\n"
    label = max(map(len, heads))
    lists = (
        "\n".join(_aligned(pair, (label, 0)) for pair in zip(heads, row, strict=True))
        for row in cells[1:]
    )
    return "\n\n".join(lists) + "\n"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def seconds(value: float | None) -> str:
    """A time span for people: ``850ms``, ``9.5s``, ``3m20s``, ``2h05m``; empty for None."""
    if value is None:
        return ""
    if value < 1:
        return f"{max(0.0, value) * 1000:.0f}ms"
    if value < 60:
        return f"{value:.1f}s".replace(".0s", "s")
    whole = int(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole // 60 % 60:02d}m"


def doubt(view: View) -> str:
    """Why it is not certain who leads, to stand behind that; "" where it is."""
    return "" if view.certain else f" (uncertain: {message_text(view.doubt)})"


def holder_name(holder: str | None) -> str:
    """A holder's id for people: nobody, an anonymous one, or the id."""
    if holder is None:
        return "(nobody)"
    return holder or "(anonymous)"


def names(ids: Sequence[str]) -> str:
    """Those who wait: how many, and the first few."""
    if not ids:
        return ""
    first = ", ".join(shown(name, _MAX_CELL // 2) for name in ids[:3])
    return f"{len(ids)}: {first}{', …' if len(ids) > 3 else ''}"
