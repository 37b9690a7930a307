"""``electctl watch``: follow who leads, as a live table, as lines, as JSON, as a record."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration, Elections
from electctl.cli.present import Presenter, presenter
from electctl.cli.targets import open_targets
from electctl.errors import Negative, UsageError

if TYPE_CHECKING:
    from electctl.record.watch import Sighting, Target, Watcher

app = new_app()

EXAMPLES = """
electctl watch nightly -b redis://127.0.0.1:6379/0
electctl watch nightly reports --json --for 30s
electctl watch nightly --until-holder worker-1 --for 1m
electctl watch nightly --record nightly.jsonl
"""
_TERMINATED = 143  # 128 + SIGTERM


@app.command("watch", cls=Command, epilog=EXAMPLES)
def watch(
    ctx: typer.Context,
    elections: Elections,
    for_: Annotated[float | None, Duration("--for", help="Stop after this time, with 0.")] = None,
    until_holder: Annotated[
        str | None,
        typer.Option(
            "--until-holder",
            metavar="ID",
            help="Stop with 0 when ID leads one of them; with 1 when --for is over first.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="Append the history to FILE, for electctl verify.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Follow who leads, on every backend that is named.

    A live table on a terminal, lines elsewhere (and in the background), JSON lines with --json. The
    loss of a backend is shown and survived; only if none answers within the smaller of --for and
    10 s does it end with 69. Without --for it goes on until q is typed at the live table (0), or it
    is interrupted: 130 after Ctrl-C, 143 after SIGTERM.
    """
    from electctl.record.watch import Watcher

    frame = Frame.of(ctx)
    if for_ == 0:
        raise UsageError("--for 0 leaves no time to look", hint="electctl holders looks once")
    signal.signal(signal.SIGTERM, _terminate)
    with ExitStack() as stack:
        opened = open_targets(frame, elections, stack)
        targets = [target for target, _ in opened]
        recording = None if record is None else stack.enter_context(_Record(record, targets))
        watcher = stack.enter_context(Watcher(opened, limit=for_))
        # Left first: the terminal is given back before connections are closed.
        view = stack.enter_context(presenter(frame, targets, watcher.wake))
        seen = _follow(watcher, view, recording, for_, until_holder)
    if until_holder is not None and not seen:
        within = "" if seen is None else f" within {for_:g} s"
        raise Negative(
            f"{until_holder!r} was not seen leading{within}",
            hint="electctl holders shows who leads now",
        )


def _terminate(number: int, at: FrameType | None) -> None:
    sys.exit(_TERMINATED)


def _follow(
    watcher: Watcher,
    view: Presenter,
    record: _Record | None,
    limit: float | None,
    until_holder: str | None,
) -> bool | None:
    """Show everything until time is up (False), the holder is seen (True), or q is typed (None)."""
    from electctl.base.clock import now

    deadline = None if limit is None else now() + limit
    while True:
        left = None if deadline is None else max(0.0, deadline - now())
        pause = min((t for t in (left, view.tick) if t is not None), default=None)
        sighting = watcher.next(pause)
        if sighting is not None:
            if record is not None:
                record.write(sighting)
            view.show(sighting)
        goes_on = view.refresh()
        if sighting is not None and until_holder is not None and _leads(sighting, until_holder):
            return True
        if not goes_on:
            return None
        if deadline is not None and now() >= deadline:
            return False


def _leads(sighting: Sighting, candidate: str) -> bool:
    holder = sighting.change.view.holder
    known = sighting.change.kind != "unreachable" and sighting.change.view.certain
    return known and holder is not None and holder.id == candidate


class _Record:
    """What is seen, appended to a file between a ``recording`` and a ``recorded`` a target."""

    def __init__(self, path: str, targets: Sequence[Target]) -> None:
        from electctl.record.history import Recorder

        self._targets = targets
        self._recorder = Recorder(Path(path))

    def write(self, sighting: Sighting) -> None:
        from electctl.record.watch import event_of

        self._recorder.write(event_of(sighting.target, sighting.change))

    def _mark(self, name: str) -> None:
        from electctl.record.events import Event

        for target in self._targets:
            url = {"url": target.url.masked()}
            self._recorder.write(Event(name, target.election, target.scheme, details=url))

    def __enter__(self) -> Self:
        self._mark("recording")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._recorder:
            # After a failed write the disk is full: a second one would hide the first error.
            if not isinstance(error, OSError):
                self._mark("recorded")
