"""What a run has seen of the world: counted, so that no kind of trouble is missing unnoticed.

What a count does not show: that the trouble hurt anybody.
"""

from __future__ import annotations

from enum import Enum


class Sight(Enum):
    """One kind of fault, or one turn that only faults bring about."""

    CRASH = "a server crashed"
    LOST_WRITE = "a crash lost a write that was not synced"
    TORN_WRITE = "a crash tore a write that was not synced"
    KEPT_WRITE = "a write that was not synced outlived a crash"
    SLOW_SYNC = "a sync was slow"
    PAUSE = "a server was paused"
    BATCH = "a server took in several events at once"
    LATE_TICK = "a tick was late"
    LOST = "the network lost a message"
    DOUBLED = "the network doubled a message"
    LATE = "a message came very late"
    CUT = "a message met a cut link"
    LAG = "a message met a slow link"
    CLIENT_CRASH = "a client crashed"
    CLIENT_PAUSE = "a client was paused"
    SPLIT_VOTE = "two servers stood for election in one term"
    HANDED = "a leader asked another server to take over"
    CONFLICT = "a follower replaced entries of its log"
    SNAPSHOT = "a leader sent a snapshot"
    HEIR = "a new leader found a queue"
    EXPIRY = "a leader's lease expired"
    FORCED = "a leader was evicted by force"
    FULL = "the table was full"
    ONCE = "a command came again and did not act again"
