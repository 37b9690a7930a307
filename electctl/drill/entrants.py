"""The candidates of a drill: real processes, and all that is below them.

Every process of one candidate has the same mark in its environment, so that it is found whoever its
parent has become. A guardian shows no environment: it is found below another, and then known. What
this does not guarantee: to find one that was never seen below a process that is known.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from electctl.base.clock import now_ns
from electctl.campaign import procfs
from electctl.campaign.process import Key
from electctl.contract.backend import Native, NativeRun
from electctl.contract.url import BackendURL
from electctl.drill import ledger, writer
from electctl.lab import server

_MARK = "ELECTCTL_DRILL"
#: What a user has set for campaigns of his own; the state directory stays.
_KEPT = ("ELECTCTL_STATE", "ELECTCTL_PASSWORD", "ELECTCTL_DEBUG")


@dataclass(frozen=True, slots=True)
class Programs:
    """What is run. Tests put broken ones in their place."""

    electctl: tuple[str, ...] = (sys.executable, "-P", "-m", "electctl")
    ledger: tuple[str, ...] = (sys.executable, "-I", "-S", ledger.__file__)
    writer: tuple[str, ...] = (sys.executable, "-I", "-S", writer.__file__)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a candidate is told. ``url`` is its own way to the store; ``ttl`` in seconds."""

    election: str
    name: str
    url: str
    ttl: float
    #: A directory of its own.
    home: Path
    command: tuple[str, ...]
    #: Where its events go.
    events: Path


@dataclass(frozen=True, slots=True)
class Start:
    """How a candidate is started, and what is added to its environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


Tool = Callable[[Entry, Programs], Start]


def native(make: Callable[[Native], NativeRun]) -> Tool:
    """A native tool of a store, see :attr:`electctl.contract.backend.Plugin.natives`."""

    def tool(entry: Entry, programs: Programs) -> Start:
        url = BackendURL.parse(entry.url)
        run = make(Native(url, entry.election, entry.name, entry.ttl, entry.command))
        return Start(run.argv, run.env)

    return tool


def electctl(entry: Entry, programs: Programs) -> Start:
    """``electctl campaign``, without a configuration of the user's."""
    config = entry.home / "electctl.yaml"
    config.touch()
    argv = [
        *programs.electctl,
        *("campaign", entry.election, "-c", str(config), "--id", entry.name),
        *("--ttl", f"{entry.ttl:g}s", "--events", str(entry.events), "-v", "--", *entry.command),
    ]
    # Which may have a password in it, and arguments are seen by all.
    return Start(argv, {"ELECTCTL_BACKEND": entry.url})


class Entrant:
    """One candidate. A :class:`electctl.faults.fault.Candidate`."""

    def __init__(self, entry: Entry, tool: Tool, programs: Programs) -> None:
        self.name = entry.name
        self.events = entry.events
        self.home = entry.home
        self._command = [os.fsencode(word) for word in entry.command]
        self._mark = f"{_MARK}={secrets.token_hex(8)}".encode()
        self._known: set[Key] = set()
        #: When its last process was seen to be gone, in nanoseconds.
        self.gone_at: int | None = None
        #: When its first process, which has ended, was seen alive last.
        self.ended_at: int | None = None
        self._alive_at = now_ns()
        self._killed = False
        entry.home.mkdir(parents=True, exist_ok=True)
        start = tool(entry, programs)
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ELECTCTL_") or name in _KEPT
        }
        mark = self._mark.decode().partition("=")[2]
        self._process = server.spawn(
            start.argv, entry.home, self.log, {**env, **start.env, _MARK: mark}
        )

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.home / "log"

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether its first process has."""
        return self._process.poll() is not None

    def tree(self) -> list[int]:
        """All processes of it that there are now, its first one first.

        Those below ones that were known before; on a machine with thousands of processes a walk
        through all of /proc would take longer than the faults that it is for.
        """
        pids = [self.pid, *(key[0] for key in self._known if _lives(key))]
        found: dict[int, None] = {}
        while pids:
            pid = pids.pop()
            there = None if pid in found else procfs.read(pid)
            if there is not None and there.alive:
                found[pid] = None
                self._known.add(there.key)
                pids += procfs.children(pid) or []
        return sorted(found, key=lambda pid: (pid != self.pid, pid))

    def _marked(self) -> list[int]:
        """The same, and what has our mark, of all that there is on the machine."""
        for pid in procfs.listed():
            if self._mark in _words(pid, "environ"):
                there = procfs.read(pid)
                if there is not None and there.alive:
                    self._known.add(there.key)
        return self.tree()

    def command_pids(self) -> list[int]:
        """The command alone."""
        size = len(self._command)
        return [pid for pid in self.tree() if _words(pid, "cmdline")[:size] == self._command]

    def look(self) -> None:
        """Note what has ended since the last look."""
        at = now_ns()
        if not self.ended:
            self._alive_at = at
        elif self.ended_at is None:
            self.ended_at = self._alive_at
        if (
            self.ended_at is not None
            and self.gone_at is None
            and not any(_lives(key) for key in self._known)
            and not self.tree()
        ):
            self.gone_at = now_ns()

    def send(self, signum: signal.Signals, pids: Sequence[int]) -> None:
        """A signal to processes of it that may be gone."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def resume(self) -> None:
        """Whatever of it is stopped goes on."""
        self.send(signal.SIGCONT, self.tree())

    def terminate(self) -> None:
        """Ask it to end, in order."""
        if not self.ended:
            self.send(signal.SIGTERM, [self.pid])

    def kill(self) -> None:
        """Leave nothing of it."""
        if self._killed:
            return
        while pids := self._marked():
            self.send(signal.SIGKILL, pids)
            self._process.poll()
        self._process.wait()
        self._killed = True

    def said(self) -> str:
        """The last line that it printed."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


def _lives(key: Key) -> bool:
    found = procfs.read(key[0])
    return found is not None and found.alive and found.key == key


def _words(pid: int, what: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:  # gone, or somebody else's
        return []
