"""What will happen in one run: the cluster, its weather and what clients do, all from a seed.

What this does not fix: the delay of each message and the moment of each sync; the world draws
them while it runs, from the same seed. A plan can be cut down (:mod:`electctl.simulate.shrink`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from electctl.raft.steps import Settings

FaultKind = Literal[
    "crash",
    "crash-in-sync",
    "crash-after-vote",
    "pause",
    "late-ticks",
    "wedge",
    "isolate",
    "deaf",
    "mute",
    "one-way",
    "split",
    "loss",
    "slow-network",
    "slow-disk",
    "client-crash",
    "client-pause",
    "client-isolate",
]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
ActionKind = Literal["save", "look", "open", "release", "evict", "evict-force"]
ACTIONS: tuple[ActionKind, ...] = get_args(ActionKind)

#: Seconds of a run, and of its end in which nothing is broken any more.
LENGTH = 60.0
QUIET = 16.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks at ``at`` for ``duration`` seconds. ``pick`` chooses whom.

    ``leader``: the server that leads at that moment, rather than any.
    """

    at: float
    kind: FaultKind
    duration: float
    pick: int
    leader: bool


@dataclass(frozen=True, slots=True)
class Action:
    """A client does something at ``at``. ``pick`` chooses the election."""

    at: float
    kind: ActionKind
    pick: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times in seconds; the clocks' rates are per server and per client."""

    seed: int
    servers: int
    clients: int
    elections: int
    ttl: float
    server_rates: tuple[float, ...]
    client_rates: tuple[float, ...]
    #: Mean delay of a message, and the chances that one is lost, doubled, much delayed.
    delay: float
    loss: float
    double: float
    straggle: float
    #: Seconds a sync takes at most in good weather.
    sync: float
    settings: Settings
    compact_after: int
    faults: tuple[Fault, ...]
    actions: tuple[Action, ...]


def make_plan(seed: int) -> Plan:
    """The plan of that seed.

    Each seed allows only some kinds of faults, so that seeds differ (Groce et al., "Swarm
    Testing", ISSTA 2012).
    """
    draw = random.Random(seed)
    servers = draw.choice((1, 3, 3, 3, 3, 3, 5, 5))
    clients = draw.choice((2, 3, 3))
    election_ticks = draw.choice((4, 6, 10))
    return Plan(
        seed=seed,
        servers=servers,
        clients=clients,
        elections=draw.choice((1, 1, 2)),
        ttl=draw.choice((1.5, 2.0, 3.0)),
        server_rates=tuple(draw.uniform(0.9955, 1.0045) for _ in range(servers)),
        client_rates=tuple(draw.uniform(0.9955, 1.0045) for _ in range(clients)),
        delay=draw.choice((0.002, 0.01, 0.03, 0.06)),
        loss=draw.choice((0.0, 0.0, 0.01, 0.05)),
        double=draw.choice((0.0, 0.01, 0.05, 0.2)),
        straggle=draw.choice((0.0, 0.005, 0.03, 0.1)),
        sync=draw.choice((0.001, 0.005, 0.03)),
        settings=Settings(
            heartbeat_ticks=draw.choice((1, 2)),
            election_ticks=election_ticks,
            batch=draw.choice((1, 2, 8)),
            window=draw.choice((8, 32)),
        ),
        compact_after=draw.choice((8, 40, 1000)),
        faults=_faults(draw),
        actions=_actions(draw),
    )


def _faults(draw: random.Random) -> tuple[Fault, ...]:
    kinds = draw.sample(FAULTS, draw.randint(2, 6))
    lengths = draw.choice(((0.1, 0.3), (0.3, 1.0, 2.0), (0.2, 1.0, 4.0, 7.0)))
    last = LENGTH - QUIET
    found = []
    at = 2.0
    # Troubles come in clusters, so that one meets the other.
    while at < last - 1.0:
        duration = min(draw.choice(lengths) * draw.uniform(0.5, 1.5), last - at)
        kind = draw.choice(kinds)
        found.append(Fault(at, kind, duration, draw.randrange(2**16), draw.random() < 0.6))
        at += draw.expovariate(draw.choice((0.15, 0.5, 3.0)))
    return tuple(found)


def _actions(draw: random.Random) -> tuple[Action, ...]:
    found = []
    weights = draw.choice(((8, 8, 4, 1, 1, 0), (8, 8, 4, 2, 0, 1), (10, 10, 2, 0, 0, 0)))
    for _ in range(draw.choice((60, 120, 200))):
        kind = draw.choices(ACTIONS, weights)[0]
        found.append(Action(draw.uniform(1.0, LENGTH - 2), kind, draw.randrange(2**16)))
    return tuple(sorted(found, key=lambda action: action.at))
