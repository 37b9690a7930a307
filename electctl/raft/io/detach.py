"""Makes a server of the process that started it: in the background, and nobody's child.

What this does not guarantee: that nobody kills it with its former family. A child subreaper among
its ancestors (prctl(2)) adopts it, and a cgroup keeps it.

The double fork is that of daemon(7), "SysV Daemons"; whoever started it waits until it serves.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from electctl.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Lossy(io.FileIO):
    """What cannot be written is dropped: no server ends because its log's disk is full."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_log(path: Path) -> TextIO:
    """The log ``path``, to be appended to. Raises ConfigError."""
    try:
        file = _Lossy(path, "a", opener=partial(os.open, mode=0o600))
    except OSError as error:
        raise ConfigError(
            f"the log {path} cannot be written: {error.strerror}", hint="name another file"
        ) from None
    return io.TextIOWrapper(file, errors="backslashreplace", write_through=True)


def detach(log: TextIO) -> Callable[[], None]:
    """Go on in a new process, in a session of its own; call what is returned when it serves.

    The calling process ends: with 0 when the new one serves, or with its exit code if it ends
    before. Until it serves, its standard error is the caller's, so that its error is told there.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        _wait(told, pid)
    os.close(told)
    os.setsid()
    os.chdir("/")
    # Whoever started us may block signals, in a thread, and ignore some.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log.fileno(), 1)
    os.close(null)

    def serving() -> None:
        os.dup2(log.fileno(), 2)
        os.write(tell, b"!")
        os.close(tell)

    return serving


def _wait(told: int, pid: int) -> NoReturn:
    if os.read(told, 1):
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
