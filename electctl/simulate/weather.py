"""Kinds of weather: what goes wrong in a run, how often and for how long.

What no weather does: exceed what docs/raft.md takes for granted. Clocks keep within 1 % of each
other, and what was synced stays.

A run draws one of them, and then only some of its faults and one of each of its numbers, so that
seeds differ (Groce et al., "Swarm Testing", ISSTA 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

FaultKind = Literal[
    "crash",
    "restart",
    "hand-over",
    "planned-stop",
    "crash-in-sync",
    "crash-after-vote",
    "crash-after-append",
    "crash-when-leading",
    "pause",
    "stall",
    "late-ticks",
    "wedge",
    "isolate",
    "deaf",
    "mute",
    "one-way",
    "split",
    "cut-when-leading",
    "loss",
    "slow-network",
    "lag",
    "slow-disk",
    "client-crash",
    "client-pause",
    "client-isolate",
    "client-lag",
]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True)
class Weather:
    """What a run may draw from. Times in seconds."""

    kinds: tuple[FaultKind, ...] = FAULTS
    #: How many kinds of faults one run knows, at least and at most.
    few: int = 2
    many: int = 6
    #: How long a fault lasts; a run draws one of these and then from it.
    lengths: tuple[tuple[float, ...], ...] = ((0.1, 0.3), (0.3, 1.0, 2.0), (0.2, 1.0, 4.0, 7.0))
    #: Faults a second: small for one at a time, large for one that meets the other.
    rates: tuple[float, ...] = (0.15, 0.5, 3.0)
    #: The chance that a fault begins about when the one before it ends.
    relay: float = 0.1
    servers: tuple[int, ...] = (1, 3, 3, 3, 3, 3, 5, 5)
    ttls: tuple[float, ...] = (1.5, 2.0, 3.0)
    ticks: tuple[float, ...] = (0.1,)
    election_ticks: tuple[int, ...] = (4, 6, 10)
    batches: tuple[int, ...] = (1, 2, 8)
    #: Mean delay of a message; the chances that one is lost, doubled, much delayed, and the second
    #: copy much delayed; how much that is at most.
    delays: tuple[float, ...] = (0.002, 0.01, 0.03, 0.06)
    losses: tuple[float, ...] = (0.0, 0.0, 0.01, 0.05)
    doubles: tuple[float, ...] = (0.0, 0.01, 0.05, 0.2)
    straggles: tuple[float, ...] = (0.0, 0.005, 0.03, 0.1)
    echoes: tuple[float, ...] = (0.0, 0.1)
    latest: tuple[float, ...] = (5.0,)
    #: How far clients are: a question and its answer together, as a part of what they wait for.
    distances: tuple[float, ...] = (0.0,)


WEATHERS: dict[str, Weather] = {
    "mixed": Weather(),
    # One server that ticks slowly and comes back at once, and clients that are heard of no more.
    "alone": Weather(
        kinds=("restart", "late-ticks", "client-pause", "client-isolate"),
        many=3,
        lengths=((2.0, 4.0), (3.0, 6.0)),
        rates=(2.0, 3.0),
        servers=(1,),
        ticks=(0.3, 0.5),
    ),
    # Servers go down at the worst moments and are back soon; elections are contested.
    "crashy": Weather(
        kinds=(
            "crash",
            "restart",
            "planned-stop",
            "crash-in-sync",
            "crash-after-vote",
            "crash-after-append",
            "crash-when-leading",
            "stall",
            "loss",
        ),
        many=5,
        lengths=((0.1, 0.5), (0.5, 1.5)),
        rates=(0.5, 1.0, 2.0),
        servers=(1, 3, 3, 5, 5),
        election_ticks=(3, 3, 4, 6),
        delays=(0.01, 0.03, 0.06),
    ),
    # No leader for long: entries are left on few servers, and come back.
    "restless": Weather(
        kinds=(
            "cut-when-leading",
            "crash-when-leading",
            "crash-after-append",
            "hand-over",
            "isolate",
            "mute",
            "wedge",
            "split",
            "crash",
        ),
        many=4,
        lengths=((0.5, 1.0, 2.0), (1.0, 2.0, 4.0)),
        rates=(0.5, 1.0),
        relay=0.5,
        servers=(3, 3, 5),
        election_ticks=(3, 4, 6),
        batches=(1, 1, 2),
    ),
    # Whoever is cut off does not know it yet.
    "partitioned": Weather(
        kinds=("isolate", "deaf", "mute", "one-way", "split", "wedge", "client-isolate", "lag"),
        many=4,
        lengths=((0.3, 1.0, 2.0), (2.0, 4.0, 7.0)),
        rates=(0.3, 0.6),
        servers=(3, 3, 5),
        delays=(0.002, 0.01, 0.03),
    ),
    # The servers are well. Answers come late, up to what a client waits for; leases end on time.
    "far clients": Weather(
        kinds=("client-lag", "client-pause", "client-isolate", "client-crash"),
        many=4,
        lengths=((2.0, 4.0), (3.0, 6.0, 9.0)),
        rates=(0.5, 1.0),
        relay=0.6,
        servers=(1, 3, 3, 5),
        ttls=(2.0, 3.0, 5.0),
        delays=(0.002, 0.01),
        distances=(0.0, 0.4, 0.8),
    ),
    # Everything takes long, and now and then too long.
    "slow": Weather(
        kinds=(
            "lag",
            "client-lag",
            "client-isolate",
            "client-pause",
            "slow-network",
            "slow-disk",
            "late-ticks",
            "mute",
            "isolate",
        ),
        few=3,
        lengths=((0.5, 2.0), (1.0, 3.0, 6.0)),
        rates=(0.5, 1.0),
        relay=0.5,
        ttls=(2.0, 3.0, 5.0),
        delays=(0.002, 0.01, 0.03),
        straggles=(0.0, 0.03, 0.1),
    ),
    # What was said in an earlier term comes again.
    "long memory": Weather(
        kinds=("wedge", "isolate", "mute", "split", "crash", "pause", "cut-when-leading"),
        many=4,
        lengths=((0.3, 1.0, 2.0), (1.0, 3.0)),
        rates=(0.3, 0.6),
        relay=0.3,
        servers=(3, 3, 5),
        election_ticks=(3, 4, 6),
        delays=(0.002, 0.01),
        losses=(0.0,),
        doubles=(0.1, 0.3),
        straggles=(0.005, 0.03),
        echoes=(0.5, 1.0),
        latest=(10.0, 25.0),
    ),
}
