"""A drill's result for people: a verdict, a timeline, figures, the command that repeats it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from electctl.cli import prose, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from electctl.cli.frame import Frame

_STYLES = {"safe": "bold green", "fenced": "bold yellow", "split-brain": "bold red"}


def shown(frame: Frame, result: dict[str, Any], room: int) -> str:
    """One result, with colours where they are wanted."""
    from electctl.drill.timeline import timeline

    what = f"{result['scheme']} × {result['fault']}"
    if result["candidate"] != "electctl":
        what += f", {result['candidate']}"
    head = f"{result['verdict']}  {what}  (seed {result['seed']})"
    lines = [head, prose.wrapped(render.shown(result["why"]), room, "  ")]
    if result["injected"] is not None:
        lines += ["", timeline(result, room), ""]
        lines += [prose.wrapped(text, room, "    ", "  ") for text in _figures(result)]
    lines.append(f"  again: {result['command']}")
    return _coloured(frame, "\n".join(lines), result["verdict"])


def _figures(result: dict[str, Any]) -> list[str]:
    overlap, stale = result["overlap"], result["stale"]
    at_once = ", ".join(f"{view} {overlap[view]} ms" for view in ("store", "belief", "effect"))
    figures = [
        f"fault: {render.shown(result['injected']['confirmed'])}",
        f"two at once: {at_once}",
        "stale writes: "
        + ", ".join(
            f"{name} {count['accepted']} of {count['tried']} accepted"
            for name, count in stale.items()
        ),
    ]
    if result["failover"] is not None:
        figures.append(f"the next leader acted {result['failover']} ms after the fault")
    figures.append(f"nobody acted for {result['without_leader']} ms at most")
    if result["margin"] is not None:
        figures.append(f"{_margin(result['margin'])} its lease ended in the store")
    if result["breaks"]:
        figures.append(f"what broke: {', '.join(result['breaks'])}")
    return figures


def _margin(margin: int) -> str:
    side = "before" if margin >= 0 else "after"
    return f"the first leader acted last {abs(margin)} ms {side}"


def _coloured(frame: Frame, text: str, verdict: str) -> str:
    if not render.is_live(frame.stdout):
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(file=frame.stdout, highlight=False)
    styled = Text(text)
    styled.highlight_regex(f"^{verdict}", _STYLES.get(verdict, "bold"))
    styled.highlight_regex("#+", "bold red")
    with console.capture() as capture:
        console.print(styled, soft_wrap=True)
    return capture.get()


def grid(results: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows: a fault a row, a scheme a column; all verdicts of a cell are named."""
    schemes = sorted({result["scheme"] for result in results})
    faults = dict.fromkeys(result["fault"] for result in results)
    cells: dict[tuple[str, str], dict[str, int]] = {}
    for result in results:
        cell = cells.setdefault((result["fault"], result["scheme"]), {})
        cell[result["verdict"]] = cell.get(result["verdict"], 0) + 1
    return ("FAULT", *map(str.upper, schemes)), [
        (fault, *(_cell(cells.get((fault, scheme), {})) for scheme in schemes)) for fault in faults
    ]


def _cell(verdicts: dict[str, int]) -> str:
    if len(verdicts) < 2:
        return next(iter(verdicts), "-")
    return ", ".join(f"{verdict} × {count}" for verdict, count in sorted(verdicts.items()))


@contextmanager
def progress(frame: Frame, total: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left on a terminal; call what is yielded after each round."""
    if frame.quiet or not render.is_live(frame.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    bar = Progress(
        TextColumn("rounds"),
        BarColumn(),
        MofNCompleteColumn(),
        Left(),
        console=Console(file=frame.stderr),
        transient=True,
    )
    task = bar.add_task("", total=total)
    with bar:
        yield lambda: bar.advance(task)
