"""electctl's own way to kill a command's tree, for when the guardian is dead.

What this does not guarantee: anything while electctl is stopped, or once it is dead as well. The
proof of the guardian, wait(2), does not serve here, because electctl has other children. So each
look has to find nothing but those; a child that is listed and cannot be read counts as one.

Under a child subreaper the guardian's descendants have become electctl's. The command's are told
from what was electctl's before by a list made when the command was started. The same machine
decides, and the same code kills: :mod:`electctl.campaign.stopping`, ``warden.py``, ``tree.py``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from electctl.campaign import procfs, stopping
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.channel import Deadline, Exited, Notice, Stuck, TreeGone
from electctl.campaign.process import Key
from electctl.campaign.tree import Tree
from electctl.campaign.warden import Warden


class Orphans:
    """The tree of a dead guardian. Call :meth:`kill` again and again until ``gone``."""

    def __init__(
        self,
        guardian: int,
        mark: str,
        main: int | None,
        spared: set[Key],
        say: Callable[[Exited | TreeGone | Stuck | Notice], None],
        *,
        grouped: bool,
    ) -> None:
        self._me = os.getpid()
        self._guardian = guardian
        self._cgroup = Cgroup.of(mark)
        self._tree = Tree(self._me, spared, main=main or guardian)
        self._warden = Warden(
            main or 0,
            self._tree,
            Deadline(-math.inf, -math.inf),
            say,
            # Whether the command's process is there to be waited for by us is seen by looking.
            grouped=grouped and main is not None and self._tree.method == "group",
            cgroup=self._cgroup,
        )

    @property
    def gone(self) -> bool:
        """Nothing of it is left."""
        return self._warden.gone

    def kill(self) -> None:
        """Kill, wait for what has ended, and look whether anything is left."""
        self._warden.feed(stopping.Tick())
        for process in self._tree.look():
            if process.parent == self._me and process.pid != self._guardian:
                raw = reap(process.pid)
                if raw is not None:
                    self._warden.reaped(process.pid, raw)
        self._warden.after_reaping(no_child=not self._tree.look())
        if self.gone and self._cgroup is not None:
            self._cgroup.remove()


def others(guardian: int) -> set[Key]:
    """All descendants of ours but the guardian and what is below it."""
    me = os.getpid()
    top = procfs.read(guardian) or procfs.hidden(guardian, me)
    guarded = set() if top is None else {top.key}
    return {process.key for process in Tree(me, guarded, main=guardian).look()}


def reap(child: int) -> int | None:
    """How the child ended; None while it has not.

    0 if the kernel has thrown that away, as it does where we were started with SIGCHLD ignored.
    """
    try:
        ended, raw = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return 0
    return raw if ended else None
