"""The third that may kill: the releaser's process, where electctl and the guardian do not.

What this does not guarantee: that all of a command dies whose guardian and electctl were killed
at once. The kernel kills the command's own process then, unless it has changed its user, which
clears that (prctl(2), PR_SET_PDEATHSIG). This process kills the command's own process, its cgroup
if it has one, what is in its session, what it saw below the guardian at its last glance, and what
is below any of these; what is younger than the glance and has left all these is not known.

Whoever dies, is stopped, or is held otherwise (a debugger, a freezer), one of three is left to act:

- a guardian that is stopped is continued by electctl; if electctl is dead, or stopped too so that
  the time to terminate passes, by this process
- where one has not killed in time, whatever holds it, electctl and this process kill what is below
  it
- if the guardian is dead and electctl is stopped, this process continues electctl
- if both are dead, it kills what it knows of

The deadlines are in memory that is shared with electctl, so there is no queue of old ones to read.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from electctl.base.clock import now
from electctl.campaign import procfs
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.process import Process
from electctl.campaign.tree import Tree
from electctl.campaign.urgency import Urgency
from electctl.core.lease import MARGIN

#: Seconds after the time to kill, from which on others than the guardian kill too.
LATE = MARGIN / 3

#: Seconds that are spent on killing what was left behind by both.
_KILL_FOR = 10.0
_PAUSE = 0.01

#: Seconds between two tries to continue somebody, or to kill in a guardian's place.
_WAKING = 0.05

#: Seconds between two glances at the tree, at least; they take one part in so many of our time.
_GLANCE = 1.0
_SHARE = 100


class Deadlines:
    """When SIGTERM and SIGKILL are due, in memory that electctl shares with what it has forked."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
        self.set(math.inf, math.inf)

    def set(self, terminate_at: float, kill_at: float) -> None:
        self._memory[0], self._memory[1] = terminate_at, kill_at

    @property
    def terminate_at(self) -> float:
        return float(self._memory[0])

    @property
    def kill_at(self) -> float:
        return float(self._memory[1])


@dataclass(slots=True)
class _Command:
    """What is known of the command that runs."""

    main: Process | None
    handle: int | None
    cgroup: Cgroup | None
    session: int | None
    guardian: int
    guardian_handle: int | None
    #: What was below the guardian when we looked last, and when we look again.
    seen: Sequence[Process] = field(default=())
    glance_at: float = 0.0

    @classmethod
    def of(cls, message: dict[str, object]) -> _Command:
        pid, path, guardian = message["pid"], message["cgroup"], message["guardian"]
        assert isinstance(pid, int)
        assert isinstance(guardian, int)
        return cls(
            procfs.read(pid) or procfs.hidden(pid, 0),
            procfs.pidfd(pid),
            None if path is None else Cgroup(Path(str(path))),
            pid if message["session"] else None,
            guardian,
            procfs.pidfd(guardian),
        )

    def close(self) -> None:
        for handle in (self.handle, self.guardian_handle):
            if handle is not None:
                os.close(handle)

    @property
    def guarded(self) -> bool:
        """Whether the guardian is certainly there."""
        return self.guardian_handle is not None and not _ended(self.guardian_handle)

    def glance(self, *, urgent: bool) -> None:
        """Note what is below the guardian, for when it and electctl are dead."""
        if now() < self.glance_at and not urgent:
            return
        self.glance_at = now() + _GLANCE
        if procfs.method()[0] != "children":
            return
        began = time.thread_time()
        # Nothing is found below one that has just died.
        self.seen = Tree(self.guardian).look() or self.seen
        self.glance_at = now() + max(_GLANCE, _SHARE * (time.thread_time() - began))

    def kill(self) -> bool:
        """Kill all that is known of; whether there was any."""
        if self.cgroup is not None:
            self.cgroup.kill()
        busy = self.cgroup is not None and self.cgroup.populated
        if self.guarded:
            Tree(self.guardian).destroy()
        if self.main is not None and self.handle is not None and not _ended(self.handle):
            busy = True
            # Stopped first, so that it waits for none of those that are found below it.
            _send(self.handle, signal.SIGSTOP)
            Tree(self.main.pid).destroy()
            _send(self.handle, signal.SIGKILL)
        tree = Tree(0)
        for process in [*self._still_there(), *self._session_members()]:
            busy = True
            tree.send(process, signal.SIGSTOP)
            Tree(process.pid).destroy()
            tree.send(process, signal.SIGKILL)
        return busy

    def _still_there(self) -> list[Process]:
        present = ((process, procfs.read(process.pid)) for process in self.seen)
        return [
            process
            for process, found in present
            if found is not None and found.alive and found.key == process.key
        ]

    def _session_members(self) -> list[Process]:
        if self.session is None or self.main is None or procfs.method()[0] == "probe":
            return []
        found = map(procfs.read, procfs.listed())
        return [
            process
            for process in found
            if process is not None
            and process.alive
            and process.session == self.session
            and process.start >= self.main.start
        ]


class Lookout:
    """Listens to the guardian at ``end``, and knows electctl by its id."""

    def __init__(self, end: socket.socket, electctl: int, deadlines: Deadlines) -> None:
        end.setblocking(False)
        self._end = end
        self._pid = electctl
        self._electctl = procfs.pidfd(electctl)
        self._deadlines = deadlines
        self._buffer = b""
        self._command: _Command | None = None

    def run(self) -> None:
        """Until the guardian has left in good order, or nothing is left that it should have killed.

        In a thread of its own, which is given the guardian's priority.
        """
        Urgency.raised()
        with self._end:
            while self._listen():
                if self._command is not None:
                    self._see_to(self._command)
        if self._command is None:
            return
        # The guardian is gone, or we did not hear it for long. electctl kills, if it can.
        nothing = select.poll()
        while not self._alone:
            self._see_to(self._command)
            nothing.poll(_WAKING * 1000)
        until = now() + _KILL_FOR
        while self._command.kill() and now() < until:
            nothing.poll(_PAUSE * 1000)
        if self._command.cgroup is not None:
            self._command.cgroup.remove()

    @property
    def _alone(self) -> bool:
        """electctl is gone."""
        if self._electctl is not None:
            return _ended(self._electctl)
        return not procfs.exists(self._pid)

    def _see_to(self, command: _Command) -> None:
        """Do what the others should have done by now."""
        alone, guarded, moment = self._alone, command.guarded, now()
        if guarded:
            command.glance(urgent=alone)
        if alone or moment >= self._deadlines.terminate_at:
            if guarded:
                _send(command.guardian_handle, signal.SIGCONT)
            elif command.guardian_handle is not None:
                _send(self._electctl, signal.SIGCONT)
        if command.guardian_handle is not None and moment >= self._deadlines.kill_at + LATE:
            command.kill()

    def _listen(self) -> bool:
        """Wait for the guardian's word, or until there is something to be seen to."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        alone = self._alone
        if self._electctl is not None and not alone:
            poll.register(self._electctl, select.POLLIN)
        poll.poll(self._pause(alone=alone))
        try:
            while chunk := self._end.recv(1 << 16):
                self._buffer += chunk
        except BlockingIOError:
            self._take()
            return True
        except OSError:
            pass
        self._take()
        return False

    def _pause(self, *, alone: bool) -> float | None:
        """In milliseconds."""
        if self._command is None:
            return None if self._electctl is not None else _WAKING * 1000
        due, kill_due = self._deadlines.terminate_at, self._deadlines.kill_at + LATE
        if alone or now() >= due:
            return 1000 * max(
                0.001, min(_WAKING, kill_due - now() if now() < kill_due else _WAKING)
            )
        next_glance = self._command.glance_at if self._command.guarded else math.inf
        return 1000 * min(_GLANCE, max(0.001, min(due, next_glance) - now()))

    def _take(self) -> None:
        *lines, self._buffer = self._buffer.split(b"\n")
        for message in map(json.loads, lines):
            if self._command is not None:
                self._command.close()
            self._command = _Command.of(message) if message["do"] == "command" else None


def _send(handle: int | None, signum: int) -> None:
    if handle is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(handle, signum)


def _ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))
