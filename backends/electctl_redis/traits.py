"""What electing on Redis promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from dataclasses import replace

from electctl.traits import Claim, Traits, Weakness

_SET = "https://redis.io/docs/latest/commands/set/#patterns"
_LOCKS = "https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/"
_REPLICATION = "https://redis.io/docs/latest/operate/oss_and_stack/management/replication/"
_PERSISTENCE = "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/"
_EVICTION = "https://redis.io/docs/latest/develop/reference/eviction/"
_EXPIRE = "https://redis.io/docs/latest/commands/expire/#expires-and-persistence"
_SCRIPTS = "https://redis.io/docs/latest/develop/interact/programmability/eval-intro/"
_SENTINEL = "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"
_KLEPPMANN = "https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html"
_JEPSEN = "https://aphyr.com/posts/283-jepsen-redis"

TRAITS = Traits(
    scheme="redis",
    title="Redis",
    mechanism="a key that expires (SET NX PX), taken, renewed and deleted by compare in Lua",
    family="ttl-lock",
    scope="one primary",
    expiry_decided_by="the primary, on its wall clock",
    clocks="the primary's wall clock is not set forward, and the rates of all clocks agree to 1 %",
    token="counter",
    token_sound=False,
    order="none",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    failover="ttl",
    failover_note="the time in which a lost primary is replaced is not in it",
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
            "A holder that is paused for longer than the TTL goes on acting when it wakes up, "
            "unless something checks its token; the guarded checkpoint does.",
            breaks=("exclusion",),
            fault="pause",
            source=_KLEPPMANN,
        ),
        Weakness(
            "A foreign tool's holder has no token: the counter stands still while it leads.",
            breaks=("token",),
        ),
        Weakness(
            "With one primary and nothing to replace it, nobody leads while it is down.",
            breaks=("liveness",),
            fault="crash",
        ),
    ),
    sources=(_SET, _LOCKS, _KLEPPMANN, _JEPSEN, _REPLICATION),
)

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
        ),
        *TRAITS.weaknesses[:-1],
        Weakness(
            "Nobody is elected while a majority of the Sentinels cannot agree on a primary.",
            breaks=("liveness",),
            fault="crash",
            source=_SENTINEL,
        ),
    ),
    sources=(*TRAITS.sources, _SENTINEL),
)


def traits_of(scheme: str) -> Traits:
    """The traits of one of our URL schemes."""
    if scheme == "redis+sentinel":
        return _SENTINEL_TRAITS
    return replace(TRAITS, scheme=scheme)
