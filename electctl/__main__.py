"""``electctl`` and ``python -m electctl``: the one place where errors become exit codes.

``--version`` and ``check`` do not load the command line's library: ``check`` runs in the loops of
other people's scripts.

What this does not guarantee: an exit code of its own for each cause; DESIGN's table is shared by
all commands, and a command that campaign ran has its own code.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from electctl.base import deferral
from electctl.campaign import inherited

_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h(3head)
_IO_ERROR = 74  # EX_IOERR
_INTERRUPTED = 130  # 128 + SIGINT
_CLOSED_PIPE = 141  # 128 + SIGPIPE, as a shell shows a program that the signal ended


#: New objects after which the garbage collector looks for cycles. At the usual 700 it looks over a
#: hundred times while modules are loaded, finds nothing, and takes a tenth of the start.
_FEW_COLLECTIONS = 50_000


def main() -> NoReturn:
    """The console script."""
    inherited.record()
    gc.set_threshold(_FEW_COLLECTIONS)
    deferral.enabled = True
    _mend_streams()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        _interrupted()
        code = _INTERRUPTED
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    _leave(code)


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code; every error is one line and a hint.

    KeyboardInterrupt and SystemExit are the caller's.
    """
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
        return _CLOSED_PIPE
    except OSError as error:
        # What a command expects it has mapped; this is a full disk under stdout and the like.
        _discard_output()
        return _complain(f"{error.strerror}{_of_file(error)}", _cure(error), _IO_ERROR)


def _run(argv: list[str]) -> int:
    if argv == ["--version"]:
        from electctl import __version__

        sys.stdout.write(f"electctl {__version__}\n")
        return 0
    from electctl.errors import ElectctlError

    try:
        if argv in (["check"], ["check", "--json"]):
            from electctl.campaign.ask import check_main

            return check_main(as_json=len(argv) == 2)
        from electctl.cli.app import invoke

        return invoke(argv)
    except ElectctlError as error:
        return _complain(error.message, error.hint, error.exit_code)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        return _complain(
            f"internal error: {type(error).__name__}: {error}",
            "set ELECTCTL_DEBUG=1 for the traceback, and report it",
            _INTERNAL_ERROR,
        )


def _interrupted() -> None:
    """Die of a Ctrl-C as other programs do, so that a loop of the user's shell ends with us."""
    import signal

    from electctl.base.ending import die_of
    from electctl.campaign import terminal

    if terminal.is_foreground():
        die_of(signal.SIGINT)


def _complain(message: str, hint: str | None, code: int) -> int:
    from electctl.cli.render import error_lines

    if os.environ.get("ELECTCTL_DEBUG"):
        import traceback

        traceback.print_exc()
    sys.stderr.write(error_lines(message, hint))
    return code


def _of_file(error: OSError) -> str:
    return "" if error.filename is None else f": {error.filename}"


def _cure(error: OSError) -> str:
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "does it belong to another user?"
        case errno.EMFILE | errno.ENFILE:
            return "ulimit -n raises the number of open files"
        case _:
            return "is there space left?"


def _mend_streams() -> None:
    """Streams that the caller closed become /dev/null; what cannot be encoded is escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we run
        getattr(sys, name).reconfigure(errors="backslashreplace")


def _leave(code: int) -> NoReturn:
    """End at once: to take the interpreter apart takes as long as a quarter of the start.

    Nothing is left to it here: every command closes what it has opened, and threads that still
    live are daemons, which the interpreter would stop just as abruptly.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # there is nobody left to tell
            stream.flush()
    os._exit(code)


def _discard_output() -> None:
    """Whatever flushes stdout once more would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
