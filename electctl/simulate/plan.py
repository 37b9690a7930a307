"""What will happen in one run: the cluster, its weather and what clients do, all from a seed.

What this does not fix: the delay of each message and the moment of each sync; the world draws
them while it runs, from the same seed. A plan can be cut down (:mod:`electctl.simulate.shrink`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from electctl.core.lease import Timing
from electctl.raft.pure.driver import BATCH
from electctl.raft.pure.leases import MAX_BYTES, MAX_SESSIONS
from electctl.raft.pure.steps import Settings
from electctl.simulate.weather import WEATHERS, FaultKind, Weather

ActionKind = Literal["save", "look", "open", "release", "leave", "evict", "evict-force"]
ACTIONS: tuple[ActionKind, ...] = get_args(ActionKind)

#: Seconds of a run, and of its end in which nothing is broken any more.
LENGTH = 60.0
QUIET = 16.0
#: Clocks run between these rates, so within 1 % of each other.
SLOWEST, FASTEST = 0.9952, 1.0048


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
    weather: str
    servers: int
    clients: int
    elections: int
    ttl: float
    server_rates: tuple[float, ...]
    client_rates: tuple[float, ...]
    #: For each client how much longer a message takes to it, and from it.
    client_lags: tuple[tuple[float, float], ...]
    #: As in :class:`~electctl.simulate.weather.Weather`.
    delay: float
    loss: float
    double: float
    straggle: float
    echo: float
    latest: float
    #: Seconds a sync takes at most in good weather.
    sync: float
    #: Seconds between two ticks, and events that a server takes in at once.
    tick: float
    batch: int
    settings: Settings
    compact_after: int
    #: What the table may hold.
    max_sessions: int
    max_bytes: int
    #: Who shall stop leading takes its time.
    stubborn: bool
    faults: tuple[Fault, ...]
    actions: tuple[Action, ...]


def make_plan(seed: int, weather: str | None = None) -> Plan:
    """The plan of that seed, in that weather; None: in one that the seed draws."""
    draw = random.Random(seed)
    drawn = draw.choice(list(WEATHERS))
    name = drawn if weather is None else weather
    sky = WEATHERS[name]
    servers = draw.choice(sky.servers)
    clients = draw.choice((2, 3, 3))
    ttl = draw.choice(sky.ttls)
    distance = draw.choice(sky.distances) * Timing.plan(ttl).request_timeout
    return Plan(
        seed=seed,
        weather=name,
        servers=servers,
        clients=clients,
        elections=draw.choice((1, 1, 2)),
        ttl=ttl,
        server_rates=tuple(_rate(draw) for _ in range(servers)),
        client_rates=tuple(_rate(draw) for _ in range(clients)),
        client_lags=tuple(_parts(draw, distance) for _ in range(clients)),
        delay=draw.choice(sky.delays),
        loss=draw.choice(sky.losses),
        double=draw.choice(sky.doubles),
        straggle=draw.choice(sky.straggles),
        echo=draw.choice(sky.echoes),
        latest=draw.choice(sky.latest),
        sync=draw.choice((0.001, 0.005, 0.03)),
        tick=draw.choice(sky.ticks),
        batch=draw.choice((1, 3, BATCH)),
        settings=Settings(
            heartbeat_ticks=draw.choice((1, 2)),
            election_ticks=draw.choice(sky.election_ticks),
            batch=draw.choice(sky.batches),
            window=draw.choice((8, 32)),
        ),
        compact_after=draw.choice((8, 40, 1000)),
        max_sessions=draw.choice((MAX_SESSIONS, MAX_SESSIONS, 6)),
        max_bytes=draw.choice((MAX_BYTES, MAX_BYTES, 2000)),
        stubborn=draw.random() < 0.5,
        faults=_faults(draw, sky),
        actions=_actions(draw),
    )


def _rate(draw: random.Random) -> float:
    return draw.choice((SLOWEST, draw.uniform(SLOWEST, FASTEST), FASTEST))


def _parts(draw: random.Random, whole: float) -> tuple[float, float]:
    part = whole * draw.random()
    return part, whole - part


def _faults(draw: random.Random, weather: Weather) -> tuple[Fault, ...]:
    kinds = draw.sample(weather.kinds, draw.randint(weather.few, weather.many))
    lengths = draw.choice(weather.lengths)
    last = LENGTH - QUIET
    found = []
    at = 2.0
    # Troubles come in clusters, so that one meets the other.
    while at < last - 1.0:
        duration = min(draw.choice(lengths) * draw.uniform(0.5, 1.5), last - at)
        kind = draw.choice(kinds)
        found.append(Fault(at, kind, duration, draw.randrange(2**16), draw.random() < 0.6))
        if draw.random() < weather.relay:
            at += duration * draw.uniform(0.7, 1.1)
        else:
            at += draw.expovariate(draw.choice(weather.rates))
    return tuple(found)


def _actions(draw: random.Random) -> tuple[Action, ...]:
    found = []
    weights = draw.choice(
        (
            (8, 8, 4, 1, 0, 1, 0),
            (8, 8, 4, 2, 1, 0, 1),
            (8, 8, 4, 0, 3, 0, 0),
            (10, 10, 2, 0, 0, 0, 0),
            (4, 4, 20, 1, 1, 0, 0),
            (10, 8, 2, 0, 0, 2, 3),
        )
    )
    for _ in range(draw.choice((60, 120, 200))):
        kind = draw.choices(ACTIONS, weights)[0]
        found.append(Action(draw.uniform(1.0, LENGTH - 2), kind, draw.randrange(2**16)))
    return tuple(sorted(found, key=lambda action: action.at))
