"""Where a campaign's events go: stderr as sentences or JSON lines, and the ``--events`` file.

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
from typing import TYPE_CHECKING, NamedTuple

from electctl.campaign import inherited
from electctl.campaign.workers import start_thread
from electctl.cli.render import error_lines, message_text
from electctl.errors import UsageError
from electctl.record.events import DETAILS, Event, sentence

if TYPE_CHECKING:
    from electctl.cli.frame import Frame

#: Lines that wait for a reader at most.
_BACKLOG = 10_000
#: Seconds that the end of a campaign waits for its lines to be written.
_LAST_WORDS = 2.0
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


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
            fresh = os.open(self._path, _APPEND, 0o666)
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


def open_events(spec: str) -> Destination:
    """What ``--events PATH|fd:N`` names, ours alone above 2. Raises UsageError."""
    try:
        if spec.startswith("fd:"):
            fd = int(spec[3:])
            os.fstat(fd)
            inherited.claim(f"/dev/fd/{fd}")
            return Destination(fd)
        inherited.claim(spec)
        return Destination(os.open(spec, _APPEND, 0o666), spec)
    except (ValueError, OverflowError):
        raise UsageError(f"--events {spec}: no file descriptor", hint="as in fd:3") from None
    except OSError as error:
        raise UsageError(
            f"--events {spec}: it cannot be written: {error.strerror}",
            hint="a file to append to, or fd:N for an open file descriptor",
        ) from None


class Output:
    """Takes every event of a campaign. ``events`` is what ``--events`` names."""

    def __init__(self, frame: Frame, events: Destination | None) -> None:
        self._frame = frame
        self._messages = LineWriter(Destination(frame.stderr.fileno()))
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
