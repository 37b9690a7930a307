"""The three prctl(2) calls that the guardian needs. On systems other than Linux they do nothing.

What this does not guarantee: that a setting outlives exec of a set-user-id program. The kernel
clears the parent-death signal there (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


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


def set_name(name: str) -> None:
    """The name that ps, pgrep and pkill see; at most 15 bytes."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_NAME, name.encode())


def die_with_parent(signum: int) -> None:
    """Get ``signum`` when the parent dies. The caller then checks that it had not died before."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_PDEATHSIG, signum)
