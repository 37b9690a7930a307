"""The terminal under a live table: its other screen, its modes, its signals and its keys.

What is changed is put back at every end that a process can see, also while it is stopped (Ctrl-Z):
the screen and the cursor, echo, line mode. Signals only leave a mark here, and wake the loop that
draws; so nothing is half written when they are obeyed. Source of how to stop with a terminal in
hand: W. R. Stevens, Advanced Programming in the UNIX Environment, 10.21.

What is typed is read and dropped, as ``top`` does, and not left to the shell, which would run it; q
ends.

What this does not guarantee: anything after SIGKILL; ``reset`` helps.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import IO, Any, Self

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_QUIT = b"q"
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_OTHERS = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
#: Indices of what tcgetattr gives.
_LOCAL, _CHARS = 3, 6


def in_foreground(stream: IO[Any]) -> bool:
    """Whether we may draw on the terminal ``stream`` as we like: no shell reads there meanwhile."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:
        return True  # not our controlling terminal: nobody's job control is disturbed


class Screen:
    """The other screen of the terminal ``stream``, for as long as the block runs.

    ``wake`` is called from signal handlers, in the main thread, and must make the loop call
    :meth:`attend` soon.
    """

    def __init__(self, stream: IO[str], wake: Callable[[], None]) -> None:
        self._stream = stream
        self._fd = stream.fileno()
        self._wake = wake
        self._before: dict[int, Any] = {}
        self._modes: list[Any] | None = None
        self._shown = False
        self._ending: int | None = None
        self._stop_due = self._resume_due = self._taking = self._over = False

    def attend(self) -> bool:
        """Do what signals and keys have asked for since the last call; False once q was typed.

        Raises KeyboardInterrupt after Ctrl-C, SystemExit (128 + n) after another signal that ends.
        """
        if self._stop_due:
            self._stop_due = False
            self._stop()
        if self._ending is not None:
            self._end(self._ending)
        if self._resume_due:
            self._resume_due = False
            self._give_back()
            self._take()
        return _QUIT not in self._typed()

    def draw(self, lines: Sequence[str]) -> None:
        """Put these lines on the screen, in place of all that is there."""
        # Each line is cleared before it is written: a character in the last column is left alone.
        self._write("\x1b[H" + "\n".join(f"\x1b[2K{line}" for line in lines) + "\x1b[J")

    def __enter__(self) -> Self:
        for number in (*_ENDINGS, *_OTHERS):
            # What nohup and the like have ignored stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._mark)
        try:
            self._take()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._over = True
        with suppress(OSError, termios.error):  # the terminal itself has gone
            self._give_back()
            if in_foreground(self._stream):
                termios.tcflush(self._fd, termios.TCIFLUSH)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    # Signals -------------------------------------------------------------------------------------

    def _mark(self, number: int, at: FrameType | None) -> None:
        if self._over:
            return  # it is being put back, and must be put back whole
        if number == signal.SIGTSTP:
            self._stop_due = True
        elif number == signal.SIGCONT:
            self._resume_due = True
        elif number in _ENDINGS:
            if self._taking or self._ending is not None:
                # In the background nothing but this ends the wait for the terminal. And who is
                # told twice may hang in whatever it does.
                self._end(number)
            self._ending = number
        self._wake()

    def _end(self, number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    def _stop(self) -> None:
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # To this thread, which therefore stops here and not some steps later.
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        if self._ending is None:
            self._take()
            self._resume_due = False

    # The terminal --------------------------------------------------------------------------------

    def _take(self) -> None:
        """First the modes: in the background that stops us, before anything is written."""
        modes = termios.tcgetattr(self._fd)
        quiet = [*modes[:_CHARS], list(modes[_CHARS])]
        quiet[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
        quiet[_CHARS][termios.VMIN], quiet[_CHARS][termios.VTIME] = 1, 0
        self._modes = modes
        self._taking = True
        self._set(quiet)
        self._taking = False
        self._shown = True
        self._write(_ENTER)

    def _give_back(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_LEAVE)
        modes, self._modes = self._modes, None
        # In the background the shell has set its own.
        if modes is not None and in_foreground(self._stream):
            self._set(modes)

    def _set(self, modes: list[Any]) -> None:
        while True:
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, modes)
            except termios.error as error:
                if error.args[0] != errno.EINTR:  # stopped by SIGTTOU, and now in the foreground
                    raise
            else:
                return

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _typed(self) -> bytes:
        """All that was typed since the last look."""
        typed = b""
        stdin = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        while stdin is not None and select.select([stdin], [], [], 0)[0]:
            chunk = os.read(stdin, 4096)
            typed += chunk
            if not chunk:
                break
        return typed
