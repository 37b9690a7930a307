"""The guardian runs before others where it may, so that a busy host does not delay a command's end.

So does, from then on, what it has sent SIGKILL: a process needs the processor to die. Among 60 busy
ones on two processors that took 34 ms at the median and 151 at most, in the same run with a
real-time policy 0.7 and 0.8.

What this does not guarantee: anything without the right to it (CAP_SYS_NICE, which root has). Then
the guardian waits for its turn among the processes of the command, and under a CPU quota the margin
must be longer: :func:`electctl.campaign.host.margin_needed` reckons with that. Nor anything against
a command of the highest real-time priority too: others run at 50, or somewhat above.

A real-time policy is outside the bandwidth control of cpu.max and cpu.cfs_quota_us. The guardian
sleeps nearly always, and the kernel keeps 5 % of the time from real-time processes (sched(7)), so
it can starve nobody for long. Where a control group gives no real-time budget, niceness is left.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass

_LEAST_NICE = -20
_TASKS = "/proc/{}/task"


@dataclass(frozen=True, slots=True)
class Urgency:
    """How we were scheduled before, to be given back in a child."""

    policy: int | None
    priority: int
    nice: int

    @classmethod
    def raised(cls) -> Urgency:
        """Run before others from now on, if we may."""
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        if sys.platform != "linux":
            return cls(None, 0, nice)
        before = cls(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, nice)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _LEAST_NICE)
        with suppress(OSError):
            highest = os.sched_get_priority_max(os.SCHED_RR)
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(highest))
        return before

    def restore(self) -> None:
        """Be scheduled as before. Lowering is always allowed."""
        if sys.platform == "linux" and self.policy is not None:
            with suppress(OSError):
                os.sched_setscheduler(0, self.policy, os.sched_param(self.priority))
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, self.nice)


def hasten(pid: int) -> None:
    """Let a child of ours that was sent SIGKILL run before others, every thread of it, if we may.

    The child's id is its own until we wait for it. That of another thread is not: where it has
    ended meanwhile, whoever has that id now is put back.
    """
    if sys.platform != "linux":
        return
    dying = os.SCHED_RR | os.SCHED_RESET_ON_FORK
    try:
        threads = [int(name) for name in os.listdir(_TASKS.format(pid))]
    except OSError:
        threads = [pid]
    for thread in threads:
        try:
            os.sched_setscheduler(
                thread, dying, os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
            )
        except ProcessLookupError:
            continue
        except OSError:
            return
        if thread != pid and not os.path.exists(f"{_TASKS.format(pid)}/{thread}"):
            with suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
