"""The report of an error that nobody foresaw: what was raised, and the term's last steps.

What this does not guarantee: that there is room for it. There is one report, the last crash's, so
that a service which crashes for ever fills no disk. It holds no value of any variable.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from contextlib import suppress

from electctl.base.clock import timestamp
from electctl.base.state import make_private, state_dir
from electctl.errors import ElectctlError, InternalError

NAME = "crash-report.txt"


def report(error: BaseException, steps: Iterable[str]) -> InternalError:
    """Write it to :data:`NAME` in the directory for state; the error that says so."""
    text = "".join(
        [
            f"electctl campaign, process {os.getpid()}, {timestamp()}\n\n",
            *traceback.format_exception(error),
            "\nthe last steps of the term, in seconds since the machine's start:\n",
            *(f"{step}\n" for step in steps),
        ]
    )
    where = None
    with suppress(OSError, ElectctlError):
        home = state_dir()
        make_private(home)
        where = home / NAME
        handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
    return InternalError(
        f"internal error: {type(error).__name__}: {error}".partition("\n")[0],
        hint="report it; ELECTCTL_STATE names a directory for the details"
        if where is None
        else f"report it, with {where}",
    )
