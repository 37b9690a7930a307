"""What the tests of the guardian share: one with all that it has said, and processes to watch."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from electctl.base.clock import now
from electctl.campaign.guardian import Guardian, GuardianEvent
from electctl.campaign.procfs import read
from electctl.campaign.tree import Tree
from electctl.core.lease import MARGIN

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="full strength is Linux's alone")

E = TypeVar("E", bound=GuardianEvent)

#: What may pass between SIGKILL and the end of the last process, in seconds: after that another may
#: lead. No busy machine excuses more.
LATE = MARGIN
#: What a busy machine may add to what has no such end.
SOON = 3.0
#: For what must happen but has no deadline of its own.
PATIENCE = 15.0

#: For the shell: go on for a while, and ignore nothing. Every program here ends by itself in the
#: end, so that a guardian that is broken leaves no process for good.
SPIN = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); sleep 0.01; done"

#: A program that leaves its group, its session and, over one that does ``parent``, its command.
DAEMON = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(2):
        if os.fork():
            {parent}
        os.setsid()
    with open({file!r}, "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(30)
"""


def eventually(what: str, holds: Callable[[], bool], within: float = PATIENCE) -> None:
    until = now() + within
    while not holds():
        assert now() < until, f"not within {within} s: {what}"
        time.sleep(0.01)


def pids(file: Path, count: int = 1) -> list[int]:
    """The process ids that a command writes into a file, one a line, once all are there."""
    eventually(
        f"{count} process ids in {file.name}",
        lambda: file.exists() and file.read_text().count("\n") >= count,
    )
    return [int(line) for line in file.read_text().split()]


def lives(pid: int) -> bool:
    process = read(pid)
    return process is not None and process.alive


class Death:
    """Tells when a process ended, to the millisecond, by its pidfd."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def at(self, within: float = PATIENCE) -> float:
        ready, _, _ = select.select([self._handle], [], [], within)
        moment = now()
        os.close(self._handle)
        assert ready, f"process {self.pid} lives"
        return moment


class Harness:
    """A guardian, and what it has said."""

    def __init__(self, guardian: Guardian, folder: Path) -> None:
        self.guardian = guardian
        self.events: list[GuardianEvent] = []
        self._folder = folder
        self._files = 0
        self.terminate_at = self.kill_at = 0.0

    def file(self) -> Path:
        self._files += 1
        return self._folder / f"file{self._files}"

    def shell(self, script: str, *, terminate: float = 30, kill: float = 60) -> None:
        """Run a shell script with these deadlines, in seconds from now."""
        self.run("/bin/sh", "-c", script, terminate=terminate, kill=kill)

    def python(self, script: str, *, terminate: float = 30, kill: float = 60) -> None:
        program = textwrap.dedent(script)
        self.run(sys.executable, "-ISc", program, terminate=terminate, kill=kill)

    def run(
        self,
        *argv: str,
        terminate: float = 30,
        kill: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.events = []
        self.due(terminate=terminate, kill=kill)
        self.guardian.start(argv, os.environ if env is None else env)

    def due(self, *, terminate: float, kill: float) -> None:
        self.terminate_at, self.kill_at = now() + terminate, now() + kill
        self.guardian.deadline(self.terminate_at, self.kill_at)

    def until(self, kind: type[E]) -> E:
        """Wait for an event of this kind."""
        until = now() + PATIENCE
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            assert now() < until, f"no {kind.__name__}, only {self.events}"
            select.select([self.guardian], [], [], 0.5)
            self.events += self.guardian.receive()

    def kinds(self) -> list[type[GuardianEvent]]:
        return [type(event) for event in self.events]


@contextmanager
def guarded(folder: Path) -> Iterator[Harness]:
    """A guardian of this process, which keeps its files in ``folder`` and leaves nothing behind."""
    before = {process.key for process in Tree(os.getpid()).look()}
    guardian = Guardian.spawn()
    try:
        yield Harness(guardian, folder)
    finally:
        guardian.close()
        guardian.close()  # The second does nothing.
        # Undo what spawn() did to the test process.
        assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0
        left = Tree(os.getpid(), before).look()
        assert left == [], f"processes or zombies are left: {left}"
