"""``electctl sweep``: remove what elections that are over have left in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.cli.render import shown
from electctl.cli.targets import prepare
from electctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from electctl.contract.backend import Backend, Leftover
    from electctl.contract.url import BackendURL

app = new_app()

EXAMPLES = """
electctl sweep redis://127.0.0.1:6379/0
electctl sweep redis://127.0.0.1:6379/0 --older-than 90d --yes
"""
DEFAULT_AGE = 30 * 86_400.0
_HEADS = ("ELECTION", "LAST USED", "WHAT IS LEFT", "")
_ROWS = 1000
#: Removals that are asked for at a time.
_AT_A_TIME = 16


@app.command("sweep", cls=Command, epilog=EXAMPLES)
def sweep(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="The store; or -b URL.", show_default=False),
    ] = None,
    older_than: Annotated[
        float,
        Duration("--older-than", help="Unused for at least this time. [default: 30d]"),
    ] = DEFAULT_AGE,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them. Without it nothing is changed.")
    ] = False,
) -> None:
    """Show, or with --yes remove, what elections have left that nobody has used for long.

    That is a checkpoint, a token counter or znodes, once for each name that was ever used. Never of
    an election that is led or awaited, nor of one that is used while this runs. A done-mark of
    campaign --once is a checkpoint, and goes with it. Tokens go on growing if a name comes back.
    """
    from electctl.core.registry import open_backend

    frame = Frame.of(ctx)
    chosen = _url(frame, url)
    prepare(frame, chosen)
    with open_backend(chosen) as backend:
        found, removed, unknown = _each(frame, backend, chosen, older_than, yes)
    if unknown:
        frame.note(f"{unknown} elections are left alone: it is not known when they were used")
    if found and not yes:
        frame.note(f"nothing was changed; --yes removes what {found} elections have left")
    elif found:
        frame.note(f"removed what {removed} of {found} elections have left")
    else:
        frame.note("nothing is left that is old enough")


def _url(frame: Frame, text: str | None) -> BackendURL:
    from electctl.contract.url import BackendURL

    if text is not None:
        if frame.backends:
            raise UsageError("the store is named twice", hint="electctl sweep URL, or -b URL")
        return BackendURL.parse(text)
    urls = frame.settings.backend_urls()
    if len(urls) > 1:
        raise UsageError(
            f"{len(urls)} backends are named, and one is swept at a time", hint="electctl sweep URL"
        )
    return urls[0]


def _each(
    frame: Frame, backend: Backend, url: BackendURL, older_than: float, yes: bool
) -> tuple[int, int, int]:
    """Show and remove; how many were old enough, were removed, and have no known age."""
    import time

    before = time.time() - older_than
    rows: list[list[str]] = []
    found = removed = unknown = 0

    def old() -> Iterator[Leftover]:
        nonlocal unknown
        for leftover in backend.leftovers():
            if leftover.last_used is None:
                unknown += 1
            elif leftover.last_used <= before:
                yield leftover

    swept = _sweep(backend, old()) if yes else ((leftover, None) for leftover in old())
    for leftover, gone in swept:
        found += 1
        removed += bool(gone)
        if frame.json:
            frame.emit(_as_dict(leftover, url, gone))
            continue
        rows.append(_row(leftover, gone))
        if len(rows) == _ROWS:
            frame.print_table(_HEADS, rows)
            rows = []
    if rows:
        frame.print_table(_HEADS, rows)
    return found, removed, unknown


def _sweep(
    backend: Backend, leftovers: Iterator[Leftover]
) -> Iterator[tuple[Leftover, bool | None]]:
    """Remove them, several at a time: a store that writes to a disk takes these in one go."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    asked: deque[tuple[Leftover, Future[bool]]] = deque()
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for leftover in leftovers:
            asked.append((leftover, pool.submit(backend.sweep, leftover)))
            if len(asked) == _AT_A_TIME:
                first, answer = asked.popleft()
                yield first, answer.result()
        for leftover, answer in asked:
            yield leftover, answer.result()


def _as_dict(leftover: Leftover, url: BackendURL, gone: bool | None) -> dict[str, object]:
    return {
        "election": leftover.election,
        "backend": url.scheme,
        "url": url.masked(),
        "last_used": _time(leftover),
        "what": list(leftover.what),
        "removed": gone,
    }


def _row(leftover: Leftover, gone: bool | None) -> list[str]:
    used = _time(leftover)[:10]
    outcome = {None: "", True: "removed", False: "used again, left alone"}[gone]
    return [shown(leftover.election), used, ", ".join(leftover.what), outcome]


def _time(leftover: Leftover) -> str:
    from datetime import UTC, datetime

    assert leftover.last_used is not None, "its age is not known"
    stamp = datetime.fromtimestamp(leftover.last_used, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
