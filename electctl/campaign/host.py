"""What this host needs between SIGKILL and the end of validity.

What this does not guarantee: that the host stays as it is looked at here, or that a tree of
thousands of processes dies as fast as one of tens.

How the number comes about. Finding and killing a tree takes 5 to 45 ms, with 20,000 processes on
the host (docs/performance.md), so 100 ms are enough (:data:`electctl.core.lease.MARGIN`), unless

- a CPU quota (cpu.max, cpu.cfs_quota_us) is on us: a command that burns it is throttled until the
  next period begins, and so are the guardian and the death of the command. It takes the rest of
  the period, one more to pay what was overdrawn, and as many as the work takes: :data:`_KILLING`
  seconds of CPU to find, kill and see the end of some 30 processes. Without the right to run
  before others (:mod:`electctl.campaign.urgency`) the guardian also waits behind the command for
  its turn, twice: once to wake up and once to go on (:data:`_WAITING`, for 16 busy processes and
  the usual slice of 3 ms). A quota of all processors binds nobody.
- the tree must be found by a walk over all processes: three looks, :data:`_WALK` for each process.
- it must be found without /proc: each look tries every id (:data:`_PROBE`).

Sources: "CFS Bandwidth Control" and "Control Group v2" in the kernel's documentation; the figures
are measured (``tests/test_guardian_host.py`` holds them).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from electctl.campaign import procfs
from electctl.core.lease import MARGIN

#: Seconds of CPU time, as explained above.
_KILLING = 0.06
_WAITING = 2 * 16 * 0.003
_WALK = 3 * 50e-6
_PROBE = 0.25

_CAP_SYS_NICE = 23


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on CPU time: ``quota`` seconds of it in every ``period`` seconds."""

    quota: float
    period: float

    def needed(self, cpus: int, *, urgent: bool) -> float:
        """Seconds that killing takes under it at most."""
        if self.quota >= cpus * self.period:
            return 0.0
        work = _KILLING if urgent else _KILLING + _WAITING
        return self.period * (2 + math.ceil(work / self.quota))


def margin_needed() -> float:
    """Seconds between SIGKILL and the end of validity that this host needs. Takes 1 to 5 ms.

    Not less than :data:`electctl.core.lease.MARGIN`.
    """
    urgent = _may_be_urgent()
    cpus = os.cpu_count() or 1
    quota = max((each.needed(cpus, urgent=urgent) for each in quotas()), default=0.0)
    match procfs.method()[0]:
        case "walk":
            finding = len(procfs.listed()) * _WALK
        case "probe":
            finding = _PROBE
        case _:
            finding = 0.0
    return max(MARGIN, quota + finding)


def quotas() -> Iterator[Quota]:
    """The limits on our own control group and on all above it that we can see."""
    for home, root in _cpu_groups():
        folder = home
        while True:
            quota = _read(folder)
            if quota is not None:
                yield quota
            if folder in (root, folder.parent):
                break
            folder = folder.parent


def _read(folder: Path) -> Quota | None:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
            return None if limit == "max" else Quota(int(limit) / 1e6, int(period) / 1e6)
        limit = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return None
    return Quota(int(limit) / 1e6, int(period) / 1e6) if int(limit) > 0 else None


def _cpu_groups() -> Iterator[tuple[Path, Path]]:
    """Our control groups that may limit CPU time, each with the mount that it is in."""
    try:
        ours = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in ours)}
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        for controllers, path in paths.items():
            if (kind == "cgroup2" and not controllers) or (
                kind == "cgroup"
                and "cpu" in controllers.split(",")
                and "cpu" in options.split()[-1].split(",")
            ):
                inside = os.path.relpath(path, root)
                if ".." not in inside:
                    yield Path(point) / inside, Path(point)


def _may_be_urgent() -> bool:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(int(effective, 16) >> _CAP_SYS_NICE & 1)
