"""Runs what stands under examples/ as a user would who has copied a folder of it.

What this does not guarantee: that nothing else was in the environment of a test; a script gets the
empty home and the environment of :class:`tests.processes.Electctl`, and the backend.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from electctl.lab.server import tree
from tests.processes import DEADLINE, Electctl, wait_for

EXAMPLES = Path(__file__).parent.parent / "examples"


class Example:
    """A copy of one folder of examples/, in the home of ``electctl``; leaving it ends what runs.

    ``env`` is what its scripts get, and may be changed.
    """

    def __init__(self, electctl: Electctl, folder: str, url: str) -> None:
        self.home = electctl.home / folder
        shutil.copytree(EXAMPLES / folder, self.home, dirs_exist_ok=True)
        self.env: dict[str, str] = {**electctl.env, "ELECTCTL_BACKEND": url}
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a command, without a terminal, its output in ``home/NUMBER.out``, and return it."""
        with self._output(len(self._started)).open("w") as out:
            process = subprocess.Popen(
                argv,
                cwd=cwd or self.home,
                env=self.env if env is None else dict(env),
                stdin=stdin,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        """What a started command has printed so far."""
        return self._output(self._started.index(process)).read_text()

    def says(self, process: subprocess.Popen[str], text: str, deadline: float = DEADLINE) -> str:
        """Wait until it has printed ``text``; all that it has printed."""
        wait_for(lambda: text in self.said(process), deadline, what=f"{text!r} printed")
        return self.said(process)

    def ends(self, process: subprocess.Popen[str], code: int) -> str:
        """Wait until it has ended, which must be with ``code``; all that it has printed."""
        ended = process.wait(DEADLINE)
        assert ended == code, f"{ended}: {self.said(process)}"
        return self.said(process)

    def run(self, *argv: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end, which must be with ``code``; all that it has printed."""
        return self.ends(self.start(*argv, env=env), code)

    def _output(self, number: int) -> Path:
        return self.home / f"{number}.out"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started:
            for pid in tree(process.pid) if process.poll() is None else []:
                send(pid, signal.SIGCONT)
            if process.poll() is None:
                process.terminate()
        for process in self._started:
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                crash(process)
            if process.stdin is not None:
                process.stdin.close()


def send(pid: int, signum: int) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def crash(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process and all below it, as if its machine had lost power."""
    pids = tree(process.pid)
    # Stopped first: a guardian that sees electctl die would still have the time to act.
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            send(pid, signum)
    process.wait(DEADLINE)


def lines(path: Path) -> Sequence[str]:
    """The lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.exists() else []
