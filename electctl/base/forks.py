"""Which process this is: what one process has won, a fork of it has not.

What this does not guarantee: that a process which was copied by other means than fork(2), with its
memory (a checkpoint of a container that is restored twice, a virtual machine that is cloned), is
told from its original.

Both a count of forks and the process id are looked at. The first knows a child that has its
parent's number again (in a PID namespace of its own both may be 1), the second one that was made
without Python's knowledge.
"""

from __future__ import annotations

import os
import threading

#: What :func:`here` gives; equal in one process, and in no fork of it.
Process = tuple[int, int]

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


def here() -> Process:
    """The process that asks."""
    return _forks, os.getpid()


class OwnEvent(threading.Event):
    """An event that is set in every process but the one that made it.

    In another process nothing waits for its lock, which somebody may have held at the fork.
    """

    def __init__(self) -> None:
        super().__init__()
        self._home = here()

    def is_set(self) -> bool:
        """Whether it was set, or this is another process."""
        return self._home != here() or super().is_set()

    def set(self) -> None:
        """Set it. Does nothing in another process, where it is set."""
        if self._home == here():
            super().set()

    def wait(self, timeout: float | None = None) -> bool:
        """As :meth:`threading.Event.wait`; at once in another process."""
        return self._home != here() or super().wait(timeout)
