"""``electctl backends``: the schemes that are installed, and what each promises."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame

if TYPE_CHECKING:
    from electctl.contract.backend import Plugin

app = new_app()

EXAMPLES = """
electctl backends
electctl backends --json
"""
_HEADS = (
    "SCHEMES",
    "FAMILY",
    "EXCLUSION",
    "TOKEN",
    "SOUND",
    "ORDER",
    "WAKE-UP",
    "CHECKPOINT",
    "CLIENT",
    "EXAMPLE",
)


@app.command("backends", cls=Command, epilog=EXAMPLES)
def backends(ctx: typer.Context) -> None:
    """List the schemes that are installed, and what each promises.

    FAMILY: consensus, or a lock with a time limit on one server (ttl-lock). EXCLUSION: what stands
    between two leaders: a quorum, or a lease alone. TOKEN: what the fencing token is; SOUND:
    whether it keeps growing whatever fails in the store. ORDER: in which those who wait are served.
    WAKE-UP: whether the next is told of a release, or has to ask (poll). CHECKPOINT: whether there
    is a guarded one. CLIENT: the version of the client library. --json has all of it: assumptions,
    weaknesses, sources, and the options of the URL.
    """
    from electctl.core.registry import plugins

    frame = Frame.of(ctx)
    found = plugins()
    if frame.json:
        for plugin in found:
            frame.emit(_as_dict(plugin))
    else:
        frame.print_table(_HEADS, [_row(plugin) for plugin in found])


def _client(plugin: Plugin) -> str | None:
    """The version of the client library; None where it is missing, "" where none is needed."""
    from importlib.metadata import PackageNotFoundError, version

    named = re.match(r"[A-Za-z0-9._-]+", plugin.requires)
    if named is None:
        return ""
    try:
        return f"{named[0]} {version(named[0])}"
    except PackageNotFoundError:
        return None


def _row(plugin: Plugin) -> list[str]:
    traits = plugin.traits
    client = _client(plugin)
    return [
        ", ".join(plugin.schemes),
        traits.family,
        traits.exclusion,
        traits.token,
        _yes(traits.token_sound),
        traits.order,
        traits.wakeup,
        _yes(traits.checkpoint),
        "built in" if client == "" else client or f"missing: pip install {plugin.requires}",
        plugin.example,
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _as_dict(plugin: Plugin) -> dict[str, Any]:
    client = _client(plugin)
    return {
        "schemes": list(plugin.schemes),
        "example": plugin.example,
        "options": plugin.options,
        "requires": plugin.requires,
        "client": client,
        "installed": client is not None,
        "traits": asdict(plugin.traits),
    }
