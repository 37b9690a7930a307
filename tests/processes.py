"""What tests need to run the real command line, and to wait for what processes do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from electctl.base.clock import now

T = TypeVar("T")

DEADLINE = 20.0


def wait_for(
    predicate: Callable[[], T], deadline: float = DEADLINE, *, what: str | None = None
) -> T:
    """The first true value of ``predicate``, asked again and again for ``deadline`` seconds.

    AssertionError after that, saying ``what`` did not happen and what the predicate last gave.
    """
    began = now()
    while not (value := predicate()):
        waited = now() - began
        assert waited < deadline, f"not within {deadline:g} s: {what or predicate}; last {value!r}"
        # Soon at first, then less often: what waits must not keep what it waits for from running.
        time.sleep(min(0.025, max(0.002, waited / 20)))
    return value


def processes_with(text: str) -> list[str]:
    """The command lines of all processes that have ``text`` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if text in line:
            found.append(line)
    return found


class Electctl:
    """The installed ``electctl``, run as a user with an empty home would run it.

    No ELECTCTL_* variable, no config file, HOME and all XDG directories under ``home``. ``env`` may
    be changed; a value given to a call counts for that call, None removes the variable.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        scripts = str(Path(sys.executable).parent)
        self.env: dict[str, str] = {
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": str(home / "tmp"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_RUNTIME_DIR": str(home / "run"),
        }
        for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
            Path(self.env[name]).mkdir(parents=True, exist_ok=True)
        self._program = shutil.which("electctl", path=scripts)
        assert self._program, "the console script is not installed beside the interpreter"
        self._started: list[subprocess.Popen[str]] = []

    def run(
        self,
        *args: str | Path,
        input: str | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, output captured as text. ``check`` is the exit code that must come."""
        done = subprocess.run(
            self._argv(args),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env=self._environment(env),
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
        )
        assert check is None or done.returncode == check, f"{done.returncode}: {done.stderr}"
        return done

    def popen(
        self,
        *args: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start it, stdout and stderr in pipes unless told otherwise; :meth:`end` ends it."""
        process = subprocess.Popen(
            self._argv(args),
            env=self._environment(env),
            cwd=cwd or self.home,
            text=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what was started and still runs, labs included."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(DEADLINE / 2)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        servers = self.servers()
        if "lab" in servers:
            self.run("lab", "down", "--all", check=0)
        if "local" in servers:
            self.run("raft", "stop")

    def servers(self) -> list[str]:
        """What it has started that goes on without it: a lab, the embedded server."""
        state = self.home / "state" / "electctl"
        places = {"lab": state / "lab", "local": state / "local" / "socket"}
        return [name for name, place in places.items() if place.exists()]

    def _argv(self, args: tuple[str | Path, ...]) -> list[str]:
        assert self._program is not None
        return [self._program, *map(str, args)]

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        merged = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}
