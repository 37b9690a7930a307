"""Where a campaign's events go: stderr as sentences or JSON lines, and the ``--events`` file.

What this does not guarantee: that a reader who stops reading gets everything. Each destination has
a thread of its own, so that a terminal or a pipe that is stuck never delays a deadline; what does
not fit into its queue is dropped, and what is not written in time at the end is lost.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from electctl.cli.render import error_lines, message_text
from electctl.errors import UsageError
from electctl.events import DETAILS, Event, sentence

if TYPE_CHECKING:
    from electctl.cli.frame import Frame

#: Lines that wait for a reader at most.
_BACKLOG = 10_000
#: Seconds that the end of a campaign waits for its lines to be written.
_LAST_WORDS = 2.0


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(_BACKLOG)
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None

    def put(self, line: str) -> None:
        """Write ``line`` soon. Never blocks."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            return

    def flush(self) -> None:
        """Wait for what was put, at most :data:`_LAST_WORDS` seconds; nothing may be put after."""
        if self._thread is not None:
            try:
                self._lines.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            data = line.encode(errors="backslashreplace")
            try:
                while data and self.error is None:
                    data = data[os.write(self._fd, data) :]
            except OSError as error:
                self.error = error


def open_events(spec: str) -> int:
    """The file descriptor for ``--events PATH|fd:N``, not to be inherited. Raises UsageError."""
    try:
        if spec.startswith("fd:"):
            fd = int(spec[3:])
            os.fstat(fd)
            if fd > 2:
                os.set_inheritable(fd, False)
            return fd
        return os.open(spec, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except (ValueError, OverflowError):
        raise UsageError(f"--events {spec}: no file descriptor", hint="as in fd:3") from None
    except OSError as error:
        raise UsageError(
            f"--events {spec}: it cannot be written: {error.strerror}",
            hint="a file to append to, or fd:N for an open file descriptor",
        ) from None


class Output:
    """Takes every event of a campaign. ``events`` is the file descriptor of ``--events``."""

    def __init__(self, frame: Frame, events: int | None) -> None:
        self._frame = frame
        self._messages = LineWriter(frame.stderr.fileno())
        self._events = None if events is None else LineWriter(events)
        self._last = ""

    def tell(self, event: Event) -> None:
        """Write it wherever it belongs. Never blocks."""
        verbose = self._frame.verbose > 0
        wanted = verbose or event.event != "renewed"
        if self._events is not None and wanted:
            self._events.put(event.as_line(recorded=True))
        if self._frame.json:
            if wanted:
                self._messages.put(event.as_line(recorded=True))
        elif not self._frame.quiet and (verbose or self._is_news(event)):
            self._messages.put(f"electctl: {message_text(sentence(event))}\n")
        self._last = event.event

    def _is_news(self, event: Event) -> bool:
        """In an outage a renewal fails five times a second: people hear of the first."""
        again = event.event == self._last == "renewal_failed"
        return event.event not in DETAILS and not again

    def conclude(self, message: str, hint: str | None, *, told: bool, failed: bool) -> None:
        """How it ended, for people, unless an event said so; with -q only if it failed."""
        if failed if self._frame.quiet else not told:
            self.complain(message, hint)

    def complain(self, message: str, hint: str | None) -> None:
        """An error, for people; with ``--json`` the events say what there is to say."""
        if not self._frame.json:
            self._messages.put(error_lines(message, hint))

    def flush(self) -> None:
        """Wait until it is all written, within reason."""
        error = None
        if self._events is not None:
            self._events.flush()
            error = self._events.error
        if error is not None:
            self.complain(f"--events: events are missing: {error.strerror}", None)
        self._messages.flush()
