"""Finds, signals and kills every descendant of a process, by walking /proc over parent ids.

What this does not guarantee: that a process of another user, or one in uninterruptible sleep,
dies; that work handed to another manager (systemd-run, a container engine) is found; that a chain
of forks in which every link makes a session of its own is caught in bounded time (it is chased, and
each look may miss). Orphans are
found only if ``root`` is a child subreaper (prctl(2)). Without a Linux /proc nothing is found, and
callers fall back on the process group.

Why a process that was found is a descendant for good: under a subreaper a descendant never stops
being one. Why it is not another process under a reused id: a parent is never younger than its
child, which :func:`descendants` checks, and :func:`send` compares the start time again through an
open pidfd, which pins the id.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass

from electctl.clock import now

#: /proc can be walked.
AVAILABLE = sys.platform == "linux" and os.path.exists("/proc/self/stat")

#: Walks in one attempt. A walk that finds nothing new ends it; only a tree that forks faster than
#: it is walked needs more than three.
_WALKS = 10

#: After so many walks without an end the newest process of the machine is chased.
_PATIENT_WALKS = 2

#: Looks in one chase, of about 0.05 ms each.
_LOOKS = 200

#: Clock ticks in a second, the unit of a process's start.
_TICKS = os.sysconf("SC_CLK_TCK")

#: A process and the moment of its start: an id alone can be used again.
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat, see proc_pid_stat(5). ``start`` is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    #: False for a zombie. One whose main thread alone has ended is alive.
    alive: bool

    @property
    def key(self) -> Key:
        return self.pid, self.start


def read(pid: int) -> Process | None:
    """The process, or None if there is none."""
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(handle, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(handle)
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start=int(fields[19]),
        alive=not ended,
    )


def descendants(root: int, spare: Container[Key] = ()) -> list[Process]:
    """All descendants of ``root``, zombies too, without those in ``spare`` and all below them."""
    if not AVAILABLE:
        return []
    found = [read(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    children: dict[int, list[Process]] = {}
    for process in found:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    result: list[Process] = []
    pending: list[Key] = [(root, 0)]
    while pending:
        parent, start = pending.pop()
        for child in children.get(parent, ()):
            if child.start >= start and child.key not in spare:
                result.append(child)
                pending.append(child.key)
    return result


def children(pid: int) -> list[int] | None:
    """The ids of a process's children, zombies too; None where there is no list of them.

    The list is the kernel's (CONFIG_PROC_CHILDREN, proc_tid_children(5)) and costs no walk. It is
    exact as long as the process reaps none of them meanwhile, so best asked by itself.
    """
    text = b""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            handle = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
            try:
                while some := os.read(handle, 4096):
                    text += some
            finally:
                os.close(handle)
    except OSError:
        return None
    return [int(pid) for pid in text.split()]


def send(process: Process, *signals: int) -> None:
    """Send signals to exactly this process; nothing happens if it is gone or not ours to signal."""
    handle = pidfd(process.pid)
    try:
        present = read(process.pid)
        if present is None or present.start != process.start:
            return
        for signum in signals:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if handle is None:
                    os.kill(process.pid, signum)
                else:
                    signal.pidfd_send_signal(handle, signum)
    finally:
        if handle is not None:
            os.close(handle)


def pidfd(pid: int) -> int | None:
    """A pidfd_open(2) handle, close-on-exec; None if there is no process, or no such call.

    The call is missing before Linux 5.3, elsewhere, and under some seccomp filters.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def signal_all(
    root: int, told: set[Key], until: float, *signals: int, before: float = math.inf
) -> None:
    """Send signals once to each living descendant that is not in ``told``, and add it there.

    Times are readings of :func:`electctl.clock.now`. Gives up at ``until``, or when the tree forks
    too fast for it. All that the first walk finds is told; later ones are for what it missed, and
    leave alone what has started at ``before`` or later (by the kernel's clock ticks, or a tick
    sooner): with the time of the order, that is what a handler has started in answer to it.
    """
    found = descendants(root)
    for _ in range(_WALKS):
        fresh = [process for process in found if process.alive and process.key not in told]
        if not fresh:
            return
        for process in fresh:
            if now() >= until:
                return
            told.add(process.key)
            send(process, *signals)
        found = [process for process in descendants(root) if process.start + 1 <= before * _TICKS]


def kill_all(root: int, spare: Container[Key] = ()) -> bool:
    """Freeze, then kill, every descendant of ``root``. False if the tree was still forking.

    Frozen first, because a process that is merely killed makes room under the process limit for
    another fork. fork(2) fails while a signal is pending, so what was frozen adds nothing, and
    the walks come to an end: at one that finds nothing new, not even a zombie. Groups are
    signalled as a whole before their members: that is one atomic step, which a chain of forks
    with an ever new id cannot outrun. A descendant's session, if it is not the root's own, holds
    only descendants, so its groups are safe to signal.

    A process that has been sent SIGKILL may live for some milliseconds more, and a tree that forks
    faster than it is walked may have escaped in part: call again until nothing is left.
    """
    seen: set[Key] = set()
    for walk in range(_WALKS):
        found = descendants(root, spare)
        fresh = [process for process in found if process.key not in seen]
        if not fresh:
            break
        seen.update(process.key for process in fresh)
        _signal_each(fresh, root, signal.SIGSTOP)
        if walk >= _PATIENT_WALKS:
            _chase(root, spare)
    _signal_each(found, root, signal.SIGKILL)
    return not fresh


def signal_group(group: int, signum: int) -> None:
    """killpg(2); nothing happens if the group is empty or not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _chase(root: int, spare: Container[Key]) -> None:
    """Kill what a walk is too slow for: a chain of forks, each link in a session of its own.

    The last field of /proc/loadavg is the newest process id of our pid namespace, so the end of
    the chain is found by reading two or three files instead of all.
    """
    try:
        handle = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a /proc of processes alone (subset=pid, systemd's ProcSubset=): the walks go on
    try:
        for _ in range(_LOOKS):
            newest = read(int(os.pread(handle, 256, 0).split()[-1]))
            if newest is not None and newest.alive and _descends(newest, root, spare):
                send(newest, signal.SIGKILL)
    finally:
        os.close(handle)


def _descends(process: Process, root: int, spare: Container[Key]) -> bool:
    child: Process | None = process
    while child is not None and child.key not in spare:
        if child.parent == root:
            return True
        parent = read(child.parent)
        if parent is not None and parent.start > child.start:
            return False
        child = parent
    return False


def _signal_each(processes: Sequence[Process], root: int, signum: int) -> None:
    top = read(root)
    if top is not None:
        # A group of 0 lies outside our pid namespace, and killpg(0) would mean our own.
        for group in {p.group for p in processes if p.session != top.session} - {0}:
            signal_group(group, signum)
    for process in processes:
        if process.alive:
            send(process, signum)
