"""Drives :mod:`electctl.campaign.stopping` with the real processes of one command.

What this does not guarantee: see there, and in :mod:`electctl.campaign.tree`. It does not wait for
children, and does not sleep: the guardian does that, or electctl if the guardian is dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import assert_never

from electctl.base.clock import now
from electctl.campaign import stopping
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.channel import Exited, Notice, Stuck, TreeGone, shell_status
from electctl.campaign.process import Process
from electctl.campaign.stopping import Deadline, Event, Instruction, Stopping
from electctl.campaign.tree import Tree, signal_group
from electctl.campaign.urgency import hasten

#: Clock ticks in a second, the unit of a process's start.
_TICKS = os.sysconf("SC_CLK_TCK")


class Warden:
    """Who sees to the end of one command's tree.

    ``main`` is the command's own process, a child of ours or the guardian's. ``grouped`` says that
    it leads a process group of its own. ``say`` gets Exited, TreeGone, Stuck, and a Notice if
    /proc is worth less than it should be, anew when it becomes so.
    """

    def __init__(
        self,
        main: int,
        tree: Tree,
        deadline: Deadline,
        say: Callable[[Exited | TreeGone | Stuck | Notice], None],
        *,
        grouped: bool,
        cgroup: Cgroup | None = None,
    ) -> None:
        self.main = main
        self.main_ended = False
        self._me = os.getpid()
        self._end_told = False
        self._tree = tree
        self._stopping = Stopping(main, deadline, ticks=_TICKS)
        self._say = say
        self._weaker = ""
        self._grouped = grouped
        self._cgroup = cgroup

    @property
    def gone(self) -> bool:
        """Nothing is left."""
        return self._stopping.state == "gone"

    def wake_at(self) -> float:
        """When :meth:`feed` is to be called with a Tick."""
        return self._stopping.wake_at()

    def recent(self) -> list[str]:
        """What was decided last, for a crash report."""
        return self._stopping.recent()

    def feed(self, event: Event) -> None:
        """Let the machine decide, and do what it says."""
        todo: deque[Instruction] = deque(self._stopping.handle(event, now()))
        while todo:
            answer = self._carry_out(todo.popleft())
            if self._weaker != self._tree.weaker:
                self._weaker = self._tree.weaker
                if self._weaker:
                    self._say(Notice(self._weaker))
            if answer is not None:
                todo += self._stopping.handle(answer, now())

    def reaped(self, pid: int, raw: int) -> None:
        """A process was waited for; ``raw`` is its status as wait(2) gives it."""
        self._stopping.forget(pid)
        if pid == self.main and not self.main_ended:
            self.main_ended = True
            self._say(Exited(shell_status(raw), raw, self._stopping.overdue))

    def after_reaping(self, *, no_child: bool) -> None:
        """All that had ended was waited for; ``no_child``: and wait(2) says that this was all."""
        if self.main_ended and not self._end_told:
            self._end_told = True
            self.feed(stopping.MainEnded())
        if no_child and not self._still_populated():
            self.feed(stopping.NoChildLeft())

    def _still_populated(self) -> bool:
        """Whether another than wait(2) knows of a process: the cgroup, or the process group."""
        if self._tree.method == "group":
            return _group_exists(self.main)
        return self._cgroup is not None and self._cgroup.populated

    def _carry_out(self, instruction: Instruction) -> Event | None:
        match instruction:
            case stopping.Look():
                return stopping.Seen(self._tree.look())
            case stopping.Send(processes=processes, signals=signals):
                self._send(processes, signals)
            case stopping.SendMain(signals=signals):
                self._send_main(signals)
            case stopping.Destroy():
                return self._destroy()
            case stopping.Gone(at=at, left=left):
                self._say(TreeGone(at, left))
            case stopping.Stuck(left=left):
                self._say(Stuck(left))
            case _:
                assert_never(instruction)
        return None

    def _send(self, processes: tuple[Process, ...], signals: tuple[int, ...]) -> None:
        for process in processes:
            if now() >= self._stopping.kill_by:
                return  # there are too many of them: the time is up
            if self._tree.method == "group":
                for signum in signals:
                    signal_group(process.group, signum)
            else:
                self._tree.send(process, *signals)

    def _send_main(self, signals: tuple[int, ...]) -> None:
        for signum in signals:
            if not self.main_ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self.main, signum)

    def _destroy(self) -> stopping.Seen:
        # At once, without a look, for all that has not left the command's group. The group's id is
        # its own as long as its leader was not waited for.
        if self._grouped and (not self.main_ended or self._tree.method == "group"):
            signal_group(self.main, signal.SIGKILL)
        if self._cgroup is not None:
            self._cgroup.kill()
        found, settled = self._tree.destroy()
        for process in found:
            if process.alive and process.parent == self._me:
                hasten(process.pid)
        return stopping.Seen(found, settled)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
