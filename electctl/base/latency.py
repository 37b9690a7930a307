"""Whether a store answers soon enough for a leadership to be renewed.

What this does not guarantee: that it stays so. One measurement was made, and it may have met a
busy moment.
"""

from __future__ import annotations

import math

# A renewal may take (ttl - grace - margin) / renewals, and grace is a third of the TTL: what it
# takes times 1.5 for each renewal is the least TTL. The rest is for latency that varies.
_PER_RENEWAL = 2


def too_slow(
    store: str, took: float, answers: int, timeout: float, ttl: float, renewals: int = 3
) -> str | None:
    """What to tell people if a renewal at ``ttl`` cannot be answered in time; None if it can.

    ``took``: seconds that one answer took; a renewal needs ``answers``, within ``timeout`` seconds.
    ``renewals``: those of the scheme's traits.
    """
    need = took * answers
    if need <= timeout:
        return None
    enough = math.ceil(_PER_RENEWAL * renewals * need)
    return (
        f"{store} took {took:.2f} s to answer, and a renewal needs {answers} "
        f"answer{'s' if answers > 1 else ''} within {timeout:.2f} s at a TTL of {ttl:g} s: "
        f"leadership will be lost unless it gets faster; --ttl {enough}s would do"
    )
