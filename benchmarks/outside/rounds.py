"""One round: two campaigns, a fault, and what the file shows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import electctl
from benchmarks.outside.campaign import DEADLINE, Campaign, LeaseEnd, Spoilt, until
from benchmarks.outside.faults import ENDS, FAULTS, GIVEN_BACK, UNDER
from electctl.base.clock import now
from electctl.core.elector import LeaderElector
from electctl.errors import Unreachable
from electctl.faults.fault import Scene
from electctl.faults.host import check_prefix
from electctl.faults.library import entrances
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl_etcd.lab import EtcdCluster

COMMANDS = ("plain", "stubborn", "forked")
TRIES = 3


def electctl_argv(
    cluster: Cluster, addresses: Sequence[tuple[str, int]], election: str, name: str, ttl: float
) -> list[str]:
    """``electctl campaign``, up to its command."""
    return [
        *(sys.executable, "-m", "electctl", "campaign", election),
        *("-b", cluster.url_for(addresses), "--id", name, "--ttl", f"{ttl:g}s", "--"),
    ]


def etcdctl_argv(
    cluster: Cluster, addresses: Sequence[tuple[str, int]], election: str, name: str, ttl: float
) -> list[str]:
    """``etcdctl lock``, up to its command; it has no names."""
    assert isinstance(cluster, EtcdCluster)
    return [*cluster.etcdctl_command(addresses=addresses), "lock", f"--ttl={ttl:g}", election, "--"]


TOOLS = {"electctl": electctl_argv, "etcdctl": etcdctl_argv}


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed. Times in milliseconds, None where the fault gives none."""

    fault: str
    command: str
    gap: float
    before_end: float | None
    takeover: float
    exit_code: int | None


def one_waits(elector: LeaderElector, election: str) -> bool:
    """Whether somebody waits, as far as the store can tell just now."""
    try:
        return len(elector.candidates(election)) == 1
    except Unreachable:
        return False


def one_round(
    cluster: Cluster, fault: str, command: str, ttl: float, home: Path, tool: str = "electctl"
) -> Round:
    """Play one round, anew if it is spoilt.

    Raises NotInjected if the fault cannot be done here, TimeoutError if the second never leads.
    """
    check_prefix(UNDER.get(fault, ()))
    for _ in range(TRIES - 1):
        with suppress(Spoilt):
            return _one_round(cluster, fault, command, ttl, home, tool)
    return _one_round(cluster, fault, command, ttl, home, tool)


def _one_round(
    cluster: Cluster, fault: str, command: str, ttl: float, home: Path, tool: str
) -> Round:
    election = f"outside-{fault}-{command}-{os.urandom(4).hex()}"
    injected = FAULTS[fault]
    firsts, others = entrances(injected, cluster)
    near = [cluster.entrances[place].address for place in others]
    with ExitStack() as stack:
        stack.enter_context(injected.before(cluster))
        links = {
            place: stack.enter_context(Proxy(cluster.entrances[place].address)) for place in firsts
        }

        def start(name: str, addresses: list[tuple[str, int]]) -> Campaign:
            under = UNDER.get(fault, ()) if name == "first" else ()
            argv = [*under, *TOOLS[tool](cluster, addresses, election, name, ttl)]
            campaign = Campaign(argv, election, name, command, home)
            stack.callback(campaign.end)
            return campaign

        first = start("first", [link.address for link in links.values()])
        until(lambda: bool(first.times()) or first.ended, "the first writes nothing")
        second = start("second", near)
        elector = stack.enter_context(electctl.connect(cluster.url_for(near)))
        until(
            lambda: one_waits(elector, election) or first.ended or second.ended,
            "the second does not wait",
        )
        early = Spoilt(f"{election}: one of the two gave up before the fault")
        if first.ended or second.ended:
            raise early
        lease_end = LeaseEnd(cluster.url_for(near), election)
        until(lambda: lease_end.last > 0 or first.ended, "the store does not tell who leads")
        # At any moment between two renewals, which nobody controls.
        time.sleep(int.from_bytes(os.urandom(1)) / 256 * ttl / 3)
        first.tree()
        at = now()
        with injected.inject(Scene(first, cluster, links, election, ttl)):
            second.wait_writing()
            lease_ends_at = lease_end.end()
            # Whatever the first still writes is written by now, or shows within this time.
            time.sleep(0.3)
        if tool == "electctl" and fault in ENDS:
            first.process.wait(DEADLINE)
        last, begin = max(first.times()), min(second.times())
        if begin < at:
            raise early
        # A store that tells no end (ZooKeeper) is only seen to have ended a lease, up to a question
        # too early: too coarse where that is at once.
        timed = fault not in ("sigterm", "store-gone") and (
            lease_end.told or fault not in GIVEN_BACK
        )
        return Round(
            fault,
            command,
            gap=(begin - last) * 1e3,
            before_end=(lease_ends_at - last) * 1e3 if timed else None,
            takeover=(begin - at) * 1e3,
            exit_code=first.process.poll(),
        )
