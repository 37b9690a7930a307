"""Takes off what a server was given by the process that happened to start it.

The embedded server serves everybody of a user, for as long as somebody needs it: a niceness, a CPU
or a limit that whoever came first had been given (``nice cron``, ``ulimit -f``, ``taskset``) is not
for the others.

What this does not guarantee: all of it. A *hard* limit, a niceness that was raised, a control
group, namespaces, a seccomp filter and dropped capabilities are one-way for a process without
privileges. What of this hurts the server is returned, to be said; docs/local.md lists it.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

#: Limit → what a server under it cannot do. Those that are not here cannot hurt it.
_HURTFUL = {
    resource.RLIMIT_FSIZE: "a file size limit of {} bytes, beyond which nothing can be committed",
    resource.RLIMIT_CPU: "a CPU time limit of {} s, after which it is killed",
    resource.RLIMIT_AS: "an address space limit of {} bytes",
    resource.RLIMIT_DATA: "a data size limit of {} bytes",
}
_LIMITS = (
    *_HURTFUL,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_RSS,
)
#: Files that must be open for a store and a handful of clients.
_FEWEST_FILES = 256
_OOM = Path("/proc/self/oom_score_adj")
#: Linux's default, in nanoseconds; prctl(2), PR_SET_TIMERSLACK.
_SLACK_NS = 50_000
_PR_SET_TIMERSLACK = 29
#: ioprio_set(2) has no wrapper, and its number depends on the machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS = 1
#: CPUs that a kernel may have; those that are not there, or not allowed, are left out by it.
_CPUS = range(8192)
#: Set by Python itself, so that writing to what is closed or too large is an error.
_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}


def shed() -> list[str]:
    """Take off what can be; what stays and hurts, as texts for people."""
    kept = []
    for limit in _LIMITS:
        _raise(limit)
    for limit, text in _HURTFUL.items():
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            kept.append(text.format(f"{soft:,}"))
    # The node raises the soft one itself.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < _FEWEST_FILES:
        kept.append(f"a limit of {files} open files, and so of clients")
    _schedule_as_others()
    if (niceness := os.getpriority(os.PRIO_PROCESS, 0)) > 0:
        kept.append(f"a niceness of {niceness}")
    with suppress(OSError):
        _OOM.write_text("0")
    if sys.platform == "linux":
        _reset_io()
    for number in signal.valid_signals() - _PYTHONS_OWN:
        if signal.getsignal(number) is signal.SIG_IGN:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return kept


def _raise(limit: int) -> None:
    hard = resource.getrlimit(limit)[1]
    for wanted in (resource.RLIM_INFINITY, hard):
        try:
            resource.setrlimit(limit, (wanted, wanted))
        except (OSError, ValueError):
            continue  # to raise the hard one is for the privileged
        return


def _schedule_as_others() -> None:
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with suppress(OSError):
        os.sched_setaffinity(0, _CPUS)


def _reset_io() -> None:
    """The class and priority of I/O, and how late timers may be."""
    import ctypes

    libc = ctypes.CDLL(None)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        libc.syscall(number, _WHO_PROCESS, 0, 0)
    libc.prctl(_PR_SET_TIMERSLACK, _SLACK_NS, 0, 0, 0)
