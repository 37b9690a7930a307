"""What must hold at the end of a run, when nothing has been broken for a while.

What this does not check: what holds at each step (:mod:`electctl.simulate.invariants`). Nor does it
ask anything of weather that is not calm enough for it; :func:`calm` says what that is.
"""

from __future__ import annotations

from electctl.core.lease import Timing
from electctl.raft.pure.snapshots import dump
from electctl.simulate.invariants import Violation
from electctl.simulate.plan import LENGTH, Plan
from electctl.simulate.world import CALM, NEWS, World

#: Seconds after which a session of whose owner nothing is heard is over, beyond its TTL and two
#: ticks: the messages to and fro, and a majority's syncs.
SLACK = 1.0
#: Messages and syncs between a grant and its confirmation: the entry and its acknowledgement, the
#: notice, the renewal, a round before its own, its own, and the answer; half as many again for what
#: is in the way: seed 3684 needs a little more than 10 where each entry is sent by itself.
WAKE = 16
#: A question, its proof after another that is under way, and the answer; half as long again.
HOPS = 8


def calm(plan: Plan) -> bool:
    """Whether heartbeats come in time once none is lost: several fit into a time-out.

    A round is there and back, each half as long again as the mean, and a sync on both sides.
    """
    round_trip = 2 * (1.5 * plan.delay + plan.sync)
    settings = plan.settings
    spare = (settings.election_ticks - settings.heartbeat_ticks - 1) * plan.tick
    return spare > round_trip


def fits(plan: Plan) -> bool:
    """Whether anybody can stay in office.

    A TTL into which a renewal and its proof do not fit keeps nobody there, and is no fault. Nor are
    clients so far away that the only candidate has to give up again before it has asked the four
    questions, one after the other, that lead into office.
    """
    far = max(there + back for there, back in plan.client_lags)
    return Timing.plan(plan.ttl).request_timeout >= HOPS * plan.delay + 2 * far


def look(world: World) -> None:
    """Raises Violation."""
    _tables(world)
    _logs(world)
    if calm(world.plan):
        _terms(world)
        _sessions(world)
        if fits(world.plan) and not any(map(any, world.plan.client_lags)):
            _wakes(world)
        for asked, what in world.reader.unanswered:
            if asked > LENGTH - CALM:
                raise Violation("answered in time", f"{what}, asked at {asked:.3f} s")


def _wakes(world: World) -> None:
    """A grant is told at once: the notice, the renewal and its round, each there and back."""
    plan = world.plan
    bound = WAKE * (1.5 * plan.delay + plan.sync) + 2 * plan.tick
    for now, seconds in world.invariants.wakes:
        if now > LENGTH - CALM and seconds > bound:
            raise Violation("woken in time", f"{seconds:.3f} s after the grant, at {now:.3f} s")


def _tables(world: World) -> None:
    """Everybody learns of what is committed, and makes the same of it."""
    tables: dict[int, bytes] = {}
    for server in world.servers.values():
        replica = server.replica
        if replica.applied < world.committed_before_the_end:
            raise Violation(
                "everybody learns of it",
                f"server {server.name} has applied {replica.applied}; "
                f"{world.committed_before_the_end} were committed {NEWS:g} s before the end",
            )
        state = dump(replica.table)
        if tables.setdefault(replica.applied, state) != state:
            raise Violation("tables agree", f"after entry {replica.applied}")
        if replica.table.size != replica.table.measure():
            raise Violation("tables agree", f"server {server.name} is wrong about its size")


def _logs(world: World) -> None:
    """What a snapshot stands for is kept no longer."""
    for server in world.servers.values():
        raft = server.replica.raft
        kept = raft.commit - raft.log.snapshot.index
        if kept > world.plan.compact_after + world.plan.settings.window:
            raise Violation("logs are bounded", f"server {server.name} keeps {kept} entries")


def _terms(world: World) -> None:
    term = max(server.replica.raft.term for server in world.servers.values())
    if term != world.term_in_calm:
        raise Violation(
            "nobody is unseated", f"term {world.term_in_calm} became {term} in calm weather"
        )


def _sessions(world: World) -> None:
    for opened, ttl, ended in world.invariants.unrenewed:
        late = ended - opened - ttl - 2 * world.plan.tick
        if opened > LENGTH - CALM and late > SLACK:
            raise Violation(
                "ended in time",
                f"a session of {ttl:g} s, opened at {opened:.3f} s, {late:.3f} s late",
            )
