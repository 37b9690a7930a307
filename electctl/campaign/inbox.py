"""What reaches the one thread that runs a campaign: signals, and messages from workers.

What this does not guarantee: an order between a signal and a message that come at the same time.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from electctl.campaign import inherited, signals

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: Those that tell us to stop; all others are the command's.
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Inbox:
    """Messages from workers and signals to the one thread that runs the machine."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._messages: deque[Callable[[], None]] = deque()
        self._signals: signals.Source | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reading, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._selector.fileno()

    def post(self, message: Callable[[], None]) -> None:
        """From any thread: have the main thread call ``message``."""
        self._messages.append(message)
        with suppress(BlockingIOError):  # full, so it will be read
            os.write(self._writing, b"\0")

    def take(self) -> tuple[list[signals.Caught], list[Callable[[], None]]]:
        """The signals and messages that have come."""
        with suppress(BlockingIOError):
            while os.read(self._reading, 4096):
                pass
        caught = [] if self._signals is None else self._signals.take()
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        return caught, messages

    def __enter__(self) -> Self:
        """Catch signals, except those that were ignored when we started (nohup, ``&``)."""
        self._signals = signals.catch(inherited.recorded.ignored)
        self._selector.register(self._signals, selectors.EVENT_READ)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Ignored from here on: what is left to do is to report how it ended.
        assert self._signals is not None
        self._signals.end()
