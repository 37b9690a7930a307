"""A process as a look at the tree finds it. Plain data, without behaviour."""

from __future__ import annotations

from dataclasses import dataclass

#: A process and the moment of its start: an id alone can be used again.
Key = tuple[int, int]

#: The start of a process of which nothing can be read. Its id tells who it is as long as nobody
#: has waited for it.
UNKNOWN_START = -1


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat, see proc_pid_stat(5). ``start`` is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    #: False for a zombie. One whose main thread alone has ended is alive, and so is one that cannot
    #: be read.
    alive: bool

    @property
    def key(self) -> Key:
        return self.pid, self.start
