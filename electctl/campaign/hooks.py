"""Hooks: shell command lines that run when leadership comes and goes.

What this does not guarantee: that an on-lost hook runs if electctl itself is killed; nor that what
it leaves in other process groups is stopped when its time is up. The on-elected hook runs as the
leader, under the guardian, like the command itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping

from electctl.base.clock import now
from electctl.campaign import inherited
from electctl.campaign.channel import shell_status
from electctl.campaign.term import HOOK_LIMIT

#: Seconds between two looks at whether it has ended.
_PACE = 0.01
_UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}

SHELL = ("/bin/sh", "-c")


class Hook:
    """One run of a hook outside the guardian: :meth:`wait` in a worker thread."""

    def __init__(self, line: str, env: Mapping[str, str]) -> None:
        # Not subprocess: it cannot unblock the signals that are blocked here. All that we have open
        # beside the standard streams is close-on-exec.
        self.pid = os.posix_spawn(
            SHELL[0],
            [*SHELL, line],
            env,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - inherited.recorded.ignored - _UNCHANGEABLE,
        )
        self._raw: int | None = None
        # Its id is another's as soon as somebody has waited for it.
        self._lock = threading.Lock()

    def wait(self) -> str:
        """Wait until it ends, at most :data:`HOOK_LIMIT`; a sentence on what went wrong, or ""."""
        until = now() + HOOK_LIMIT
        late = False
        while (raw := self._reap()) is None:
            if not late and now() >= until:
                late = True
                self.kill()
            time.sleep(_PACE)
        if late:
            return f"--on-lost took more than {HOOK_LIMIT:g} s and was killed"
        status = shell_status(raw)
        return f"--on-lost ended with exit code {status}" if status else ""

    def kill(self) -> None:
        """SIGKILL to its process group; nothing if it has ended."""
        with self._lock:
            if self._raw is None:
                os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> int | None:
        with self._lock:
            ended, raw = os.waitpid(self.pid, os.WNOHANG)
            self._raw = raw if ended else None
            return self._raw
