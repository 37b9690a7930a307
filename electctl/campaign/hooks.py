"""Hooks: shell command lines that run when leadership comes and goes.

What this does not guarantee: that an on-lost hook runs if electctl itself is killed; nor that what
it leaves in other process groups is stopped when its time is up. The on-elected hook runs as the
leader, under the guardian, like the command itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping

#: Seconds that an on-lost hook may take.
TIME_LIMIT = 30.0

SHELL = ("/bin/sh", "-c")


class Hook:
    """One run of a hook outside the guardian: :meth:`wait` in a worker thread."""

    def __init__(self, line: str, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [*SHELL, line], env=dict(env), stdin=subprocess.DEVNULL, start_new_session=True
        )

    def wait(self) -> str:
        """Wait until it ends, at most :data:`TIME_LIMIT`; a sentence on what went wrong, or ""."""
        try:
            status = self._process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            return f"--on-lost took more than {TIME_LIMIT:g} s and was killed"
        return f"--on-lost ended with exit code {status}" if status else ""

    def kill(self) -> None:
        """SIGKILL to its process group; nothing if it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
