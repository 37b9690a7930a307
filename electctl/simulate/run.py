"""One run from a plan: what came of it.

What a run without a violation does not show: that there is none under another seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from electctl.raft.pure.client import Client
from electctl.raft.pure.errors import StoreDamaged, Unsound
from electctl.simulate.aftermath import fits, look
from electctl.simulate.invariants import Violation
from electctl.simulate.plan import LENGTH, QUIET, Plan, make_plan
from electctl.simulate.server import Parts
from electctl.simulate.sights import Sight
from electctl.simulate.world import World
from electctl.verify.linear.history import Operation
from electctl.verify.linear.models import GUARDED
from electctl.verify.linear.search import Search


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried: the real parts, or some with a planted bug."""

    parts: Parts = field(default_factory=Parts)
    client: type[Client] = Client


SOUND = Subject()
#: TTLs for which a server must have led: one for a lease that is left over, and time to follow.
REIGN = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """``violation`` is None where nothing was found; ``invariant`` names what was broken."""

    plan: Plan
    steps: int
    seconds: float
    elected: int
    seen: dict[Sight, int]
    saves: int
    reads: int
    invariant: str | None = None
    violation: str | None = None
    trace: tuple[str, ...] = ()


def run(plan: Plan, subject: Subject = SOUND, *, traced: bool = False) -> Outcome:
    """Let the plan happen."""
    world = World(plan, subject.parts, subject.client, traced=traced)
    found: Violation | None = None
    try:
        world.run_until(LENGTH)
        _progress(world)
        look(world)
        _linearizable(world)
    except Violation as violation:
        found = violation
    except (Unsound, StoreDamaged) as error:
        found = Violation("a node gave up", error.message)
    history = _history(world)
    return Outcome(
        plan,
        world.steps,
        world.now,
        elected=world.invariants.leaderships,
        seen=dict(world.invariants.seen),
        saves=sum(o.kind == "write" for operations in history.values() for o in operations),
        reads=sum(o.kind == "read" for operations in history.values() for o in operations),
        invariant=None if found is None else found.name,
        violation=None if found is None else str(found),
        trace=tuple(world.trace or ()),
    )


def run_seed(seed: int, subject: Subject = SOUND, weather: str | None = None) -> Outcome:
    """The run of that seed, in that weather or in one that it draws."""
    return run(make_plan(seed, weather), subject)


def _progress(world: World) -> None:
    """Once nothing has been broken for a while, every election is led again."""
    if not any(server.replica.ready for server in world.servers.values()):
        raise Violation("progress", f"no server leads {QUIET:g} s after the last fault")
    if not _can_be_led(world):
        return
    for election in world.elections:
        candidates = [c for c in world.candidates.values() if c.election == election]
        if max(candidate.last_valid for candidate in candidates) < LENGTH - QUIET / 2:
            raise Violation("progress", f"nobody leads {election} {QUIET:g} s after the last fault")


def _can_be_led(world: World) -> bool:
    """Whether the weather lets anybody stay in office, which it need not even without faults."""
    plan = world.plan
    # A network that unseats the servers' leader before the lease of a client that has gone can run
    # out is no fault either: each new one gives it a full TTL. (Raft needs broadcasts that take
    # much less than the election time-out; section 5.6 of the paper.)
    _, seated = world.invariants.accessions[-1]
    return fits(plan) and LENGTH - seated >= REIGN * plan.ttl


def _history(world: World) -> dict[str, list[Operation]]:
    return {
        election: [
            *(
                operation
                for candidate in world.candidates.values()
                if candidate.election == election
                for operation in candidate.operations()
            ),
            *world.reader.history.get(election, ()),
        ]
        for election in world.elections
    }


def _linearizable(world: World) -> None:
    for election, operations in _history(world).items():
        verdict = Search(operations, GUARDED).run().verdict
        if verdict != "linearizable":
            raise Violation("linearizability", f"the checkpoint of {election}: {verdict}")
