"""Durations as people type them."""

from __future__ import annotations

import re

from electctl.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: A hundred years: longer is a mistake, and would overflow a timer.
_LONGEST = 36_525 * 86_400.0


def parse_duration(text: str) -> float:
    """Seconds in ``500ms``, ``10s``, ``2m``, ``1.5h``, ``1d``; a bare number is seconds.

    Raises UsageError for anything else: negative times, "inf", compounds such as ``1m30s``.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a duration", hint="as in 500ms, 10s, 2m, 1h; a bare number is seconds"
        )
    seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds > _LONGEST:
        raise UsageError(
            f"the duration {text!r} is longer than a hundred years", hint="use a shorter one"
        )
    return seconds
