"""A campaign that is measured: its process, its tree, what its command wrote, its lease's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import electctl
from electctl.base.clock import now
from electctl.errors import ElectctlError
from electctl.faults.processes import send
from electctl.lab.server import tree

WRITER = Path(__file__).parent.with_name("writer.py")
DEADLINE = 60.0
#: Until a store that has lost its own leader serves again.
STORE_DEADLINE = 400.0


class Campaign:
    """One process of a tool with a writer under it."""

    def __init__(self, argv: list[str], election: str, name: str, command: str, home: Path):
        self.name = name
        self.log = home / f"{election}-{name}.log"
        self.lines = home / f"{election}.lines"
        #: All processes that were ever seen under it.
        self.known: set[int] = set()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, sys.executable, "-I", "-S", WRITER, command, self.lines, name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def times(self) -> list[float]:
        """When this campaign's command wrote, in seconds on electctl's clock."""
        if not self.lines.exists():
            return []
        # Up to the last end of a line: what follows it is being written right now.
        whole = self.lines.read_text().rpartition("\n")[0]
        pairs = (line.split() for line in whole.splitlines())
        return [int(at) / 1e9 for name, at in pairs if name == self.name]

    def wait_writing(self) -> None:
        """Wait for this command's first line."""
        until(
            lambda: bool(self.times()),
            f"{self.name} writes nothing: {self.log.read_text()}",
            STORE_DEADLINE,
        )

    @property
    def ended(self) -> bool:
        """Whether the tool has gone."""
        return self.process.poll() is not None

    def tree(self) -> list[int]:
        """This process and all its descendants."""
        found = tree(self.process.pid)
        self.known.update(found)
        return found

    @property
    def pid(self) -> int:
        """Of the tool itself."""
        return self.process.pid

    def command_pids(self) -> list[int]:
        """The writer and what it started."""
        for pid in self.tree():
            with suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if argv[3:4] == [os.fsencode(WRITER)]:  # electctl's own has it later
                    return tree(pid)
        return []

    def end(self) -> None:
        """Leave nothing behind, also of what has lost its parent."""
        self.tree()
        send(self.known, signal.SIGKILL)
        self.process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for ``condition``, looking every 10 ms; raise TimeoutError after ``seconds``."""
    deadline = now() + seconds
    while not condition():
        if now() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


class Spoilt(Exception):
    """No round: on a starved machine a campaign may lose its lease, or find no contact in time."""


class LeaseEnd(threading.Thread):
    """Follows when the store will end the leadership that it has now, as the store itself says."""

    def __init__(self, url: str, election: str):
        super().__init__(daemon=True)
        self.elector = electctl.connect(url)
        self.election = election
        holder = self.elector.holder(election)
        if holder is None:
            raise Spoilt(f"nobody leads {election}")
        self.key = holder.key
        self.last = 0.0
        #: Whether the store says when the lease will end.
        self.told = False
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            try:
                asked = now()
                holder = self.elector.holder(self.election)
            except ElectctlError:
                continue
            if holder and holder.key == self.key:
                # Counted from before the question: the lease ends no earlier than this says.
                # etcd drops the fractions of a second, so an earlier answer can be the nearer one.
                self.told |= holder.expires_in is not None
                self.last = max(self.last, asked + (holder.expires_in or 0.0))

    def end(self) -> float:
        """Stop following; the latest end that is certain, on electctl's clock."""
        self.stop.set()
        self.join()
        self.elector.close()
        return self.last
