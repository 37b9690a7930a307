"""What a process says of itself to the kernel. On systems other than Linux these do nothing.

What this does not guarantee: that a setting outlives exec of a set-user-id program, or a change of
the user. The kernel clears the parent-death signal there (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

#: Fields of /proc/self/stat, counted from the one behind the name: where the memory lies that
#: /proc/PID/cmdline and /proc/PID/environ show (proc_pid_stat(5), arg_start to env_end).
_ARGUMENTS, _ENVIRONMENT = slice(45, 47), slice(47, 49)


@cache
def _prctl() -> Callable[[int, int | bytes], None]:
    # ctypes costs 2 ms to import, so only a process that runs a command pays for it.
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).prctl

    def call(option: int, value: int | bytes) -> None:
        argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
        zero = ctypes.c_ulong(0)
        if function(option, argument, zero, zero, zero) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return call


def become_subreaper() -> None:
    """Orphans among our descendants become our children, not those of init. Not inherited."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def rename(name: str, title: str, *, keep_environment: bool = False) -> None:
    """Be ``name`` (at most 15 bytes) in ps and pgrep, and ``title`` in ps -f and pgrep -f.

    The title replaces the arguments in memory, and is cut where they were shorter. The environment
    with which the program was started is no longer to be seen from outside, unless it is kept;
    ``os.environ`` stays, but a library that calls getenv(3) finds nothing. A forked process changes
    only its own memory.
    """
    if sys.platform != "linux":
        return
    import ctypes

    _prctl()(_PR_SET_NAME, name.encode())
    texts = [(_ARGUMENTS, title.encode())]
    if not keep_environment:
        texts.append((_ENVIRONMENT, b""))
    for where, text in texts:
        start, end = _memory(where)
        if 0 < start < end:
            size = end - start
            ctypes.memmove(start, text[: size - 1].ljust(size, b"\0"), size)


def hide_variable(name: str) -> None:
    """Blank one variable in what /proc/PID/environ shows; ``os.environ`` stays."""
    if sys.platform != "linux":
        return
    import ctypes

    start, end = _memory(_ENVIRONMENT)
    if not 0 < start < end:
        return
    offset = 0
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if entry.startswith(os.fsencode(name) + b"="):
            ctypes.memset(
                start + offset + len(os.fsencode(name)) + 1, 0, len(entry) - len(name) - 1
            )
        offset += len(entry) + 1


def _memory(where: slice) -> tuple[int, int]:
    try:
        with open("/proc/self/stat", "rb") as stat:
            start, end = stat.read().rpartition(b")")[2].split()[where]
    except (OSError, ValueError):
        return 0, 0
    return int(start), int(end)


def die_with_parent(signum: int) -> None:
    """Get ``signum`` when the parent dies. The caller then checks that it had not died before."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_PDEATHSIG, signum)
