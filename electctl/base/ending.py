"""Ending by a signal, so that whoever waits for this process sees that it was interrupted.

What this does not guarantee: that the signal ends it, which no default action does to PID 1 of a
container; it then exits with 128 + n, as a shell would say it.

Why a program that the user interrupts must die of it: https://www.cons.org/cracauer/sigint.html
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def die_of(signum: int) -> NoReturn:
    """Flush the standard streams, and die of ``signum``, without a core file."""
    import resource

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # there is nobody left to tell
            stream.flush()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getsid(0) == os.getpid():
        os._exit(128 + signum)  # nobody's loop runs us: we are all that there is on that terminal
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)
