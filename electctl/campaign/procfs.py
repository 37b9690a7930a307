"""What /proc says of a process, and whether it speaks of our processes at all.

What this does not guarantee: that it says everything. Mounted with ``hidepid=`` it hides processes
of other users, and those of ours that are not dumpable (a program whose file cannot be read, one
that has changed its user). So None from :func:`read` means "cannot be read", never "absent"; who
needs to know asks the kernel by the id itself (:func:`exists`).

Sources: proc(5), proc_pid_stat(5), proc_tid_children(5), pid_namespaces(7).
"""

from __future__ import annotations

import os
import select
import sys
from typing import Literal

from electctl.campaign.process import UNKNOWN_START, Process

#: How descendants are found. ``children``: the kernel's own lists, which cost what the tree costs.
#: ``walk``: all of /proc, by parent ids. ``probe``: without /proc, by asking for each id whether it
#: is a child of ours. ``group``: not on Linux, the process group alone.
Method = Literal["children", "walk", "probe", "group"]


def method() -> tuple[Method, str]:
    """How descendants are to be found here, and what is weaker than usual, if anything is."""
    if sys.platform != "linux":
        return "group", (
            "this system is not Linux: only the process group of the command is stopped, and what "
            "leaves it is not"
        )
    if not os.path.exists("/proc/self/stat"):
        return "probe", (
            "/proc is not mounted: what the command starts in sessions of its own gets SIGKILL, "
            "but no SIGTERM before it, and finding it takes longer"
        )
    if not _is_of_our_namespace():
        return "probe", (
            "/proc belongs to another PID namespace: what the command starts in sessions of its "
            "own gets SIGKILL, but no SIGTERM before it, and finding it takes longer"
        )
    if children(os.getpid()) is None:
        return "walk", (
            "this kernel keeps no lists of children (CONFIG_PROC_CHILDREN): finding what is to be "
            "killed takes longer, the more processes the host has"
        )
    return "children", ""


def _is_of_our_namespace() -> bool:
    """Whether the ids in /proc are those that our own system calls use."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return False
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"NSpid:"):
                    # From the namespace of this /proc down to our own: with one entry it is ours.
                    return line.split()[1:] == [str(os.getpid()).encode()]
    except OSError:
        return False
    return True  # before Linux 4.1


def read(pid: int) -> Process | None:
    """The process, or None if it cannot be read: absent, or hidden."""
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(handle, 4096)
    except OSError:
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


def hidden(pid: int, parent: int) -> Process | None:
    """A process that cannot be read, by what the kernel says of its id; None if there is none."""
    try:
        group, session = os.getpgid(pid), os.getsid(pid)
    except ProcessLookupError:
        return None
    except PermissionError:  # a security module
        group = session = 0
    return Process(pid, parent, group, session, UNKNOWN_START, _runs(pid))


def exists(pid: int) -> bool:
    """Whether there is a process of this id, zombies included. Needs no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _runs(pid: int) -> bool:
    """False if all its threads have ended; true where that cannot be known."""
    handle = pidfd(pid)
    if handle is None:
        return exists(pid)
    try:
        # A poll, because select(2) ends at descriptor 1023.
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(handle)


def listed() -> list[int]:
    """All ids that /proc lists."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int] | None:
    """The ids of a process's children, zombies too; None where there is no list of them.

    The list is the kernel's and costs no walk. It is exact as long as none of them is waited for
    meanwhile (proc_tid_children(5)), so best asked by the parent itself, or of a frozen one.
    """
    text = b""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            try:
                handle = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if thread == str(pid):
                    return None
                continue  # a thread that has just ended; its children have become another's
            try:
                while some := os.read(handle, 4096):
                    text += some
            finally:
                os.close(handle)
    except OSError:
        return None
    return [int(pid) for pid in text.split()]


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
