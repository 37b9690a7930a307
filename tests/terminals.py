"""A real shell, or any program, on a pseudo-terminal of its own, and somebody who types there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from electctl.base.clock import now
from electctl.campaign import procfs
from tests.processes import DEADLINE

#: A line of its own, so that what comes next begins a line also if it was typed ahead.
PROMPT = "shell>\n"
SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i")


class Screen:
    """What is typed, and what is seen."""

    def __init__(self, pid: int, master: int) -> None:
        #: The program on the terminal, the leader of its session.
        self.pid = pid
        self._master = master
        self.text = ""
        self._seen = 0

    def type(self, keys: str) -> None:
        """Type; a line ends with "\\n"."""
        os.write(self._master, keys.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for what matches after all that was expected before."""
        until = now() + DEADLINE
        expression = re.compile(pattern, re.MULTILINE)
        while not (found := expression.search(self.text, self._seen)):
            left = until - now()
            assert left > 0, f"no {pattern!r} in {self.text[self._seen :]!r} of {self.text!r}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    read = os.read(self._master, 65536)
                except OSError:
                    read = b""
                assert read, f"no {pattern!r} until the end of {self.text!r}"
                self.text += read.decode(errors="replace").replace("\r", "")
        self._seen = found.end()
        return found

    def run(self, line: str, pattern: str) -> re.Match[str]:
        """At the prompt, give a command, and wait for what it is to print."""
        self.type(line + "\n")
        return self.expect(pattern)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def foreground(self) -> int:
        """The process group that owns the terminal."""
        return os.tcgetpgrp(self._master)

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown, as is usual."""
        modes: list[int] = termios.tcgetattr(self._master)
        return bool(modes[3] & termios.ECHO)


@contextmanager
def screen(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Screen]:
    """Run a program on a terminal; at the end nothing of its session is left."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.execvpe(argv[0], list(argv), {**env, "PS1": PROMPT, "TERM": "dumb"})
        finally:
            os._exit(127)
    try:
        yield Screen(pid, master)
    finally:
        session = [p.pid for p in map(procfs.read, _all()) if p is not None and p.session == pid]
        for member in session:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        os.close(master)
        os.waitpid(pid, 0)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
