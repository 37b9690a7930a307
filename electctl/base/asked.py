"""What a command prints, asked for whenever it is needed: a secret that somebody else renews.

What this does not guarantee: that the command is harmless. It is run without a shell, in a process
group of its own, with our environment; what it writes to its standard error is shown.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress

from electctl.base.clock import now
from electctl.errors import ConfigError

#: Seconds that the command may take.
LIMIT = 5.0
#: Seconds for which an answer does for those who ask together.
KEEP = 1.0
#: Seconds that are waited for a new answer where an older one is known: longer, and a connection
#: that must be made in time would not be. The new one is then there for the next.
PATIENCE = 0.5
#: Bytes; more is no secret.
_MOST = 65_536
_PACE = 0.02
_UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}


class Asked:
    """``argv`` is run at each :meth:`get`; ``what`` names it in messages, for it may hold secrets.

    While it fails, what it printed last stays: what a store then answers tells more.
    """

    def __init__(self, argv: Sequence[str], what: str, *, limit: float = LIMIT) -> None:
        self._argv = list(argv)
        self._what = what
        self._limit = limit
        self._known: str | None = None
        self._answered_at = float("-inf")
        self._lock = threading.Lock()
        #: Set while nobody runs it.
        self._idle = threading.Event()
        self._idle.set()

    def get(self) -> str:
        """What it prints now, without the last newline. From any thread.

        Takes ``limit`` seconds at most the first time, later :data:`PATIENCE`. Raises ConfigError
        if it has never printed anything of use.
        """
        with self._lock:
            if self._known is None:
                self._known = self._run()
                self._answered_at = now()
            elif self._idle.is_set() and now() > self._answered_at + KEEP:
                self._ask_again()
        self._idle.wait(PATIENCE)
        return self._known

    def _ask_again(self) -> None:
        self._idle.clear()
        try:
            threading.Thread(target=self._renew, name="credentials", daemon=True).start()
        except RuntimeError:  # there is no thread to be had
            self._idle.set()

    def _renew(self) -> None:
        try:
            self._known = self._run()
        except ConfigError:
            pass  # what it printed last stays
        finally:
            self._answered_at = now()
            self._idle.set()

    def _run(self) -> str:
        try:
            ours, theirs = os.pipe()
        except OSError as error:
            raise self._error(f"cannot be run: {error.strerror}") from None
        try:
            pid = self._spawn(theirs)
            os.close(theirs)
            theirs = -1
            printed, status = _read(ours, pid, now() + self._limit)
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)
        if status is None:
            raise self._error(f"did not end within {self._limit:g} s, and was killed")
        if status:
            raise self._error(f"ended with exit code {status}")
        try:
            text = printed.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise self._error("printed what is not UTF-8") from None
        if not text or len(printed) >= _MOST:
            raise self._error("printed nothing" if not text else "printed too much")
        return text

    def _spawn(self, output: int) -> int:
        try:
            # Not subprocess: it cannot unblock the signals that a campaign blocks.
            return os.posix_spawnp(
                self._argv[0],
                self._argv,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=signal.valid_signals() - _UNCHANGEABLE,
            )
        except OSError as error:
            raise self._error(f"cannot be run: {error.strerror}") from None

    def _error(self, cause: str) -> ConfigError:
        return ConfigError(f"{self._what} {cause}", hint="run it by hand: it must print the secret")


def _read(source: int, pid: int, until: float) -> tuple[bytes, int | None]:
    """What it prints until it ends, and its exit code; None if it had to be killed."""
    printed = b""
    status: int | None = None
    while now() < until and status is None:
        printed = (printed + _available(source, _PACE))[:_MOST]
        status = _ended(pid)
    if status is None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return b"", None
    while len(printed) < _MOST and (more := _available(source, 0)):
        printed += more
    return printed, status


def _available(source: int, wait: float) -> bytes:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    if not poll.poll(wait * 1000):
        return b""
    found = os.read(source, _MOST)
    if not found and wait:
        threading.Event().wait(wait)  # it has closed its end, and is about to exit
    return found


def _ended(pid: int) -> int | None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # SIGCHLD is ignored here, and nobody can tell how it ended
        return 0
    return os.waitstatus_to_exitcode(status) if found else None
