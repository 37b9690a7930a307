"""What electing on ZooKeeper promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from electctl.contract.traits import Claim, Traits, Weakness
from electctl_zookeeper.names import NAMING

_SERVER = "ZooKeeper 3.8: LearnerSessionTracker, LearnerHandler, Leader.lead, ExpiryQueue"
_GUIDE = "ZooKeeper Programmer's Guide"
_KLEPPMANN = "https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html"

TRAITS = Traits(
    scheme="zk",
    title="ZooKeeper",
    mechanism="an ephemeral sequential znode for each candidate; each watches the one before it",
    family="consensus",
    exclusion="quorum",
    scope="a majority of the ensemble (ZAB)",
    judge="session",
    expiry_decided_by="the ensemble's leader, on its monotonic clock",
    clocks="the clocks of candidate and ensemble leader run at the same rate within 1 %",
    token="czxid",
    token_sound=True,
    order="fifo",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    gives_back=True,
    tells_loss=True,
    # Each of the queue waits for the one before it, whose session is its own.
    failover="max(holder_ttl, ttl * min(dead_waiters, 1)) + 1.5 * min(2, max(holder_ttl, ttl) / 2)",
    failover_note="a session's end is rounded up to the next tick, and a follower tells the leader "
    "of it half a tick late; with ?tick= that tick takes the place of min(2, holder_ttl / 2)",
    assumptions=(
        Claim(
            "The servers' tickTime is not longer than ?tick= says (default: the smaller of 2 s "
            "and half of the session's time-out).",
            "zoo.cfg tickTime, minSessionTimeout",
        ),
        Claim(
            "The ensemble's leader pings its followers twice a tick, and a ping is not more than "
            "half a tick late at a follower that is cut off at that moment.",
            _SERVER,
        ),
        Claim(
            "The native tools in the same election take our znodes for contenders: kazoo does by "
            "default, Curator where ?recipe= is its recipe.",
            "kazoo.recipe.lock, Curator LockInternals.getSortedChildren",
        ),
        Claim("Nobody else deletes or creates znodes under the election's path.", _GUIDE),
    ),
    weaknesses=(
        Weakness(
            "A leader that is paused together with its command, or whose write is slow, can act "
            "after its session has ended; its czxid tells such a write.",
            ("exclusion",),
            fault="pause",
            source=_KLEPPMANN,
        ),
        Weakness(
            "An eviction by force, or a znode deleted by hand, lets the next lead when the deleted "
            "leader is told, or before that, if it is slow, paused or cut off.",
            ("exclusion",),
            fault="evict",
            source=_GUIDE,
        ),
        Weakness(
            "An ensemble restored from a backup starts again at an older zxid: tokens can repeat, "
            "and a checkpoint or a grant of the time between is gone.",
            ("exclusion", "token", "checkpoint"),
            fault="restore",
            source="ZooKeeper Administrator's Guide, disaster recovery",
        ),
        Weakness(
            "Deleting everything in it takes the checkpoints along; zxids go on growing.",
            ("checkpoint",),
            fault="flush",
        ),
        Weakness(
            "The sequence counter of a parent is a signed 32-bit number: after 2,147,483,647 "
            "candidacies native tools no longer agree on the order.",
            ("exclusion",),
            unshown="nobody campaigns two thousand million times in a drill",
            source=_GUIDE + ", Sequence Nodes",
        ),
        Weakness(
            "Without a majority of the ensemble nothing can be granted or renewed, and the leader "
            "steps down.",
            ("liveness",),
            fault="partition",
        ),
    ),
    sources=(
        "https://zookeeper.apache.org/doc/r3.8.0/recipes.html#sc_leaderElection",
        "https://zookeeper.apache.org/doc/r3.8.0/zookeeperProgrammers.html#ch_zkSessions",
        "Hunt, Konar, Junqueira, Reed: ZooKeeper: Wait-free coordination for Internet-scale "
        "systems (USENIX ATC 2010)",
    ),
    renewals=6,
    proof_lag=1,
    naming=NAMING,
    ttl_step=0.001,
    # minSessionTimeout: two ticks, and tickTime is 2 s where nobody says otherwise.
    least_ttl=4.0,
    # Near the head of the queue; behind it 3 / ttl.
    waiting_requests="10 / ttl",
)
