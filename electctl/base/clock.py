"""The clock of all lease arithmetic, and the wall clock for people.

What this does not guarantee: that two machines' clocks agree, or that this machine's clock runs
at the store's rate. The drift allowance in :mod:`electctl.core.lease` covers a difference of 1 %.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that never steps back and also counts suspend (CLOCK_BOOTTIME).

    Where the system has no such clock (macOS, BSD) it is the monotonic clock, which stops in
    suspend: there a suspended machine can wake up believing in a lease that has run out.
    Source: clock_gettime(2).
    """
    return time.clock_gettime(_CLOCK)


def now_ns() -> int:
    """The same clock in nanoseconds, for records."""
    return time.clock_gettime_ns(_CLOCK)


def counts_suspend() -> bool:
    """Whether :func:`now` goes on counting while the machine sleeps."""
    return bool(_CLOCK != time.CLOCK_MONOTONIC)


def timestamp(at: float | None = None) -> str:
    """The wall clock as RFC 3339, UTC, milliseconds. For people and records, never for decisions.

    ``at`` is a reading of :func:`now`; the wall clock time of that moment is computed from the
    present difference of the two clocks.
    """
    wall = time.time()
    if at is not None:
        wall += at - now()
    stamp = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def boot_id() -> str:
    """The id of this boot of the machine; empty where the system gives none.

    Two records' ``boottime_ns`` can be compared only if their boot ids are equal.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
