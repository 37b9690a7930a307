"""What electing on Redis promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from dataclasses import replace

from electctl.contract.traits import Claim, Traits, Weakness
from electctl_redis.names import NAMING

_SET = "https://redis.io/docs/latest/commands/set/#patterns"
_LOCKS = "https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/"
_REPLICATION = "https://redis.io/docs/latest/operate/oss_and_stack/management/replication/"
_PERSISTENCE = "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/"
_EVICTION = "https://redis.io/docs/latest/develop/reference/eviction/"
_EXPIRE = "https://redis.io/docs/latest/commands/expire/#expires-and-persistence"
_SCRIPTS = "https://redis.io/docs/latest/develop/interact/programmability/eval-intro/"
_SENTINEL = "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"
_CLUSTER = "https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/"
_KLEPPMANN = "https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html"
_JEPSEN = "https://aphyr.com/posts/283-jepsen-redis"

TRAITS = Traits(
    scheme="redis",
    title="Redis",
    mechanism="a key that expires (SET NX PX), taken, renewed and deleted by compare in Lua",
    family="ttl-lock",
    exclusion="lease",
    scope="one primary",
    judge="store",
    expiry_decided_by="the primary, on its wall clock",
    clocks="the primary's wall clock is not set forward, and the rates of all clocks agree to 1 %",
    token="counter",
    token_sound=False,
    order="none",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    gives_back=True,
    # The first seven look one after the other, 50 ms apart; those behind them are in no hurry.
    failover="holder_ttl + max(0.05 * min(dead_waiters, 7), ttl / 4 * (dead_waiters - 7))",
    failover_note="the time in which a lost primary is replaced is not in it",
    ttl_step=0.001,
    waiting_requests="2 / ttl",
    assumptions=(
        Claim("The primary runs one script at a time, and nothing in between.", _SCRIPTS),
        Claim(
            "The primary that granted the lock lives on, or what succeeds it has the grant: "
            "neither a fail-over nor a restart has lost it.",
            _REPLICATION,
        ),
        Claim("Nothing deletes the keys: no eviction, no FLUSHALL, no other tool.", _EVICTION),
        Claim("Keys expire by the primary's wall clock, which is never set forward.", _EXPIRE),
        Claim(
            "Foreign holders obey the same pattern: take with NX, and delete only their own value.",
            _SET,
        ),
        Claim(
            "A foreign holder tells nobody that it lets go: where the server sends no keyspace "
            "notifications, the first waiter looks every 0.5 s, and a watch every second.",
        ),
    ),
    weaknesses=(
        Weakness(
            "Replication is asynchronous: a primary that is lost before it has replicated takes "
            "the grant, the counter and the last checkpoint with it, and its successor grants "
            "anew.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="failover",
            source=_LOCKS,
            unshown="redis:// has one server in a lab; redis+sentinel:// shows it",
        ),
        Weakness(
            "A restart loses what was not yet on disk: without appendfsync always the lock, the "
            "counter or a checkpoint can be gone.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restart",
            source=_PERSISTENCE,
        ),
        Weakness(
            "The server's wall clock decides on expiry: set forward, it ends a lease that its "
            "holder still counts on; set back, it keeps a dead one's.",
            breaks=("exclusion", "liveness"),
            fault="clock",
            source=_KLEPPMANN,
        ),
        Weakness(
            "A maxmemory-policy may evict the lock (volatile-* and allkeys-*) or the counter "
            "(allkeys-*).",
            breaks=("exclusion", "token", "checkpoint"),
            fault="evict",
            source=_EVICTION,
        ),
        Weakness(
            "FLUSHALL, or a DEL by anybody with the right to it, gives the lock away; the first "
            "also starts the tokens again at 1.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="flush",
        ),
        Weakness(
            "Put back from an older copy, it knows neither the grant nor the tokens and "
            "checkpoints that came after.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restore",
        ),
        Weakness(
            "A holder that is paused for longer than the TTL goes on acting when it wakes up, "
            "unless something checks its token; the guarded checkpoint does.",
            breaks=("exclusion",),
            fault="pause",
            source=_KLEPPMANN,
        ),
        Weakness(
            "A foreign tool's holder has no token: the counter stands still while it leads.",
            breaks=("token",),
            unshown="a drill has candidates of one kind",
        ),
        Weakness(
            "With one primary and nothing to replace it, nobody leads while it is down.",
            breaks=("liveness",),
            fault="crash",
        ),
    ),
    sources=(_SET, _LOCKS, _KLEPPMANN, _JEPSEN, _REPLICATION),
    naming=NAMING,
)

#: What drills of a primary that can be replaced show otherwise than those of one server.
_UNSHOWN = {
    "failover": "not exclusion: whoever leads asks again at once, and finds the loss before the "
    "next one acts",
    "restart": "a replica takes the place of a primary that restarts, see failover",
}

_SENTINEL_TRAITS = replace(
    TRAITS,
    scheme="redis+sentinel",
    title="Redis with Sentinel",
    scope="one primary at a time, named by Sentinels",
    weaknesses=(
        Weakness(
            "A primary that is cut off from its Sentinels goes on serving whoever still reaches "
            "it, while they promote a replica: until it is demoted there are two, and what the "
            "old one granted meanwhile is thrown away.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="partition",
            source=_JEPSEN,
            unshown="not that tokens repeat: in a drill the leader is elected before the cut",
        ),
        Weakness(
            "Until the Sentinels have replaced a primary that is lost or cut off, nobody is "
            "elected.",
            breaks=("liveness",),
            fault="partition",
            source=_SENTINEL,
            unshown="only where that takes longer than the bound, which leaves it out",
        ),
        Weakness(
            "A primary that stalls for longer than down-after-milliseconds is replaced, and serves "
            "again when it goes on, until it is told.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="stall",
            source=_SENTINEL,
            unshown="seen in one round of six: mostly the old primary is told before it is asked",
        ),
        Weakness(
            "The same after a shorter stall that is longer than down-after-milliseconds; nobody is "
            "elected meanwhile.",
            breaks=("exclusion", "token", "checkpoint", "liveness"),
            fault="pause:store",
            source=_SENTINEL,
            unshown="whether half a TTL of a drill is long enough is a matter of moments",
        ),
        Weakness(
            "A primary that crashes takes along what it has not replicated: the last checkpoint, "
            "or the grant itself.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="crash:store",
            source=_SENTINEL,
            unshown="replication within a machine is fast: what is lost is a matter of moments",
        ),
        *(
            replace(each, unshown=_UNSHOWN.get(each.fault, each.unshown))
            for each in TRAITS.weaknesses[:-1]
        ),
        Weakness(
            "Nobody is elected while a majority of the Sentinels cannot agree on a primary.",
            breaks=("liveness",),
            fault="crash",
            source=_SENTINEL,
            unshown="a drill kills the primary, and no Sentinel",
        ),
    ),
    sources=(*TRAITS.sources, _SENTINEL),
)

#: What drills of a cluster show otherwise, at the TTL of a drill.
_IN_A_CLUSTER = {
    "failover": Weakness(
        "Replication is asynchronous: a primary that is lost before it has replicated takes the "
        "counter and the last checkpoint with it, and its successor grants anew.",
        breaks=("token", "checkpoint"),
        fault="failover",
        source=_CLUSTER,
    ),
    "restart": replace(TRAITS.weaknesses[1], unshown=_UNSHOWN["restart"]),
    "flush": replace(
        TRAITS.weaknesses[4],
        unshown="not exclusion: candidates in this lab wait, and the leader finds the loss first",
    ),
    "restore": Weakness(
        "Put back from an older copy, it knows neither the tokens nor the checkpoints that came "
        "after.",
        breaks=("token", "checkpoint"),
        fault="restore",
    ),
}

_CLUSTER_TRAITS = replace(
    TRAITS,
    scheme="redis+cluster",
    title="Redis Cluster",
    scope="one primary at a time, that of the hash slot of the election's name",
    weaknesses=(
        Weakness(
            "A primary that is cut off from the majority of the primaries goes on serving whoever "
            "still reaches it for cluster-node-timeout (15 s by default), and what it took "
            "meanwhile is thrown away when a replica is promoted: its leader counts on a renewal "
            "that the new one does not know.",
            breaks=("exclusion", "checkpoint"),
            fault="partition",
            source=_CLUSTER,
        ),
        Weakness(
            "Whoever is elected at a primary in that time has a token that is given again.",
            breaks=("token",),
            fault="partition",
            source=_CLUSTER,
            unshown="in a drill the leader is elected before the primary is cut off",
        ),
        *(_IN_A_CLUSTER.get(each.fault, each) for each in TRAITS.weaknesses[:-1]),
        Weakness(
            "Where the TTL is longer than the loss of a primary lasts (cluster-node-timeout and a "
            "second or two), a leader that the replica had not heard of goes on beside the next.",
            breaks=("exclusion",),
            fault="failover",
            source=_CLUSTER,
            unshown="in the lab a fail-over takes about as long as the TTL of a drill",
        ),
        Weakness(
            "Nobody is elected while the slot of the name has no primary that a majority of them "
            "agrees on; nor, unless cluster-require-full-coverage is off, while any slot has none.",
            breaks=("liveness",),
            fault="crash",
            source=_CLUSTER,
            unshown="in the lab a replica takes over from each primary",
        ),
        Weakness(
            "While a slot moves to another node, a request whose keys are partly there and partly "
            "here is put off until the move is done: longer than a TTL, that ends the leadership.",
            breaks=("liveness",),
            source=_CLUSTER,
            unshown="no fault of the drills moves a slot",
        ),
    ),
    sources=(*TRAITS.sources, _CLUSTER),
)

_VARIANTS = {each.scheme: each for each in (_SENTINEL_TRAITS, _CLUSTER_TRAITS)}


def traits_of(scheme: str) -> Traits:
    """The traits of one of our URL schemes."""
    return _VARIANTS.get(scheme) or replace(TRAITS, scheme=scheme)
