"""How things are shown: escaping, JSON lines, error lines.

What this does not guarantee: that a terminal draws every printable character in one column.
"""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from electctl.errors import ElectctlError

_MAX_SHOWN = 200


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


def error_lines(error: ElectctlError) -> str:
    """The two lines of an error: the cause, and the cure where there is one."""
    text = f"electctl: {shown(error.message, 4 * _MAX_SHOWN)}\n"
    if error.hint:
        text += f"hint: {shown(error.hint, 4 * _MAX_SHOWN)}\n"
    return text


def is_live(stream: IO[Any]) -> bool:
    """Whether ``stream`` is a terminal that may be redrawn and coloured.

    ``NO_COLOR`` (no-color.org) and ``TERM=dumb`` turn both off.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()
