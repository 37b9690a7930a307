"""Faults of a whole host, or of the part of it that the leader is in. Most need root.

For the outside measurement; what needs no root is in :mod:`electctl.faults.library`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from electctl.base.clock import now
from electctl.faults import host, links
from electctl.faults.fault import Fault, Injected, NotInjected, Scene
from electctl.faults.processes import gone
from electctl.faults.watching import DEADLINE, until

#: Processes that a busy host has.
CROWD = 5000
#: Of one processor.
QUOTA = 0.1
#: Bytes that the leader may still take before its cgroup is out of memory.
ROOM = 32 << 20
#: Attempts to have the kernel choose electctl.
EATERS = 5
#: Seconds that an attempt may take.
_EATING = 60.0

_swallowed = links.cut("both")


@contextmanager
def oom_electctl(scene: Scene) -> Iterator[Injected]:
    """The cgroup of the campaign is out of memory, and the kernel chooses electctl."""
    pid = scene.leader.pid
    with host.cgroup("memory") as group:
        group.take(scene.leader.tree())
        group.limit_memory(ROOM)
        host.set_oom_score(pid, 1000)
        for _ in range(EATERS):  # sometimes the kernel chooses whoever eats
            at = now()
            with host.eater(group, pid) as eating:
                eating.wait(_EATING)
            if gone(pid):
                break
        if not gone(pid) or group.oom_kills() == 0:
            raise NotInjected("the kernel did not kill electctl for want of memory")
        yield Injected(f"electctl of {scene.leader.name}", f"the kernel killed process {pid}", at)


@contextmanager
def cgroup_killed(scene: Scene) -> Iterator[Injected]:
    """All processes of the unit are killed at once, as ``systemctl kill`` does with KILL."""
    with host.cgroup("") as group:
        pids = scene.leader.tree()
        group.take(pids)
        at = now()
        group.kill()
        until(lambda: all(map(gone, pids)), "not all of its processes end", DEADLINE)
        yield Injected(f"all of {scene.leader.name}", f"{len(pids)} processes are gone", at)


@contextmanager
def crowded(scene: Scene) -> Iterator[Injected]:
    """The host has thousands of processes, and the leader's connection is swallowed."""
    with host.crowd(CROWD), _swallowed(scene) as injected:
        yield injected


@contextmanager
def starved(scene: Scene) -> Iterator[Injected]:
    """The campaign has a tenth of a processor, and its connection is swallowed."""
    with host.cgroup("cpu") as group:
        group.limit_processor(QUOTA)
        group.take(scene.leader.tree())
        with _swallowed(scene) as injected:
            yield injected


@contextmanager
def starved_by_its_own(scene: Scene) -> Iterator[Injected]:
    """The same, and something in the campaign's cgroup uses up that tenth."""
    with host.cgroup("cpu") as group:
        group.limit_processor(QUOTA)
        group.take(scene.leader.tree())
        with host.spinner(group), _swallowed(scene) as injected:
            yield injected


_ALL = (
    Fault("oom", "the leader's cgroup is out of memory, the kernel kills electctl", oom_electctl),
    Fault("cgroup-kill", "all of the leader's cgroup is killed at once", cgroup_killed),
    Fault("crowd", f"{CROWD} processes beside it, and its links are lost", crowded),
    Fault("cpu-quota", "it has a tenth of a processor, and its links are lost", starved),
    Fault("cpu-quota-busy", "and something beside it uses that up", starved_by_its_own),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
