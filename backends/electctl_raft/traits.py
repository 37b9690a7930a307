"""What electing on the built-in Raft promises, and what breaks it.

What this does not guarantee: completeness. These are the ways to fail that are known to us.
"""

from __future__ import annotations

from electctl.contract.traits import Claim, Traits, Weakness

_RAFT = "https://raft.github.io/raft.pdf"
_THESIS = "https://web.stanford.edu/~ouster/cgi-bin/papers/OngaroPhD.pdf"
_LEASES = "Gray and Cheriton, Leases (SOSP 1989)"
_OURS = "docs/raft.md"
_FSYNC = "https://www.sqlite.org/pragma.html#pragma_synchronous"

TRAITS = Traits(
    scheme="raft",
    title="Built-in Raft",
    mechanism="a replicated table of sessions and queues; the first in the queue leads",
    family="consensus",
    exclusion="quorum",
    scope="a majority of the nodes (Raft)",
    judge="session",
    expiry_decided_by="the node that leads the cluster, on its monotonic clock, and committed",
    clocks="the rates of all clocks agree to 1 %; no clock is compared with another",
    token="index",
    token_sound=True,
    order="fifo",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    gives_back=True,
    # Each of the queue waits for the one before it, whose session is its own.
    failover="max(holder_ttl, ttl * min(dead_waiters, 1)) + 0.2",
    failover_note="2 ttl + 2 s if the cluster's leader crashes with it",
    assumptions=(
        Claim("The rates of our clock and of the nodes' agree to 1 %.", _LEASES),
        Claim("What a node's disk calls written stays written, also when power is lost.", _FSYNC),
        Claim("No two nodes have one number, and all are given the same voters.", _OURS),
        Claim("Nobody but its own nodes and clients reaches the cluster's ports.", _OURS),
    ),
    weaknesses=(
        Weakness(
            "A leader that is paused together with its command, or whose write is slow, can act "
            "after its lease has ended; the token tells such a write.",
            breaks=("exclusion",),
            fault="pause",
            source=_LEASES,
        ),
        Weakness(
            "Without a majority nothing can be renewed or granted, and the leader steps down.",
            breaks=("liveness",),
            fault="partition",
            source=_RAFT,
        ),
        Weakness(
            "An eviction by force gives the leadership away at once; the leader learns of it at "
            "its next renewal.",
            breaks=("exclusion",),
            fault="evict",
            source=_OURS,
        ),
        Weakness(
            "A node that lost what it had called durable, or was given an old copy of its store, "
            "can help to elect a leader that knows less: grants, tokens and checkpoints go back.",
            breaks=("exclusion", "token", "checkpoint"),
            fault="restart",
            source=_THESIS,
            unshown="in a drill one node of three loses its store, and is told all of it again",
        ),
        Weakness(
            "A majority of nodes put back from older copies knows neither the tokens nor the "
            "checkpoints that came after.",
            breaks=("token", "checkpoint"),
            fault="restore",
            source=_OURS,
        ),
        Weakness(
            "raft:// knows no passwords: whoever reaches a port can evict, or pass for a node. "
            "rafts:// asks for a certificate, and does not tell clients from nodes.",
            breaks=("exclusion", "token", "checkpoint"),
            unshown="a drill breaks what fails, and attacks nothing",
            source=_OURS,
        ),
    ),
    sources=(_RAFT, _THESIS, _LEASES),
    ttl_step=0.001,
    waiting_requests="3 / ttl",
)
