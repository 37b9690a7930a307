"""A verdict on a terminal, in a panel. Rich draws it, and respects NO_COLOR.

What this does not guarantee: more than the plain text says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from electctl.cli import prose
from electctl.cli.advise_text import as_text

if TYPE_CHECKING:
    from electctl.advise.evaluator import Verdict
    from electctl.cli.advise_text import Section
    from electctl.cli.frame import Frame

#: Columns that the frame of a panel takes.
_FRAME = 4


def print_panel(frame: Frame, verdict: Verdict, parts: Sequence[Section]) -> None:
    """Print it on stdout."""
    console = Console(file=frame.stdout, highlight=False)
    width = prose.width(prose.WIDTH + _FRAME)
    body = Text()
    for line in as_text(parts, width - _FRAME).splitlines():
        body.append(line + "\n", style="" if line.startswith(" ") else "bold")
    body.rstrip()
    title = Text(verdict.class_.title)
    console.print(Panel(body, title=title, border_style="cyan", width=width))
