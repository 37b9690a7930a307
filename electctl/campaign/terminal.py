"""The controlling terminal, which electctl shares with its command as env(1) and flock(1) do.

Where there is one, the command stays in electctl's session and process group: it can open /dev/tty,
what is typed reaches it only in the foreground, Ctrl-C and Ctrl-Z reach both at once, from the
kernel, and a shell that is the command has job control. Where there is none, the command gets a
session of its own.

What this does not guarantee: anything about the terminal once electctl itself was killed; the modes
that a command has set and left at an end of its own, which are its own affair, as elsewhere.

For the rules of the kernel see credentials(7) and setpgid(2), for what a shell does "Implementing a
Shell" in the manual of the GNU C library.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from electctl.campaign import procfs


class Terminal:
    """Our controlling terminal, while a command may use it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._group = os.getpgrp()
        #: Its modes when it was lent; None if it was not ours to lend.
        self._modes: list[Any] | None = None

    @classmethod
    def open(cls) -> Terminal | None:
        """The controlling terminal; None if there is none, or if processes cannot be told apart.

        For that Linux and its /proc are needed: a group that is shared cannot be killed as a whole,
        and only signalfd(2) tells who has sent a signal.
        """
        if procfs.method()[0] not in ("children", "walk"):
            return None
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return None

    def lend(self) -> None:
        """A command is about to start: remember the terminal's modes, if it is ours to lend."""
        import termios

        self._modes = None
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == self._group:
                self._modes = termios.tcgetattr(self._fd)

    def take_back(self, *, killed: bool) -> None:
        """The command is gone: our group gets the foreground back if its owner is gone with it.

        If it was ``killed``, it could not restore the modes of the terminal, and they become what
        they were. Does nothing if the command started in the background.
        """
        import termios

        if self._modes is None:
            return
        with suppress(OSError, termios.error), _background_allowed():
            if _is_empty(os.tcgetpgrp(self._fd)):
                os.tcsetpgrp(self._fd, self._group)
            if killed and os.tcgetpgrp(self._fd) == self._group:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)

    def reached(self, pid: int) -> bool:
        """Whether what the kernel sends to our process group reaches this process too."""
        try:
            return os.getpgid(pid) == self._group
        except ProcessLookupError:
            return False


def step_aside(*, terminal: bool) -> None:
    """In the guardian: leave electctl's process group, whose signals are not meant for it.

    With a ``terminal`` it must stay in the session, or its child could not be in it. Its own group
    would make of a group that nobody could continue (the kernel then ignores Ctrl-Z) one that can
    be stopped, because its parent lives in the same session; so there it stays, with all signals
    blocked.
    """
    if not terminal:
        os.setsid()
    elif not _is_orphaned():
        os.setpgid(0, 0)


def is_foreground() -> bool:
    """Whether our process group owns the terminal, so that Ctrl-C is meant for it."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _is_orphaned() -> bool:
    """Whether no ancestor is in our session and outside our process group, as a shell would be."""
    group, session = os.getpgrp(), os.getsid(0)
    process = procfs.read(os.getppid())
    while process is not None and process.session == session:
        if process.group != group:
            return False
        process = procfs.read(process.parent)
    return True


def _is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def _background_allowed() -> Iterator[None]:
    """Whoever changes a terminal from the background is stopped, unless this signal is blocked."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
