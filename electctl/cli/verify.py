"""``electctl verify``: was there ever more than one leader in this history."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli import prose, render
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import Inconclusive, Negative, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from electctl.verify.files import Progress
    from electctl.verify.verdict import Verdict, Violation

app = new_app()

EXAMPLES = """
electctl verify nightly.jsonl
electctl verify nightly.jsonl host-a.events host-b.events
electctl verify nightly.jsonl host-?.events --json
electctl verify --model register etcd.log
electctl verify --model map --max-time 10s --json kv-1.log kv-2.log
"""
#: Seconds after which a person wants to see that something is going on.
_SOON = 2.0


@app.command("verify", cls=Command, epilog=EXAMPLES)
def verify(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="The files of one history, in any order; with --model each is a log of its own.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="register|map",
            help="Is a log of operations on such an object linearizable?",
            show_default=False,
        ),
    ] = None,
    max_time: Annotated[
        float | None,
        Duration("--max-time", help="With --model: for one log. [default: 60s]"),
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option(
            "--max-memory",
            metavar="MB",
            help="With --model: for the search in one log, about. [default: 500]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Was there ever more than one leader in this history?

    Reads what electctl watch --record and electctl campaign --events have written, and the lines
    of other programs (docs/verify.md). At most one leader at a time: in the store, among those who
    take themselves for it, among those whose command is alive. Tokens grow. No write is accepted
    under a stale token, and none that was accepted is lost. No line of a record is missing or
    changed.

    Exit codes: 0 if all of that holds; 1 if not, and the first violation is shown; 3 if nothing is
    broken, but the history proves too little; 2 for a line that belongs to no history. A record of
    the store alone proves too little: what leaders believed and did stands in their own events.

    With --model it is another question, about what the store does for its clients: is there one
    order of the operations in a log that fits what was answered, and when? Exit codes: 0 if there
    is (linearizable); 1 if not, and the first lines that cannot have been are explained; 3 if a
    limit was reached before that was known. A register is logged as Jepsen logs it, a map in EDN.
    """
    frame = Frame.of(ctx)
    if model is not None:
        from electctl.cli.verify_model import verify_model

        verify_model(frame, model, files, max_time, max_memory)
        return
    if max_time is not None or max_memory is not None:
        raise UsageError("--max-time and --max-memory are for --model")
    from electctl.verify.files import Histories

    histories = Histories([Path(file) for file in files])
    with _progress(frame, histories.size) as progress:
        verdict = histories.verify(progress)
    if frame.json:
        frame.emit(verdict.as_dict())
    elif not frame.quiet:
        frame.print(_text(frame, verdict))
    if verdict.violation is not None:
        raise Negative(verdict.violation.message, hint=_hint(verdict.violation))
    if verdict.doubts:
        more = len(verdict.doubts) + verdict.more_doubts - 1
        raise Inconclusive(
            f"nothing is broken, but that proves too little: {verdict.doubts[0].message}"
            + (f" (and {more} more)" if more else ""),
            hint="docs/verify.md says what a history needs",
        )


def _hint(violation: Violation) -> str:
    if violation.file:
        return "whatever the lines say, they are not what was recorded"
    return "electctl explain split-brain"


def _text(frame: Frame, verdict: Verdict) -> str:
    elections = f"{verdict.elections} election{'' if verdict.elections == 1 else 's'}"
    counted = f"{verdict.lines} lines, {elections}"
    room = prose.width(most=120)
    if verdict.violation is not None:
        return _violation(frame, verdict.violation, room)
    if verdict.doubts:
        texts = [render.shown(doubt.message) for doubt in verdict.doubts]
        if verdict.more_doubts:
            texts.append(f"and {verdict.more_doubts} more")
        head = f"{counted}: nothing is broken, but that proves too little:"
        lines = [head, *(prose.wrapped(text, room, "    ", "  - ") for text in texts)]
    else:
        lines = [
            f"{counted}: at most one leader at a time, in the store, by belief and in effect; "
            "tokens grow; no stale write, no lost one"
        ]
    notes = [prose.wrapped(render.shown(note), room, "      ", "note: ") for note in verdict.notes]
    return "\n".join([*lines, *notes])


def _violation(frame: Frame, violation: Violation, room: int) -> str:
    from electctl.verify.timeline import timeline

    where = "the record"
    if violation.election:
        where = f"{render.shown(violation.election)} on {render.shown(violation.backend)}"
    view = "" if violation.view is None else f" ({violation.view})"
    head = f"{where}{view}: {render.shown(violation.message)}"
    drawn = timeline(violation, room)
    return head + (f"\n\n{render.coloured(frame.stdout, drawn)}" if drawn else "")


@contextmanager
def _progress(frame: Frame, size: int) -> Iterator[Progress | None]:
    """A bar on a terminal, if it takes long."""
    if frame.quiet or not render.is_live(frame.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from electctl.base.clock import now

    bar = Progress(
        TextColumn("verifying"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(file=frame.stderr),
        transient=True,
    )
    task = bar.add_task("", total=size)
    began = now()

    def told(done: int) -> None:
        bar.update(task, completed=done)
        if now() - began >= _SOON:
            bar.start()

    try:
        yield told
    finally:
        bar.stop()
