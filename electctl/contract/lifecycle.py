"""What must run while somebody campaigns: started with the first, stopped after the last.

What this does not guarantee: that it is stopped when the process is killed. What runs outside this
process must end by itself then, as the embedded server of ``local:`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Campaigning:
    """Counts those who campaign over one backend. From any thread."""

    def __init__(self, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._start = start
        self._stop = stop
        self._stays = 0
        #: Held while it starts and stops: who comes meanwhile waits for what comes of it.
        self._lock = threading.Lock()

    def enter(self) -> Stay:
        """Have it run until the stay ends. Raises what starting it raises; then nothing runs."""
        with self._lock:
            if not self._stays:
                self._start()
            self._stays += 1
        return Stay(self._leave)

    def _leave(self) -> None:
        with self._lock:
            self._stays -= 1
            if not self._stays:
                self._stop()


class Stay:
    """One who campaigns. :meth:`end` it once the candidacy is closed; again does nothing."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        #: Taken by the first end, and never given back.
        self._ended = threading.Lock()

    def end(self) -> None:
        """From any thread."""
        if self._ended.acquire(blocking=False):
            self._leave()
