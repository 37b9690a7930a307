"""An election as the nodes tell it, as the core shows it.

What this does not do: tell when the holder came to lead; the log has no times.
"""

from __future__ import annotations

from electctl.contract.backend import Holder, View
from electctl.raft.pure.requests import ElectionSeen


def view_of(seen: ElectionSeen) -> View:
    """The view. A holder's key is the number of its session."""
    if seen.token is None:
        return View(None, seen.waiting)
    holder = Holder(
        seen.holder,
        token=seen.token,
        key=str(seen.session),
        ttl=seen.ttl_ms / 1000,
        expires_in=seen.left_ms / 1000,
    )
    return View(holder, seen.waiting)
