"""Where a campaign's events go: stderr as sentences or JSON lines, and the ``--events`` file.

What this does not guarantee: that a reader who stops reading gets everything
(:mod:`electctl.cli.lines`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from electctl.campaign import inherited
from electctl.cli.lines import APPEND, Destination, LineWriter
from electctl.cli.render import error_lines, message_text
from electctl.errors import UsageError
from electctl.record.events import DETAILS, Event, sentence

if TYPE_CHECKING:
    from electctl.cli.frame import Frame


def open_events(spec: str) -> Destination:
    """What ``--events PATH|fd:N`` names, ours alone above 2. Raises UsageError."""
    try:
        if spec.startswith("fd:"):
            fd = int(spec[3:])
            os.fstat(fd)
            inherited.claim(f"/dev/fd/{fd}")
            return Destination(fd)
        inherited.claim(spec)
        return Destination(os.open(spec, APPEND, 0o666), spec)
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
