"""``electctl evict``: ask the leader to stop, and wait until it has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration, Election
from electctl.cli.render import holder_name, shown
from electctl.cli.targets import prepare
from electctl.errors import Negative

if TYPE_CHECKING:
    from electctl.contract.backend import Holder
    from electctl.contract.url import BackendURL

app = new_app()

EXAMPLES = """
electctl evict nightly -b redis://127.0.0.1:6379/0 --wait 30s
electctl evict nightly --force
"""
_FIRST_WORD = 2.0


@app.command("evict", cls=Command, epilog=EXAMPLES)
def evict(
    ctx: typer.Context,
    election: Election,
    wait: Annotated[
        float | None, Duration("--wait", help="Wait for at most this time; default: for ever.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Delete the leadership at once, without asking. This can itself make two "
            "leaders, because the old one does not know yet.",
        ),
    ] = False,
) -> None:
    """Ask the leader to stop, and wait until it has released or its lease has run out.

    Ends with 1 if nobody leads, with 3 if it still leads after --wait. The request names this one
    term and stays in the store when you interrupt this command: it cannot hit a later leader.
    """
    from electctl.core.elector import connect
    from electctl.core.registry import canonical

    frame = Frame.of(ctx)
    url = frame.settings.backend_url(election)
    election = canonical(url, election)
    prepare(frame, url)
    with connect(url) as elector:
        if force:
            frame.note(
                "warning: --force can itself make two leaders: the old one goes on until it "
                "notices; only a fencing token checked by what it writes to is an answer"
            )
        elif (holder := elector.holder(election)) is not None and not holder.can_be_asked:
            frame.note(
                f"warning: {shown(holder_name(holder.id))} is a foreign tool that no request "
                "reaches; waiting for its release or expiry"
            )
        with _patience(frame, election):
            gone = elector.evict(election, force=force, wait=wait)
    if gone is None:
        raise Negative(
            f"nobody leads {election!r}", hint="is that its name, and the right backend?"
        )
    _report(frame, election, url, gone, force=force)


@contextmanager
def _patience(frame: Frame, election: str) -> Iterator[None]:
    """Say after two seconds what is being waited for."""
    words = f"waiting for the leader of {election!r} to stop; Ctrl-C leaves it asked"
    timer = threading.Timer(_FIRST_WORD, frame.note, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _report(frame: Frame, election: str, url: BackendURL, gone: Holder, *, force: bool) -> None:
    from electctl.record.events import Event

    if frame.json:
        details = {"url": url.masked(), "forced": force}
        frame.emit(Event("evicted", election, url.scheme, gone.id, gone.token, details).as_dict())
        return
    token = "" if gone.token is None else f" (token {gone.token})"
    how = "was deleted as leader of" if force else "no longer leads"
    frame.print(f"{shown(holder_name(gone.id))}{token} {how} {shown(election)}")
