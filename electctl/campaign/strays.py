"""Waits for children that we never made: orphans, which Linux gives to PID 1 or to a subreaper.

What this does not guarantee: that a stray which ends is waited for at once; one that is in the way,
a child of our own that its owner has not waited for yet, is passed by until the next call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress

#: wait(2) then knows children of the calling thread alone. Orphans are given to the main thread;
#: what a worker thread has started, a client library's perhaps, is that thread's to wait for.
_WNOTHREAD = 0x20000000


def reap(ours: Collection[int]) -> None:
    """In the main thread: reap every child that has ended, but those that it has made itself."""
    if sys.platform != "linux":
        return
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT | _WNOTHREAD
    with suppress(ChildProcessError):
        while (child := os.waitid(os.P_ALL, 0, ended)) is not None and child.si_pid not in ours:
            os.waitpid(child.si_pid, os.WNOHANG)
