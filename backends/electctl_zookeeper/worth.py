"""Whether the session that a server granted is worth the TTL that was asked for.

What this does not guarantee: that the tick, which is taken off, is the servers' own
(:mod:`electctl_zookeeper.target`).
"""

from __future__ import annotations

from electctl.contract.backend import Bid
from electctl.errors import UnsafeTiming
from electctl_zookeeper.session import Session
from electctl_zookeeper.traits import TRAITS

#: Seconds of difference between two session time-outs that are one: milliseconds are sent.
_SAME = 0.002
#: The core plans so many intervals of ``Bid.request_timeout`` between a proof and the time to stop.
_RENEWALS = TRAITS.renewals


def check_timing(session: Session, bid: Bid, notes: set[str]) -> None:
    """Raises UnsafeTiming if one missed renewal would end the leadership.

    What is left of a grant for renewing must hold a ping of the leader and three intervals: of
    the write that proves, of the one that it proves, and of one that is missed.
    """
    changed = _say_if_changed(session, bid, notes)
    interval = bid.request_timeout
    for_stopping = bid.ttl - _RENEWALS * interval
    if session.granted - for_stopping < session.ping + 3 * interval:
        raise UnsafeTiming(
            f"a ttl of {bid.ttl:g} s is too short here: the session of "
            f"{session.negotiated:g} s is worth {session.granted:g} s, because a tick of "
            f"{2 * session.ping:g} s is taken off, and {for_stopping:.3g} s of it are for "
            "stopping",
            hint=changed
            or "raise --ttl; or name the servers' tickTime with ?tick= if it is shorter",
        )


def _say_if_changed(session: Session, bid: Bid, notes: set[str]) -> str:
    """What to do where the server shortened our session; "" where it did not."""
    asked, got = bid.ttl, session.negotiated
    if abs(got - asked) < _SAME:
        return ""
    setting = "maxSessionTimeout (20 ticks by default)"
    if got > asked:
        setting = "minSessionTimeout (2 ticks by default)"
    done = "shortened" if got < asked else "lengthened"
    notes.add(f"ZooKeeper {done} the session of {asked:g} s to {got:g} s, by its {setting}")
    return f"lower --ttl, or raise the servers' {setting}" if got < asked else ""
