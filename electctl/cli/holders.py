"""``electctl holders``: who leads now, once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from electctl.cli import render
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Elections
from electctl.cli.targets import open_targets

if TYPE_CHECKING:
    from electctl.contract.backend import Backend
    from electctl.core.observe import Change
    from electctl.errors import ElectctlError
    from electctl.record.watch import Target

app = new_app()

EXAMPLES = """
electctl holders nightly -b redis://127.0.0.1:6379/0
electctl holders nightly reports --json
"""
_HEADS = ("ELECTION", "LEADER", "TOKEN", "EXPIRES IN", "SINCE", "WAITING")


@app.command("holders", cls=Command, epilog=EXAMPLES)
def holders(ctx: typer.Context, elections: Elections) -> None:
    """Print who leads, once, on every backend that is named.

    An election that nobody leads is no error. A backend that does not answer within 10 s ends it
    with 69, after the others have been printed.
    """
    frame = Frame.of(ctx)
    with ExitStack() as stack:
        opened = open_targets(frame, elections, stack)
        looks = _look_at_all(opened)
        if frame.json:
            for look in looks:
                frame.emit(look.as_dict())
        else:
            frame.print_table(*_table(looks))
        for note in sorted({note for _, backend in opened for note in backend.notes}):
            frame.note(f"warning: {note}")
    for look in looks:
        if look.error is not None:
            raise look.error


@dataclass
class _Look:
    """One target, and what came of looking at it."""

    target: Target
    change: Change | None = None
    error: ElectctlError | None = None

    def as_dict(self) -> dict[str, object]:
        from electctl.base.clock import now
        from electctl.contract.backend import View
        from electctl.core.observe import Change
        from electctl.record.watch import event_of

        cause = "" if self.error is None else self.error.message
        missed = Change("unreachable", View(None), now(), cause)
        return event_of(self.target, self.change or missed).as_dict()


def _look_at_all(opened: list[tuple[Target, Backend]]) -> list[_Look]:
    """Look at every target at the same time, for at most 10 s."""
    from functools import partial

    from electctl.cli.asking import Asking
    from electctl.errors import ElectctlError
    from electctl.record.watch import CONTACT_LIMIT, look

    questions = [
        (target, Asking(target.url.masked(), CONTACT_LIMIT, partial(look, target, backend)))
        for target, backend in opened
    ]
    looks = []
    for target, asking in questions:
        try:
            looks.append(_Look(target, asking.answer()))
        except ElectctlError as error:
            looks.append(_Look(target, error=error))
    return looks


def _table(looks: list[_Look]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The heads and the rows: a column names the backends where there are several."""
    several = len({look.target.url.masked() for look in looks}) > 1
    heads = (*_HEADS[:1], "BACKEND", *_HEADS[1:]) if several else _HEADS
    rows = []
    for look in looks:
        backend = [look.target.url.masked()] if several else []
        rows.append([look.target.election, *backend, *_cells(look.change)])
    return heads, rows


def _cells(change: Change | None) -> list[str]:
    if change is None:
        return ["(unknown)", "", "", "", ""]
    holder = change.view.holder
    waiting = render.names(change.view.waiting)
    if holder is None:
        return [render.holder_name(None) + render.doubt(change.view), "", "", "", waiting]
    return [
        render.holder_name(holder.id) + render.doubt(change.view),
        "" if holder.token is None else str(holder.token),
        render.seconds(holder.expires_in),
        holder.since or "",
        waiting,
    ]
