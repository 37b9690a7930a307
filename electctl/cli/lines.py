"""Lines for a terminal, a pipe or a file, written where that delays nobody.

What this does not guarantee: that a reader who stops reading gets everything. Each destination has
a thread of its own, so that a terminal or a pipe that is stuck never delays a deadline; what does
not fit into its queue is dropped, and what is not written in time at the end is lost.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import stat
import threading
from contextlib import suppress
from typing import NamedTuple

from electctl.campaign.workers import start_thread

#: How a file is opened that lines are appended to.
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
#: Lines that wait for a reader at most.
_BACKLOG = 10_000
#: Seconds that the end waits for its lines to be written.
_LAST_WORDS = 2.0


class Destination(NamedTuple):
    """Where lines go. ``path`` is what the descriptor was opened by, if it was by us."""

    fd: int
    path: str | None = None


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own, made at once.

    A descriptor that another process has made non-blocking and filled is waited for; what cannot
    be written for another reason is lost, and the next line is tried all the same. A file that was
    removed or renamed, as what cleans up or rotates logs does, is begun anew under its name. Raises
    CannotRun where the system gives us no thread.
    """

    def __init__(self, to: Destination) -> None:
        self._fd, self._path = to
        self._lines: queue.Queue[str | None] = queue.Queue(_BACKLOG)
        self._written = threading.Event()
        self.error: OSError | None = None
        start_thread(self._run, f"lines-{self._fd}")

    def put(self, line: str) -> None:
        """Write ``line`` soon. Never blocks."""
        with suppress(queue.Full):
            self._lines.put_nowait(line)

    def flush(self) -> None:
        """Wait for what was put, at most :data:`_LAST_WORDS` seconds; nothing may be put after."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._written.wait(_LAST_WORDS)

    def _run(self) -> None:
        # No message of ours stops us, or the command with us, in the background (stty tostop).
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        cut = b""
        while (line := self._lines.get()) is not None:
            data = whole = line.encode(errors="backslashreplace")
            try:
                self._follow()
                while cut:
                    cut = self._write(cut)
                while data:
                    data = self._write(data)
            except OSError as error:
                self.error = error
                if data != whole:
                    cut = b"\n"  # no other line goes on where this one was cut off
        self._written.set()

    def _follow(self) -> None:
        """Append to what has the name of our file now, if it is another or none."""
        ours = os.fstat(self._fd)
        if self._path is None or not stat.S_ISREG(ours.st_mode):
            return
        try:
            there = os.stat(self._path)
            if os.path.samestat(there, ours) or not stat.S_ISREG(there.st_mode):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        with suppress(OSError):  # no directory, no descriptor: the old file is better than none
            fresh = os.open(self._path, APPEND, 0o666)
            os.dup2(fresh, self._fd, inheritable=False)
            os.close(fresh)

    def _write(self, data: bytes) -> bytes:
        """Write some of it; what is left."""
        try:
            return data[os.write(self._fd, data) :]
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(self._fd, select.POLLOUT)
            waiting.poll()
            return data
