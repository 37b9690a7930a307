"""``electctl raft``: nodes of the built-in consensus, and how they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from electctl.cli import render
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.contract.url import check_host
from electctl.errors import Negative, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from electctl.raft.io.server import NodeConfig
    from electctl.raft.io.status import Address
    from electctl.raft.io.tls import Tls
    from electctl.raft.pure.wire import NodeStatus

app = new_app(help="Run nodes of the built-in consensus, and see how they are.")

SERVE = """
electctl raft serve --id 1 --listen h1:7400 --peer 2=h2:7400 --peer 3=h3:7400 --data ./node1
electctl raft serve --id 1 --listen 127.0.0.1:7400 --data ./node1
"""
STATUS = """
electctl raft status
electctl raft status -b raft://h1:7400,h2:7400,h3:7400
electctl raft status --node 127.0.0.1:7400 --json
"""

STOP = """
electctl raft stop
"""

#: Seconds that each node may take to answer.
_PATIENCE = 5.0
_MAX_NUMBER = 1_000_000
_ELECTION_TIMEOUT = 0.5
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/,=\s]+)):([0-9]{1,5})")
_HEADS = (
    "NODE", "ADDRESS", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAST", "SNAPSHOT",
    "SESSIONS", "ELECTIONS", "REACHES",
)  # fmt: skip

TlsCa = Annotated[
    str | None,
    typer.Option("--tls-ca", metavar="FILE", help="TLS: who signs for nodes and clients."),
]
TlsCert = Annotated[
    str | None, typer.Option("--tls-cert", metavar="FILE", help="TLS: our own certificate.")
]
TlsKey = Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="TLS: its key.")]


@app.command("serve", cls=Command, epilog=SERVE)
def serve(
    ctx: typer.Context,
    number: Annotated[
        int, typer.Option("--id", metavar="N", help="The number of this node.", show_default=False)
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="DIR", help="Its directory: no other node's.", show_default=False
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where nodes and clients connect."),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="N=HOST:PORT", help="Another node; repeat it for each."),
    ] = None,
    local: Annotated[
        str | None,
        typer.Option("--socket", metavar="PATH", help="A Unix socket for our own clients."),
    ] = None,
    election_timeout: Annotated[
        float | None,
        Duration(
            "--election-timeout",
            help="Silence of a leader, up to twice this, before another is elected."
            "  [default: 500ms]",
        ),
    ] = None,
    idle: Annotated[
        float | None, Duration("--idle", help="End when nobody has used it for so long.")
    ] = None,
    detach: Annotated[
        str | None,
        typer.Option(
            "--detach",
            metavar="LOG",
            help="Serve in the background, and return when it does; what it says goes to LOG.",
        ),
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Run one node until SIGTERM or SIGINT.

    All nodes name each other and have the same numbers for good; a majority must run. Alone, a node
    is a cluster of one. Its directory keeps what it has promised: a node that lost it, or was given
    an older copy, must not come back. Without TLS whoever reaches the port can do anything. Renewed
    certificates are taken in by the next connection, or at SIGHUP.
    """
    import asyncio
    import os

    from electctl.raft.io.server import Node

    frame = Frame.of(ctx)
    os.umask(0o077)  # not one that shuts us out of our own store, or lets others in
    config = _config(
        number, data, listen, peers or [], local,
        _ELECTION_TIMEOUT if election_timeout is None else election_timeout, idle,
        _tls(tls_ca, tls_cert, tls_key),
    )  # fmt: skip
    serving = _nothing if detach is None else _detach(frame, detach)
    journal = _Journal(frame, number)
    try:
        asyncio.run(Node(config, journal).run(serving))
    finally:
        journal.flush()


@app.command("status", cls=Command, epilog=STATUS)
def status(
    ctx: typer.Context,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node", metavar="HOST:PORT", help="A node, or the path of its socket; repeatable."
        ),
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Show how each node is, as it says itself.

    The exit code is 0 if a node leads a majority, 1 if none does, 69 if no node answers.
    """
    frame = Frame.of(ctx)
    tls = _tls(tls_ca, tls_cert, tls_key)
    addresses = [_place(text) for text in nodes or []]
    if not addresses:
        addresses, tls = _of_backend(frame, tls)
    asked = _ask_all(addresses, tls)
    if frame.json:
        for address, answer in asked:
            frame.emit(_as_dict(address, answer))
    else:
        frame.print_table(_HEADS, [_row(address, answer) for address, answer in asked])
    answers = [answer for _, answer in asked if not isinstance(answer, Unreachable)]
    if not answers:
        raise Unreachable(
            "no node answers",
            hint="electctl raft serve runs one; whichever command needs local: starts it",
        )
    if not any(answer.ready for answer in answers):
        raise Negative("no node leads a majority", hint="a majority must run and reach each other")


@app.command("stop", cls=Command, epilog=STOP)
def stop(ctx: typer.Context) -> None:
    """Stop the embedded server, which serves local: on this machine.

    It ends by itself when nobody uses it, and whoever needs it starts it again: those who lead or
    wait do so at once, and go on. Nothing that was committed is lost. 1 if it does not run.
    """
    from electctl.raft.io.local import LocalServer

    frame = Frame.of(ctx)
    pid = LocalServer().stop()
    frame.note(f"the embedded server, process {pid}, has ended")


# serve -------------------------------------------------------------------------------------------


def _nothing() -> None:
    """Nobody waits to be told."""


def _detach(frame: Frame, path: str) -> Callable[[], None]:
    from pathlib import Path

    from electctl.raft.io.detach import detach, open_log
    from electctl.raft.io.inherited import shed

    kept = shed()
    log = open_log(Path(path).absolute())
    serving = detach(log)
    frame.stderr = log
    for burden in kept:
        frame.note(f"warning: this server keeps what it was started with: {burden}")
    return serving


class _Journal:
    """Lines on stderr: for people, or JSON. Whoever reads them, or does not, delays no node."""

    def __init__(self, frame: Frame, number: int) -> None:
        from electctl.cli.lines import Destination, LineWriter

        self._frame = frame
        self._number = number
        self._lines = LineWriter(Destination(frame.stderr.fileno()))

    def __call__(self, event: str, text: str, detail: bool) -> None:
        from electctl.base.clock import timestamp

        frame = self._frame
        if frame.quiet or (detail and not frame.verbose):
            return
        if frame.json:
            line = {"ts": timestamp(), "event": event, "node": self._number, "message": text}
            self._lines.put(render.json_line(line))
        else:
            said = render.message_text(f"{timestamp()} node {self._number}: {text}")
            self._lines.put(f"electctl: {said}\n")

    def flush(self) -> None:
        self._lines.flush()


def _config(
    number: int,
    data: str,
    listen: str | None,
    peers: list[str],
    local: str | None,
    election_timeout: float,
    idle: float | None,
    tls: Tls | None,
) -> NodeConfig:
    from pathlib import Path

    from electctl.raft.io.server import NodeConfig

    _check_number("--id", str(number))
    others: dict[int, tuple[str, int]] = {}
    for text in peers:
        name, equals, place = text.partition("=")
        if not equals:
            raise UsageError(f"--peer: {text!r} is not N=HOST:PORT", hint=_PEER_HINT)
        peer = _check_number("--peer", name)
        if peer == number:
            raise UsageError(f"--peer: node {peer} is this node", hint="name the others only")
        if peer in others:
            raise UsageError(f"--peer: node {peer} is named twice", hint="name each once")
        others[peer] = _address("--peer", place)
    if len(set(others.values())) < len(others):
        raise UsageError("--peer: two nodes have one address", hint="each has its own")
    if others and listen is None:
        raise UsageError(
            "--peer needs --listen: the others must reach us", hint="--listen HOST:PORT"
        )
    if listen is None and local is None:
        raise UsageError("nobody could connect", hint="--listen HOST:PORT, or --socket PATH")
    if not 0.05 <= election_timeout <= 60:
        raise UsageError("--election-timeout must be from 50ms to 1m", hint="as in 500ms")
    if idle is not None and others:
        raise UsageError("--idle is for a node without peers", hint="leave one of them out")
    return NodeConfig(
        number,
        Path(data).absolute(),
        None if listen is None else _address("--listen", listen),
        None if local is None else Path(local).absolute(),
        others,
        election_timeout,
        idle,
        tls,
    )


def _check_number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_NUMBER):
        raise UsageError(
            f"{option}: {text!r} is not the number of a node", hint=f"from 1 to {_MAX_NUMBER}"
        )
    return int(text)


def _address(option: str, text: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise UsageError(f"{option}: {text!r} is not HOST:PORT", hint="as in 127.0.0.1:7400")
    host = match[1] or match[2]
    check_host(host)
    return host, int(match[3])


def _tls(ca: str | None, cert: str | None, key: str | None) -> Tls | None:
    if ca is None and cert is None and key is None:
        return None
    if ca is None or cert is None or key is None:
        raise UsageError(
            "--tls-ca, --tls-cert and --tls-key go together", hint="nodes and clients show both"
        )
    from electctl.raft.io.tls import Tls

    return Tls(ca, cert, key)


# status ------------------------------------------------------------------------------------------


def _place(text: str) -> Address:
    from pathlib import Path

    return Path(text) if "/" in text else _address("--node", text)


def _of_backend(frame: Frame, tls: Tls | None) -> tuple[list[Address], Tls | None]:
    from electctl.core import registry

    urls = frame.settings.backend_urls()
    found: list[Address] = []
    for url in urls:
        if url.scheme == "local":
            found.append(_embedded(frame))
            continue
        if url.scheme not in ("raft", "rafts"):
            raise UsageError(
                f"{url.scheme}:// is not a cluster of electctl raft", hint="-b raft://HOST:PORT"
            )
        url.check_options(registry.plugin(url.scheme).options)
        for host, port in url.hosts:
            if port is None:
                raise UsageError(f"{url.masked()} names a host without a port", hint=_PEER_HINT)
            found.append((host, port))
        if url.scheme == "rafts":
            options = url.options
            tls = tls or _tls(options.get("ca"), options.get("cert"), options.get("key"))
            if tls is None:
                raise UsageError(
                    "rafts:// needs certificates",
                    hint="rafts://HOST:PORT?ca=FILE&cert=FILE&key=FILE",
                )
    if not found:
        raise UsageError("the URL names no node", hint="-b raft://HOST:PORT,HOST:PORT")
    return found, tls


def _embedded(frame: Frame) -> Address:
    from electctl.raft.io.local import LocalServer

    server = LocalServer()
    if (pid := server.pid()) is not None:
        frame.note(f"the embedded server is process {pid}; its log is {server.log}")
    return server.address


def _ask_all(
    addresses: list[Address], tls: Tls | None
) -> list[tuple[str, NodeStatus | Unreachable]]:
    """Every node at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    from electctl.raft.io.status import ask_status

    def ask(address: Address) -> NodeStatus | Unreachable:
        try:
            return ask_status(address, _PATIENCE, tls)
        except Unreachable as error:
            return error

    with ThreadPoolExecutor(len(addresses)) as pool:
        return list(zip(map(_shown, addresses), pool.map(ask, addresses), strict=True))


def _shown(address: Address) -> str:
    if not isinstance(address, tuple):
        return str(address)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _row(address: str, answer: NodeStatus | Unreachable) -> list[str]:
    if isinstance(answer, Unreachable):
        return ["", address, f"silent: {answer.message}", *[""] * (len(_HEADS) - 3)]
    numbers = (
        answer.commit, answer.applied, answer.last_index, answer.snapshot_index,
        answer.sessions, answer.elections,
    )  # fmt: skip
    leader = "" if answer.leader is None else str(answer.leader)
    reached = f"{len(answer.reached)} of {len(answer.voters) - 1}"
    return [
        str(answer.number), address, answer.role, str(answer.term), leader,
        *map(str, numbers), reached,
    ]  # fmt: skip


def _as_dict(address: str, answer: NodeStatus | Unreachable) -> dict[str, Any]:
    from msgspec.structs import asdict

    if isinstance(answer, Unreachable):
        return {"address": address, "reachable": False, "cause": answer.message}
    found = asdict(answer)
    del found["id"]
    return {"address": address, "reachable": True, **found}


_PEER_HINT = "as in 2=127.0.0.1:7400"
