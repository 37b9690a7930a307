"""What electing on etcd promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from electctl.contract.traits import Claim, Traits, Weakness
from electctl_etcd.keys import NAMING

_GUARANTEES = "https://etcd.io/docs/v3.4/learning/api_guarantees/"
_WHY = "https://etcd.io/docs/v3.5/learning/why/#notes-on-the-usage-of-lock-and-lease"
_JEPSEN = "https://jepsen.io/analyses/etcd-3.4.3"
_STALLED = "https://github.com/etcd-io/etcd/issues/15247"
_STALLED_FIX = "https://github.com/etcd-io/etcd/pull/16822"
_RECOVERY = "https://etcd.io/docs/v3.5/op-guide/recovery/"
_LESSOR = "https://github.com/etcd-io/etcd/blob/v3.4.23/lease/lessor.go"
_ELECTION = "https://github.com/etcd-io/etcd/blob/v3.4.23/clientv3/concurrency/election.go"
_RAFT = "https://raft.github.io/raft.pdf"

TRAITS = Traits(
    scheme="etcd",
    title="etcd",
    mechanism="a key under a lease of its own; the oldest create revision leads",
    family="consensus",
    exclusion="quorum",
    scope="a quorum of members (Raft)",
    judge="session",
    expiry_decided_by="the member that leads the cluster, on its monotonic clock",
    clocks="the rates of all clocks agree to 1 %; no clock is compared with another",
    token="revision",
    token_sound=True,
    order="fifo",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    gives_back=True,
    # Each of the queue waits for the one before it, whose lease is its own.
    failover="max(holder_ttl, ttl * min(dead_waiters, 1)) + 0.5",
    failover_note="expired leases are looked for every 0.5 s; an "
    "election of the cluster's own leader starts every lease again",
    assumptions=(
        Claim(
            "A majority of the members keep what they have written, and transactions are strictly "
            "serializable.",
            _GUARANTEES,
        ),
        Claim(
            "A lease that a member renewed while a quorum stood by it lives for its whole TTL, "
            "also over a change of the cluster's leader, which starts every lease again.",
            _LESSOR,
        ),
        Claim(
            "A keep-alive is not a log entry: one member answers it alone. We count it only if a "
            "linearizable read in the same Raft term has come after it.",
            _STALLED,
        ),
        Claim("TTLs are whole seconds, 2 s at least; what the server granted counts.", _LESSOR),
        Claim("The rates of our clock and of the members' agree to 1 %.", _WHY),
        Claim("All that contend for a name use the recipe of etcdctl and Go's client.", _ELECTION),
    ),
    weaknesses=(
        Weakness(
            "The grant is a lease, so it is not mutual exclusion: a leader that is paused with its "
            "command, or whose write is slow, can act after its lease has ended.",
            breaks=("exclusion",),
            fault="pause",
            source=_JEPSEN,
        ),
        Weakness(
            "A member that led, stalled (slow disk, SIGSTOP) and resumed can revoke leases that "
            "its successor has renewed; fixed in 3.4.31 and 3.5.13, not in Debian's 3.4.23.",
            breaks=("exclusion",),
            fault="stall",
            source=_STALLED,
        ),
        Weakness(
            "Without a majority nothing can be renewed or granted, and the leader steps down.",
            breaks=("liveness",),
            fault="partition",
            source=_RAFT,
        ),
        Weakness(
            "Restoring a snapshot takes revisions back: tokens can repeat, and a checkpoint or a "
            "grant of the time between is gone.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restore",
            source=_RECOVERY,
            unshown="not exclusion: while its members are put back the leader steps down",
        ),
        Weakness(
            "Deleting everything in it gives the leadership away at once, and takes checkpoints "
            "along; revisions go on growing.",
            breaks=("exclusion", "checkpoint"),
            fault="flush",
        ),
        Weakness(
            "An operator who deletes the key or revokes the lease gives the leadership away at "
            "once; the leader learns of it at its next renewal.",
            breaks=("exclusion",),
            fault="evict",
        ),
        Weakness(
            "Names nest for native tools: with `jobs/nightly` in use, `etcdctl lock jobs` counts "
            "its candidates too and waits for them; electctl counts its own name's only, so the "
            "two can both lead `jobs`.",
            breaks=("exclusion", "liveness"),
            unshown="a drill has one name, and candidates of one kind",
            source=_ELECTION,
        ),
    ),
    sources=(_GUARANTEES, _WHY, _JEPSEN, _STALLED, _STALLED_FIX, _RECOVERY),
    naming=NAMING,
    ttl_step=1.0,
    least_ttl=2.0,
    renewal_requests=2,
    waiting_requests="3 / ttl",
)
