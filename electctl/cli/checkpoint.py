"""``electctl checkpoint``: a value that is written only while we lead in the store.

What this does not guarantee: that effects outside the store happened or not. The checkpoint tells
the next leader how far this one came, if the command writes it after each step.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from typing import Annotated

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.targets import prepare
from electctl.errors import Inconclusive, Negative, UsageError

app = new_app(help="Inside a campaign's command: a value that only the leader in the store writes.")

SET_EXAMPLES = """
electctl campaign nightly -- electctl checkpoint set 42
electctl campaign nightly -- sh -c 'date | electctl checkpoint set -'
"""
GET_EXAMPLES = """
electctl campaign nightly -- electctl checkpoint get
electctl checkpoint get nightly
"""


@app.command("set", cls=Command, epilog=SET_EXAMPLES)
def set_(
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="[VALUE|-]",
            help="The value; - or nothing reads it from stdin.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the checkpoint, in one atomic step with the store's check that we still lead.

    Goes through the campaign's own session and grant. At most 1 MiB.

    \b
    Exit codes:
      0   it is written
      2   not inside a campaign, too long, or a scheme without checkpoints
      3   no answer came: it may or may not be written
      79  we no longer lead in the store; nothing was written
    """
    from electctl.campaign.ask import MAX_VALUE, set_checkpoint

    if value is None and sys.stdin.isatty():
        raise UsageError("there is no value to write", hint="electctl checkpoint set VALUE")
    if value is None or value == "-":
        # One byte more than is allowed shows that it is too long, however long it is.
        raw = sys.stdin.buffer.read(MAX_VALUE + 1)
    else:
        raw = os.fsencode(value)
    set_checkpoint(raw)


@app.command("get", cls=Command, epilog=GET_EXAMPLES)
def get(
    ctx: typer.Context,
    election: Annotated[
        str | None,
        typer.Argument(
            metavar="[ELECTION]",
            help="Read it from the backend, outside a campaign too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the checkpoint's last value, as the raw bytes that were written.

    --json prints {"value"} instead, the bytes in base64.

    \b
    Exit codes:
      0  printed
      1  nothing was ever written
      2  not inside a campaign and no ELECTION given, or a scheme without checkpoints
      3  no answer came
    """
    from electctl.campaign.ask import SOCKET, get_checkpoint

    frame = Frame.of(ctx)
    if election is not None:
        value = _read(frame, election)
    elif os.environ.get(SOCKET):
        value = get_checkpoint()
    else:
        raise UsageError(
            f"this is not a campaign's command: {SOCKET} is not set",
            hint="electctl checkpoint get ELECTION reads it from the backend",
        )
    if value is None:
        raise Negative("the checkpoint is empty: nothing was ever written")
    if frame.json:
        frame.emit({"value": b64encode(value).decode()})
    else:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()


def _read(frame: Frame, election: str) -> bytes | None:
    from electctl.core.elector import connect
    from electctl.errors import OutcomeUnknown

    url = frame.settings.backend_url(election)
    prepare(frame, url)
    with connect(url) as elector:
        try:
            return elector.backend.read_checkpoint(election, "")
        except OutcomeUnknown as error:
            raise Inconclusive(error.message, hint=error.hint) from None
