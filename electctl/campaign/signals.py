"""Signals as data: which came, and whether the terminal has sent it to the command as well.

What this does not guarantee: a count. A signal that comes again before it was taken comes once, as
always (signal(7)); real-time signals are counted. Nor who sent it, away from Linux.

On Linux the signals are blocked and read from a signalfd(2): nothing is lost between a look and a
sleep, nothing interrupts a call, and the kernel tells where each came from. Elsewhere there are
handlers, and a wake-up descriptor (:func:`signal.set_wakeup_fd`) for the same reason.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

#: Faults of the program itself, which end it, and what the interpreter has made an error of a call.
_FAULTS = ("SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS", "ABRT", "EMT", "PIPE", "XFSZ")
#: What stops a job takes its usual effect: it stops us with the command, and a shell sees it.
_JOB_CONTROL = ("TSTP", "TTIN", "TTOU")
_UNCATCHABLE = ("KILL", "STOP")

#: Those that the kernel sends to the foreground process group of a terminal.
_OF_TERMINALS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH})
_SI_KERNEL = 0x80

#: struct signalfd_siginfo: number, error and code, and 116 bytes more.
_INFO = struct.Struct("=Iii116x")
_WORD = 64


@dataclass(frozen=True, slots=True)
class Caught:
    """A signal that came."""

    signum: int
    #: The kernel sent it to the foreground process group: Ctrl-C, Ctrl-\\, a new size, a hang-up.
    from_terminal: bool = False


class Source(Protocol):
    """Where signals come from, from the time it is made."""

    def fileno(self) -> int:
        """Readable when there is something to take."""

    def take(self) -> list[Caught]:
        """What has come. Never blocks."""

    def end(self) -> None:
        """From here on the signals are ignored."""


def catch(ignored: Collection[int]) -> Source:
    """Catch every signal that can be caught and is none of the above, but those ``ignored``.

    Call it in the main thread, before any other is made.
    """
    others = {
        getattr(signal, f"SIG{name}", None) for name in (*_FAULTS, *_JOB_CONTROL, *_UNCATCHABLE)
    }
    wanted = signal.valid_signals() - others - set(ignored)
    if sys.platform == "linux":
        with suppress(OSError):
            return _SignalFd(wanted)
    return _Handlers(wanted)


class _SignalFd:
    def __init__(self, wanted: Collection[int]) -> None:
        import ctypes

        words = (ctypes.c_uint64 * 16)()  # sigset_t has room for 1024 signals
        for signum in wanted:
            words[(signum - 1) // _WORD] |= 1 << (signum - 1) % _WORD
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.signalfd(-1, words, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        # Threads that are made from now on inherit this, so none of them is given a signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)

    def fileno(self) -> int:
        return self._fd

    def take(self) -> list[Caught]:
        found = []
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 32 * _INFO.size):
                for signum, _, code in _INFO.iter_unpack(data):
                    found.append(Caught(signum, code == _SI_KERNEL and signum in _OF_TERMINALS))
        return found

    def end(self) -> None:
        """They stay blocked."""


class _Handlers:
    def __init__(self, wanted: Collection[int]) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._came: deque[int] = deque()
        self._wanted = wanted
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for signum in wanted:
            signal.signal(signum, lambda signum, _: self._came.append(signum))

    def fileno(self) -> int:
        return self._reading

    def take(self) -> list[Caught]:
        with suppress(BlockingIOError):
            while os.read(self._reading, 4096):
                pass
        return [Caught(self._came.popleft()) for _ in range(len(self._came))]

    def end(self) -> None:
        for signum in self._wanted:
            signal.signal(signum, signal.SIG_IGN)
