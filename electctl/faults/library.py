"""All faults by name. The names are those of ``Weakness.fault``, with a variant where several.

``hold`` is in TTLs, and None where a successor is expected to act while the fault lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from electctl.errors import UsageError
from electctl.faults import clocks, data, links, members, processes
from electctl.faults.fault import Fault
from electctl.lab.capable import Led
from electctl.lab.cluster import Cluster, make_cluster

_ALL = (
    Fault(
        "crash:electctl",
        "electctl of the leader is killed (SIGKILL), its guardian and command are not",
        processes.crash_electctl,
    ),
    Fault(
        "crash:tree",
        "the leader's electctl, guardian and command are killed at once",
        processes.crash_tree,
    ),
    Fault(
        "crash:store",
        "the server that leads the store is killed, and started again after 3 TTLs",
        members.to_leader(members.killed),
        hold=3.0,
        needs=members.led,
    ),
    Fault(
        "pause:tree",
        "the leader's electctl, guardian and command are stopped together, later resumed",
        processes.pause_tree,
    ),
    Fault(
        "pause:electctl",
        "electctl of the leader is stopped, its guardian and command are not; later resumed",
        processes.pause_electctl,
    ),
    Fault(
        "pause:member",
        "a server that follows in the store is stopped, and resumed after 2 TTLs",
        members.to_follower(members.paused),
        hold=2.0,
        needs=members.several,
        via="following",
    ),
    Fault(
        "pause:store",
        "the server that leads the store is stopped for half a TTL, and resumed",
        members.to_leader(members.paused),
        hold=0.5,
        needs=members.led,
    ),
    Fault(
        "gc",
        "the command alone is stopped for 2 TTLs, and resumed",
        processes.pause_command,
        hold=2.0,
    ),
    Fault(
        "partition:candidate",
        "nothing passes between the leader and the store",
        links.cut("both"),
        needs=links.proxied,
    ),
    Fault(
        "partition:candidate-in",
        "the leader reaches the store, and hears nothing from it",
        links.cut("replies"),
        needs=links.proxied,
    ),
    Fault(
        "partition:candidate-out",
        "the leader hears the store, and does not reach it",
        links.cut("requests"),
        needs=links.proxied,
    ),
    Fault(
        "partition:member",
        "nothing passes between a server that follows in the store and its peers",
        members.to_follower(members.separated),
        hold=3.0,
        needs=members.separable,
        via="following",
    ),
    Fault(
        "partition:store",
        "nothing passes between the server that leads the store and its peers",
        members.to_leader(members.separated),
        needs=members.separable,
        via="leading",
    ),
    Fault(
        "partition:even",
        "the servers are split so that no part has a majority, for 4 TTLs",
        members.split_evenly,
        hold=4.0,
        needs=members.voting,
    ),
    Fault(
        "clock:forward",
        f"the wall clock of the server that leads the store goes {clocks.JUMP:g} TTLs forward",
        clocks.jump(clocks.JUMP),
        hold=2.0,
        needs=clocks.clocked,
        before=clocks.faked,
    ),
    Fault(
        "clock:back",
        f"that clock goes {clocks.JUMP:g} TTLs back, and all of the leader is killed",
        clocks.back,
        needs=clocks.clocked,
        before=clocks.faked,
    ),
    Fault(
        "clock:fast",
        f"that clock runs {clocks.RATE:g} times as fast, for 2 TTLs",
        clocks.fast,
        hold=2.0,
        needs=clocks.clocked,
        before=clocks.faked,
    ),
    Fault(
        "failover",
        "a primary is killed before it has replicated, and a replica is promoted",
        data.failover,
        hold=2.0,
        needs=data.replicated,
        before=data.unreplicated,
    ),
    Fault(
        "restart",
        "the server that leads the store is killed, and starts again without what was not on disk",
        data.restart,
        hold=2.0,
        needs=data.restartable,
    ),
    Fault(
        "flush",
        "everything in the store is deleted",
        data.flush,
        hold=2.0,
        needs=data.flushable,
    ),
    Fault(
        "evict:force",
        "the leader's grant is deleted, as by electctl evict --force",
        data.evict_force,
        hold=2.0,
    ),
    Fault(
        "evict:memory",
        "the store is out of memory, and throws the leader's grant away",
        data.evict_memory,
        hold=2.0,
        needs=data.evicting,
    ),
    Fault(
        "stall",
        "the server that leads the store is stopped for 2 TTLs, and resumed",
        members.to_leader(members.paused),
        hold=2.0,
        needs=members.led,
    ),
    Fault(
        "restore",
        "the store is put back from a copy that is older than the leader's grant",
        data.restore,
        hold=2.0,
        needs=members.led,
        before=data.copied,
    ),
    Fault(
        "slow",
        f"replies to the leader are delayed by {links.LATER:g} TTLs",
        links.slow,
        needs=links.proxied,
    ),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}


def find(name: str) -> Fault:
    """The fault of that name; a name without its variant is the first of them.

    Raises UsageError, with the nearest names.
    """
    for fault in _ALL:
        if name in (fault.name, fault.name.partition(":")[0]):
            return fault
    near = get_close_matches(name, FAULTS, 3)
    hint = f"did you mean {', '.join(near)}?" if near else "electctl drill list names them"
    raise UsageError(f"there is no fault {name}", hint=hint)


def applicable(scheme: str, nodes: int | None = None) -> list[Fault]:
    """The faults that apply to a scheme's cluster of that many nodes. Raises as make_cluster."""
    cluster = make_cluster(scheme, Path("/nonexistent"), nodes, breakable=True)
    return [fault for fault in _ALL if fault.needs(cluster) is None]


def entrances(fault: Fault, cluster: Cluster) -> tuple[list[int], list[int]]:
    """The places in ``cluster.entrances`` that the leader reaches, and those that others reach.

    Of a cluster that runs. Raises LookupError or Unreachable if none of its members leads.
    """
    everywhere = list(range(len(cluster.entrances)))
    if (
        fault.via == "all"
        or not isinstance(cluster, Led)
        or cluster.members != cluster.entrances
        or len(everywhere) == 1
    ):
        return everywhere, everywhere
    leading = cluster.leading()
    if not cluster.followers_serve:
        return ([leading], everywhere) if fault.via == "leading" else (everywhere, everywhere)
    far = leading if fault.via == "leading" else (leading + 1) % len(everywhere)
    return [far], [place for place in everywhere if place != far]
