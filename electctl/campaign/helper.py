"""How electctl forks its helpers, the guardian and the releaser: without exec, signals blocked.

What this does not guarantee: that a library survives it. It is done before any thread exists and
any client library is imported.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Callable

from electctl.errors import CannotRun

#: The exit status of a helper that has failed.
FAILED = 70


def fork(name: str, run: Callable[[], None]) -> int:
    """Run a function in a child, with all signals blocked; its id. Raises CannotRun.

    The child's exit status is :data:`FAILED` if the function raises; to say why is its own affair.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            # Garbage of ours that owns a descriptor would close, when it is collected there, what
            # the child has since opened under the same number.
            gc.freeze()
            status = FAILED
            try:
                run()
                status = 0
            finally:
                os._exit(status)
    except OSError as error:
        raise CannotRun(f"cannot fork the {name} process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def describe(error: BaseException) -> str:
    """The fault and where it is, in one line, without a value of any variable."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{error!r} at {where}"


def close_all_but(*kept: int) -> None:
    """Close all but standard input, output and error, and ``kept``."""
    try:
        # A million calls are saved where the limit is high and close_range(2) is not there.
        highest = 1 + max(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        highest = os.sysconf("SC_OPEN_MAX")
    low = 3
    for handle in sorted({*kept, highest}):
        os.closerange(low, handle)
        low = max(low, handle + 1)
