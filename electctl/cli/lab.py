"""``electctl lab``: real servers on loopback, kept until they are taken down."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.errors import UsageError

app = new_app(help="Run real servers on loopback, to try things on.")

UP = """
electctl lab up redis
electctl lab up redis --name slow --proxy
"""
DOWN = """
electctl lab down redis --keep-data
electctl lab down --all
"""
STATUS = """
electctl lab status
electctl lab status redis --json
"""
ENV = """
electctl lab env redis
"""
LINK = """
electctl lab link slow delay 200ms
electctl lab link slow swallow --direction replies --server redis
electctl lab link slow heal
"""

Lab = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The lab.", show_default=False)]

_MODES = {"cut": "cut", "swallow": "swallow", "hold": "hold", "delay": "delay", "heal": "forward"}
_DIRECTIONS = ("requests", "replies", "both")


@app.command("up", cls=Command, epilog=UP)
def up(
    ctx: typer.Context,
    scheme: Annotated[str, typer.Argument(metavar="SCHEME", help="What to start, as in redis.")],
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", metavar="N", help="How many servers.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The lab's name.  [default: SCHEME]"),
    ] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Put a proxy before each server, see lab link.")
    ] = False,
) -> None:
    """Start servers and print their URL.

    They listen on 127.0.0.1 only, and run until "lab down"; their files are in the state directory
    ($ELECTCTL_STATE, $XDG_STATE_HOME/electctl or ~/.local/state/electctl). A lab that is up already
    is left as it is, and one whose data was kept is started on it again, on the same ports.
    """
    from electctl.lab import labs

    frame = Frame.of(ctx)
    found, was_up = labs.up(
        scheme.removesuffix("://"), name=name, nodes=nodes, proxied=proxy, say=frame.note
    )
    if frame.json:
        frame.emit(_shown(found))
    else:
        frame.print(found["url"])
    lab = found["name"]
    frame.note(f"lab {lab} is up {'already' if was_up else 'until: electctl lab down ' + lab}")
    frame.note(f'to use it: eval "$(electctl lab env {lab})"; electctl campaign demo -- sleep 60')


@app.command("down", cls=Command, epilog=DOWN)
def down(
    ctx: typer.Context,
    name: Lab = None,
    all_labs: Annotated[bool, typer.Option("--all", help="All labs.")] = False,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the servers' files for another lab up.")
    ] = False,
) -> None:
    """Stop the servers of a lab and remove their files.

    Without NAME the lab that there is, if there is only one.
    """
    from electctl.lab import labs
    from electctl.lab.state import LabDir

    frame = Frame.of(ctx)
    if all_labs and name is not None:
        raise UsageError("--all and a name do not go together", hint="leave one of them out")
    if all_labs:
        chosen = LabDir.all()
    else:
        chosen = [labs.find(name) if name else labs.only("to take down, or say --all")]
    for lab in chosen:
        ended = labs.down(lab, keep_data=keep_data, say=frame.note)
        if frame.json:
            frame.emit(_shown(ended))
        kept = f", its data stays in {lab.path}" if keep_data else ""
        frame.note(f"lab {lab.name} is down{kept}")


@app.command("status", cls=Command, epilog=STATUS)
def status(ctx: typer.Context, name: Lab = None) -> None:
    """Show the labs, their servers, and which of these answer.

    A lab is up, starting, stopped (its data was kept, or its keeper was killed) or silent (its
    keeper does not answer).
    """
    from electctl.lab import labs
    from electctl.lab.state import LabDir

    frame = Frame.of(ctx)
    chosen = [labs.find(name)] if name else LabDir.all()
    if not chosen:
        frame.note("there is no lab; electctl lab up redis starts one")
    for found in map(labs.status, chosen):
        if frame.json:
            frame.emit(_shown(found))
        else:
            frame.print("\n".join(_lines(_shown(found))))


@app.command("env", cls=Command, epilog=ENV)
def env(ctx: typer.Context, name: Lab = None) -> None:
    """Print shell code that makes a lab the backend of this shell.

    Use it as: eval "$(electctl lab env)". Without NAME the lab that there is, if there is only one.
    """
    import shlex

    from electctl.lab import labs

    frame = Frame.of(ctx)
    found = labs.status(labs.find(name) if name else labs.only("to use"))
    if found["state"] != "up":
        raise UsageError(
            f"lab {found['name']} is not up, it is {found['state']}",
            hint=f"electctl lab up {found['scheme']} --name {found['name']}",
        )
    if frame.json:
        frame.emit({"ELECTCTL_BACKEND": found["url"]})
    else:
        frame.print(f"export ELECTCTL_BACKEND={shlex.quote(found['url'])}")


@app.command("link", cls=Command, epilog=LINK)
def link(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lab.")],
    mode: Annotated[str, typer.Argument(metavar="MODE", help="One of those above.")],
    time: Annotated[
        str | None, typer.Argument(metavar="[TIME]", help="For delay.", show_default=False)
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="SERVER", help="The link to one.  [default: all]"),
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", metavar="WHICH", help="requests, replies or both.")
    ] = "both",
) -> None:
    """Break the links to a lab's servers, and heal them.

    The lab must have been brought up with --proxy.

    cut: connections are reset, new ones refused. swallow: all stays open, nothing arrives any more.
    hold: what is sent is kept back, and delivered by heal. delay TIME: each byte comes later. heal:
    all is well again; connections that lost bytes are reset.
    """
    from electctl.base.duration import parse_duration
    from electctl.lab import labs

    frame = Frame.of(ctx)
    _check_link(mode, time, direction)
    delay = parse_duration(time) if time is not None else None
    found = labs.link(
        labs.find(name),
        {
            "mode": _MODES[mode],
            "delay": delay,
            "server": server,
            "direction": direction,
        },
    )
    if frame.json:
        frame.emit(_shown(found))


def _check_link(mode: str, time: str | None, direction: str) -> None:
    from difflib import get_close_matches

    if mode not in _MODES:
        near = get_close_matches(mode, _MODES, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(_MODES)}"
        raise UsageError(f"a link has no mode {mode!r}", hint=hint)
    if (mode == "delay") != (time is not None):
        raise UsageError(
            "delay needs a time" if mode == "delay" else f"{mode} takes no time",
            hint="as in: electctl lab link NAME delay 200ms",
        )
    if direction not in _DIRECTIONS:
        raise UsageError(
            f"{direction!r} is not a direction", hint=f"one of {', '.join(_DIRECTIONS)}"
        )
    if mode in ("cut", "heal") and direction != "both":
        raise UsageError(f"{mode} has no direction", hint="leave --direction out")


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    """What may be shown of a lab: its URL without a password."""
    shown = {**found, "url": found["masked"] or None}
    del shown["masked"]
    return shown


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['name']}  {found['state']}  {found['url'] or ''}".rstrip()]
    for server in found["servers"]:
        state = "answers" if server["answering"] else f"silent: {server['silence']}"
        pid = f"pid {server['pid']}" if server["pid"] else "no process"
        line = f"  {server['name']}  {server['address']}  {pid}  {state}"
        if server["proxy"]:
            line += f"  proxy {server['proxy']['address']}: {server['proxy']['mode']}"
        lines.append(line)
    return lines
