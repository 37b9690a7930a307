"""An interactive shell on a terminal of its own, and somebody who types there."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from types import TracebackType
from typing import Self

from electctl.base.clock import now
from tests.processes import DEADLINE

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
PROMPT = "ready> "


class Terminal:
    """``argv`` in a session of its own, on a new terminal, which is its controlling one.

    Without ``argv`` it is bash with job control.
    """

    def __init__(self, env: Mapping[str, str], cwd: str, argv: Sequence[str] = ()) -> None:
        self.main, side = pty.openpty()
        self.resize(24, 100)
        shell = ("bash", "--norc", "--noprofile", "--noediting", "-i")
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *(argv or shell)],
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=cwd,
            env={**env, "TERM": "xterm", "PS1": PROMPT},
        )
        os.close(side)
        #: All that it has shown, and up to where it has been looked at.
        self.shown = ""
        self._seen = 0
        if not argv:
            self.wait(PROMPT)

    def keys(self, text: str) -> None:
        """Keys, as they are."""
        os.write(self.main, text.encode())

    def run(self, line: str) -> str:
        """A whole command line, up to the next prompt; what it shows."""
        self.keys(f"{line}\n")
        return self.wait(PROMPT)

    def read(self, within: float) -> bool:
        """Take in what is shown now; False if nothing comes within that time, or all is over."""
        if not select.select([self.main], [], [], within)[0]:
            return False
        try:
            self.shown += os.read(self.main, 65536).decode(errors="replace")
        except OSError:  # EIO is how Linux says that the other side has closed
            return False
        return True

    def wait(self, text: str) -> str:
        """What is shown from where the last wait ended until ``text``, and it."""
        end = now() + DEADLINE
        while (at := self.shown.find(text, self._seen)) < 0:
            self.read(0.1)
            assert now() < end, f"{text!r} is not shown: {self.shown[self._seen :]!r}"
        found = self.shown[self._seen : at + len(text)]
        self._seen = at + len(text)
        return found

    @property
    def on_other_screen(self) -> bool:
        """Whether the last change of screens led to the other one."""
        return self.shown.rfind(ENTER) > self.shown.rfind(LEAVE)

    @property
    def hides_cursor(self) -> bool:
        """Whether the cursor is hidden."""
        return self.shown.rfind("\x1b[?25l") > self.shown.rfind("\x1b[?25h")

    def resize(self, rows: int, columns: int) -> None:
        """Another size of the window."""
        ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """The window is closed."""
        if self.main >= 0:
            os.close(self.main)
            self.main = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(DEADLINE / 4)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
