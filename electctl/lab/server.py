"""One real server process on loopback: started, watched, killed, paused.

What this does not guarantee: anything about what the server stores, nor that it answers as a member
of a cluster (see :mod:`electctl.lab.cluster`). A server dies with the process that started it
(Linux, see :mod:`electctl.lab.tether`); one that is to outlive a command has a keeper for a parent.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from electctl.base.clock import now
from electctl.errors import MissingDependency, Unreachable
from electctl.lab import tether
from electctl.lab.ports import HOST
from electctl.lab.ready import Check

#: Where Debian puts server programs that are not in PATH.
DEBIAN_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/share/zookeeper/bin",
    "/usr/sbin",
    "/usr/local/sbin",
)
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
POLL = 0.01
TRY_TIMEOUT = 2.0
TAIL_LINES = 12


def find_program(name: str, package: str, places: Sequence[str] = DEBIAN_PLACES) -> str:
    """The absolute path of a program, from PATH or ``places``, there the newest version first.

    Raises MissingDependency, naming the Debian ``package``.
    """
    found = shutil.which(name)
    if found is None:
        for place in places:
            for folder in sorted(Path("/").glob(place[1:]), key=_version, reverse=True):
                found = found or shutil.which(name, path=str(folder))
    if found is None:
        raise MissingDependency(
            f"the program {name} is not installed", hint=f"apt-get install {package}"
        )
    return str(Path(found).absolute())


def _version(folder: Path) -> tuple[float, ...]:
    return tuple(float(part) for part in folder.parts if part.replace(".", "", 1).isdigit())


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: who it is, whose child, and its state letter as in proc(5)."""

    pid: int
    parent: int
    state: str


def process(pid: int) -> Process | None:
    """What /proc says of ``pid``; None once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may itself hold spaces and brackets.
    state, parent = text.rpartition(")")[2].split()[:2]
    return Process(pid, int(parent), state)


def tree(pid: int) -> list[int]:
    """``pid`` and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := process(int(name))) is not None:
            children.setdefault(found.parent, []).append(found.pid)
    found_pids = [pid]
    for known in found_pids:
        found_pids += children.get(known, [])
    return found_pids


@cache
def _spawner() -> ThreadPoolExecutor:
    # PR_SET_PDEATHSIG fires when the forking *thread* ends, so one that lasts does all the forking.
    return ThreadPoolExecutor(1, thread_name_prefix="electctl-lab-spawner")


def spawn(
    argv: Sequence[str], home: Path, log: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process in ``home``, which is made; it dies with this one (Linux).

    It has a session of its own and no input. ``argv[0]`` is an absolute path, and ``env`` its whole
    environment.
    """
    home.mkdir(parents=True, exist_ok=True)
    tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv]
    with log.open("ab") as out:
        return (
            _spawner()
            .submit(
                subprocess.Popen,
                tethered,
                cwd=home,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            .result()
        )


class StartFailed(Unreachable):
    """A server exited, or did not answer, while it was being started. ``log``: its last lines."""

    def __init__(self, message: str, *, hint: str | None = None, log: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log = log


class Server:
    """One server process of a lab.

    ``argv[0]`` is an absolute path (:func:`find_program`); the process runs in ``home``, which is
    made, with its output in ``home/log``, and in a session of its own, so that Ctrl-C on a terminal
    is not meant for it. ``env`` is added to the environment and may be changed before a restart
    (LD_PRELOAD for libfaketime). ``check`` tells whether it answers. Times in seconds. Not for use
    from several threads at once.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        home: Path,
        port: int,
        check: Check,
        env: Mapping[str, str] | None = None,
        start_timeout: float = START_TIMEOUT,
        stop_timeout: float = STOP_TIMEOUT,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.home = home
        self.port = port
        self.check = check
        self.env = dict(env or {})
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout
        self.stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return HOST, self.port

    @property
    def log(self) -> Path:
        """What it printed, over all its starts."""
        return self.home / "log"

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start and once it has gone."""
        return self._child.pid if self._child is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the process runs, be it paused."""
        return self._child is not None and self._child.poll() is None

    @property
    def paused(self) -> bool:
        """Whether the process is stopped by a signal."""
        return self._child is not None and _state(self._child.pid) == "T"

    def start(self) -> None:
        """Start it and wait until it answers. Does nothing if it is alive.

        Raises StartFailed if it exits or does not answer in time.
        """
        if not self.alive:
            self.spawn()
            self.wait_ready()

    def spawn(self) -> None:
        """Start the process without waiting for an answer."""
        self._child = spawn(self.argv, self.home, self.log, {**os.environ, **self.env})

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until it answers. Raises StartFailed with the cause and its last log lines."""
        limit = self.start_timeout if timeout is None else timeout
        deadline = now() + limit
        while reason := self.why_silent(min(TRY_TIMEOUT, limit)):
            if not self.alive:
                # Asked again: it may have ended after it did not answer.
                raise self._failed(self.why_silent())
            if now() >= deadline:
                raise self._failed(f"does not answer after {limit:g} s: {reason}")
            time.sleep(POLL)

    def why_silent(self, timeout: float = TRY_TIMEOUT) -> str:
        """Ask it once: "" if it answers, else why not."""
        if self._child is None:
            return "it was not started"
        if (code := self._child.poll()) is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return f"it {how}"
        if self.paused:
            return "it is paused"
        try:
            return self.check(timeout)
        except OSError as error:
            return str(error)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        try:
            with self.log.open(errors="replace") as text:
                return "".join(deque(text, lines)).rstrip()
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Ask it to end (also when paused), and kill it if it does not. Idempotent."""
        if self._child is None:
            return
        if self.alive:
            # A stopped process takes in no signal but SIGKILL until it is continued.
            self._signal_tree(signal.SIGCONT)
            self._child.send_signal(self.stop_signal)
            try:
                self._child.wait(self.stop_timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL it and all that it started, and wait until it is gone. Idempotent."""
        if self._child is not None and self.alive:
            self._signal_tree(signal.SIGKILL)
            self._child.wait()

    def pause(self) -> None:
        """SIGSTOP it and all that it started; returns once the kernel shows them stopped.

        Raises Unreachable if it is not running.
        """
        self._until_state(signal.SIGSTOP, stopped=True)

    def resume(self) -> None:
        """SIGCONT it and all that it started. Raises Unreachable if it is not running."""
        self._until_state(signal.SIGCONT, stopped=False)

    def restart(self) -> None:
        """Stop it and start it again on what it stored."""
        self.stop()
        self.start()

    def _signal_tree(self, sent: signal.Signals) -> list[int]:
        assert self._child is not None
        pids = tree(self._child.pid)
        for pid in pids:
            try:
                os.kill(pid, sent)
            except ProcessLookupError:
                continue
        return pids

    def _until_state(self, sent: signal.Signals, *, stopped: bool) -> None:
        if not self.alive:
            raise Unreachable(f"{self.name} is not running", hint="start it first")
        deadline = now() + self.stop_timeout
        # A child forked while its parent was being stopped shows up in the next look.
        while any(
            (_state(pid) == "T") != stopped
            for pid in self._signal_tree(sent)
            if _state(pid) not in {"", "Z"}
        ):
            if now() >= deadline:
                raise Unreachable(f"{self.name} did not take {sent.name}")
            time.sleep(POLL / 10)

    def _failed(self, reason: str) -> StartFailed:
        self.kill()
        log = self.tail()
        said = f"; it last said: {log.splitlines()[-1]}" if log else "; it printed nothing"
        return StartFailed(
            f"{self.name} ({Path(self.argv[0]).name}) did not start: {reason}{said}",
            hint=f"its log is {self.log}",
            log=log,
        )


def _state(pid: int) -> str:
    found = process(pid)
    return "" if found is None else found.state
