"""``electctl backends``: the schemes that are installed, and what each promises."""

from __future__ import annotations

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame

app = new_app()

EXAMPLES = """
electctl backends
electctl backends --json
"""


@app.command("backends", cls=Command, epilog=EXAMPLES)
def backends(ctx: typer.Context) -> None:
    """List the schemes and what each promises."""
    from electctl.registry import schemes

    frame = Frame.of(ctx)
    for scheme in schemes():
        frame.print(scheme)
