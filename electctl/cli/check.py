"""``electctl check``: does the campaign that runs us still lead?

What this does not guarantee: that the answer is still true when it is read; see ``remaining_ms``.
``electctl.__main__`` answers the plain forms without loading this module.
"""

from __future__ import annotations

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame

app = new_app()

EXAMPLES = """
electctl campaign nightly -- sh -c 'electctl check && echo we lead'
electctl campaign nightly -- electctl check --json
"""


@app.command("check", cls=Command, epilog=EXAMPLES)
def check(ctx: typer.Context) -> None:
    """Inside a campaign's command: do we still lead, and for how long at least?

    Asks the campaign itself, over ELECTCTL_SOCKET, not the store: the answer is what campaign
    acts on, and fast enough for a loop. --json prints {"leading", "remaining_ms", "token"}.

    The answer ages. What must not happen under a stale leader belongs under the guarded
    checkpoint, or behind the fencing token in ELECTCTL_TOKEN.

    \b
    Exit codes:
      0  leading
      1  not leading
      2  not inside a campaign
      3  it cannot be known: the campaign is stopped or gone, or did not answer within 1s
    """
    from electctl.campaign.ask import check_main

    frame = Frame.of(ctx)
    raise typer.Exit(check_main(as_json=frame.json, quiet=frame.quiet))
