"""Finds, signals and kills every descendant of a process.

What this does not guarantee: that a process of another user, or one in uninterruptible sleep,
dies; that work handed to another manager (systemd-run, a container engine) is found; that a chain
of forks in which every link makes a session of its own is caught in bounded time (it is chased, and
each look may miss; in a cgroup of its own it cannot escape, see :mod:`electctl.campaign.cgroup`).
Orphans are found only if ``root`` is a child subreaper (prctl(2)). That nothing was found proves
nothing: only wait(2) says that no descendant is left.

How they are found is in :data:`electctl.campaign.procfs.Method`. From the root down by the kernel's
lists of children, a look costs what the tree costs, however many processes the host has. A child
that is listed and cannot be read (``hidepid=``) is alive, and is signalled by its id. What a hidden
process has started comes to the root when it dies.

Why a process that was found is a descendant for good: under a subreaper a descendant never stops
being one. Why it is not another process under a reused id: the id of a child of ours stays its own
until we wait for it; a list is believed only if its owner was the same before and after it was
read; and :meth:`Tree.send` compares the start time again through an open pidfd, which pins the id.

What /proc is worth is asked anew before each look: a command that is root may take it away, or put
that of another PID namespace in its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from electctl.campaign import procfs
from electctl.campaign.process import UNKNOWN_START, Key, Process
from electctl.campaign.procfs import Method, pidfd, read

#: Looks in one attempt to kill. One that finds nothing new ends it; only a tree that forks faster
#: than it is looked at needs more than three.
_LOOKS = 10

#: After so many looks without an end, children are killed as they come.
_PATIENT_LOOKS = 2

#: Such looks in one chase, of about 0.02 ms each.
_CHASES = 200

#: The ids that Linux gives by default, and those that it can give at most (proc(5), pid_max).
_FEW_IDS, _ALL_IDS = 32768, 4194304


class Tree:
    """The descendants of ``root``, without those in ``spare`` and all below them.

    ``main`` is the command's own process: where ids have to be tried one by one, from it on.
    """

    def __init__(
        self,
        root: int,
        spare: Collection[Key] = (),
        *,
        main: int = 2,
        method: Method | None = None,
    ) -> None:
        self._root = root
        self._spare = spare
        self._spared_ids = {pid for pid, _ in spare}
        self._main = main
        self._chosen = method
        #: What is weaker than usual in how they are found, since the last look; mostly "".
        self.weaker = ""
        self.method = self._method()
        self._ours = root == os.getpid()
        self._session = _session(root)

    def _method(self) -> Method:
        if self._chosen is not None:
            return self._chosen
        method, self.weaker = procfs.method()
        return method

    def look(self) -> list[Process]:
        """All of them, zombies too."""
        self.method = self._method()
        match self.method:
            case "children":
                return self._by_lists()
            case "walk":
                return self._by_walk()
            case "probe":
                return self._by_probe()
            case "group":
                return self._by_group()

    def send(self, process: Process, *signals: int) -> None:
        """Signal exactly this process; nothing happens if it is gone or not ours to signal."""
        handle = pidfd(process.pid)
        try:
            if not self._is(process):
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

    def destroy(self) -> tuple[list[Process], bool]:
        """Freeze, then kill. What was found, and False if it was still forking.

        Frozen first, because a process that is merely killed makes room under the process limit for
        another fork. fork(2) fails while a signal is pending, so what was frozen adds nothing, and
        the looks come to an end: at one that finds nothing new, not even a zombie. Groups are
        signalled as a whole before their members: that is one atomic step, which a chain of forks
        with an ever new id cannot outrun. A descendant's session, if it is not the root's own,
        holds only descendants, so its groups are safe to signal.

        A process that has been sent SIGKILL may live for some milliseconds more, and a tree that
        forks faster than it is looked at may have escaped in part: call again until wait(2) says
        that nothing is left.
        """
        if self._method() in ("probe", "group"):
            # Each look tries many ids, and what the killed ones had started comes to us.
            found = self.look()
            self._signal_each(found, signal.SIGKILL)
            return found, True
        seen: set[Key] = set()
        found, fresh = [], []
        for look in range(_LOOKS):
            found = self.look()
            fresh = [process for process in found if process.key not in seen]
            if not fresh:
                break
            seen.update(process.key for process in fresh)
            self._signal_each(fresh, signal.SIGSTOP)
            if look >= _PATIENT_LOOKS:
                self._chase()
        self._signal_each(found, signal.SIGKILL)
        return found, not fresh

    # Finding -------------------------------------------------------------------------------------

    def _by_lists(self) -> list[Process]:
        found: dict[int, Process] = {}
        pending: list[tuple[int, Process | None]] = [(self._root, None)]
        while pending:
            parent, known = pending.pop()
            listed = procfs.children(parent) or []
            if listed and known is not None and not self._is(known):
                continue  # that list was another's
            for pid in listed:
                child = None if pid in found else self._child(pid, parent)
                if child is not None and not self._is_spared(child):
                    found[pid] = child
                    pending.append((pid, child))
        return list(found.values())

    def _child(self, pid: int, parent: int) -> Process | None:
        process = read(pid)
        if process is not None:
            # Or its parent has ended since: a descendant all the same.
            return process if process.parent in (parent, self._root) else None
        process = procfs.hidden(pid, parent)
        if process is None or parent == self._root:
            return process
        return process if pid in (procfs.children(parent) or ()) else None

    def _by_walk(self) -> list[Process]:
        children: dict[int, list[Process]] = {}
        for process in map(read, procfs.listed()):
            if process is not None:
                children.setdefault(process.parent, []).append(process)
        found: list[Process] = []
        pending: list[Key] = [(self._root, 0)]
        while pending:
            parent, start = pending.pop()
            for child in children.get(parent, ()):
                # A parent is never younger than its child.
                if child.start >= start and not self._is_spared(child):
                    found.append(child)
                    pending.append(child.key)
        if not any(process.parent == self._root for process in found):
            # None to be seen, which may be because all are hidden.
            found += self._by_probe()
        return found

    def _by_probe(self) -> list[Process]:
        """Without /proc: which ids are children of ours, or in the command's own session?"""
        if not self._ours or not has_child():
            return []
        near, others = _ids_since(self._main)
        return self._probe(near) or self._probe(others)

    def _probe(self, ids: Iterable[int]) -> list[Process]:
        found = []
        for pid in ids:
            ours = is_child(pid)
            if ours or self._is_in_commands_session(pid):
                process = procfs.hidden(pid, self._root if ours else 0)
                if process is not None and not self._is_spared(process):
                    found.append(process)
        return found

    def _by_group(self) -> list[Process]:
        """The group as if it were one process."""
        try:
            os.killpg(self._main, 0)
        except OSError:
            return []
        return [Process(self._main, self._root, self._main, self._main, UNKNOWN_START, True)]

    def _is_in_commands_session(self, pid: int) -> bool:
        return self._main != self._session and _session(pid) == self._main

    # Signalling ----------------------------------------------------------------------------------

    def _is(self, process: Process) -> bool:
        """Whether the process of this id is still the one that was found."""
        present = read(process.pid)
        if present is not None and process.start != UNKNOWN_START:
            return present.start == process.start
        if self._ours and process.parent == self._root:
            return is_child(process.pid)
        # It was hidden when it was found, or is so now.
        return procfs.exists(process.pid) and _session(process.pid) == process.session

    def _signal_each(self, processes: Sequence[Process], signum: int) -> None:
        # A group of 0 lies outside our pid namespace, and killpg(0) would mean our own.
        for group in {p.group for p in processes if p.session != self._session} - {0}:
            signal_group(group, signum)
        for process in processes:
            if process.alive:
                self.send(process, signum)

    def _chase(self) -> None:
        """Kill what a look is too slow for: a chain of forks, each link in a session of its own.

        The end of the chain becomes our child, and the id of a child of ours is its own until we
        wait for it: so it is killed without looking at it.
        """
        if self.method != "children" or not self._ours:
            return
        spared = {pid for pid in procfs.children(self._root) or () if self._spares(pid)}
        for _ in range(_CHASES):
            for pid in procfs.children(self._root) or ():
                if pid not in spared and not self._spares(pid):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)

    def _spares(self, pid: int) -> bool:
        if self._spare == ():
            return False
        process = read(pid) or procfs.hidden(pid, self._root)
        return process is not None and self._is_spared(process)

    def _is_spared(self, process: Process) -> bool:
        if process.start == UNKNOWN_START:  # it could be read once, and cannot any more
            return process.pid in self._spared_ids
        return process.key in self._spare


def signal_group(group: int, signum: int) -> None:
    """killpg(2); nothing happens if the group is empty or not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def has_child() -> bool:
    """Whether we have a child, zombies included, by the kernel's own word."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def is_child(pid: int) -> bool:
    """Whether this is a child of ours that nobody has waited for. Needs no /proc."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _ids_since(first: int) -> tuple[Iterable[int], Iterable[int]]:
    """The ids that were given since ``first`` was, by the newest: that of a process forked here.

    Where there is no process to be had, as under a limit that the command has used up: those that
    follow ``first``, and apart from them all others, for when nothing is found there. The death of
    what is found makes room for the next try.
    """
    end = _FEW_IDS if first < _FEW_IDS else _ALL_IDS
    try:
        newest = os.fork()
    except OSError:
        near = min(first + _FEW_IDS, end)
        return range(first, near), chain(range(near, end), range(2, first))
    if newest == 0:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):  # started with SIGCHLD ignored
        os.waitpid(newest, 0)
    if newest >= first:
        return range(first, newest), ()
    return chain(range(2, newest), range(first, end)), ()
