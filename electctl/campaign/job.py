"""The process tree of one job as its term sees it: what of it may live, and how it was told to end.

What this does not guarantee: that an order is obeyed. When a tree is killed, and when it counts as
unkillable, the guardian decides (:mod:`electctl.campaign.guard_process`); here no time passes.

States and what leads from one to the next (:data:`_NEXT`)::

    none → starting → running → ended → none
             └───────────┴────────┴──→ stuck → none

An order is given only if it is more than the last: asked → stopped → killed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from electctl.campaign import orders
from electctl.campaign.channel import CannotStart, Exited, Scope, Started, Stuck, TreeGone

#: ``ended``: the command's own process has ended, others of its tree may live.
State = Literal["none", "starting", "running", "ended", "stuck"]
Word = Started | CannotStart | Exited | TreeGone | Stuck

#: What is not here is no news: said twice, or after the end.
_NEXT: dict[tuple[State, type[Word]], State] = {
    ("starting", Started): "running",
    ("starting", CannotStart): "none",
    ("starting", Exited): "ended",
    ("running", Exited): "ended",
    ("starting", TreeGone): "none",
    ("running", TreeGone): "none",
    ("ended", TreeGone): "none",
    ("stuck", TreeGone): "none",
    ("starting", Stuck): "stuck",
    ("running", Stuck): "stuck",
    ("ended", Stuck): "stuck",
}


class Force(IntEnum):
    """How hard the tree was told to end."""

    NONE = 0
    #: It was asked, and has as long as ``--stop-timeout`` says.
    ASKED = 1
    #: Leadership ends: it has the grace of a loss.
    STOPPED = 2
    KILLED = 3


class Tree:
    """One tree at a time."""

    def __init__(self) -> None:
        self.state: State = "none"
        self.job: orders.Job = "command"
        self.force = Force.NONE

    @property
    def alive(self) -> bool:
        """Whether not every process of it is known to be gone."""
        return self.state != "none"

    @property
    def may_exit(self) -> bool:
        """Whether its own process has not ended yet, so that how it ends is still open."""
        return self.state in ("starting", "running")

    def start(self, job: orders.Job) -> list[orders.Instruction]:
        """Begin with a new one."""
        assert not self.alive, "two jobs at once"
        self.state, self.job, self.force = "starting", job, Force.NONE
        return [orders.StartJob(job)]

    def take(self, event: Word) -> bool:
        """Note what the guardian says; whether it is news."""
        new = _NEXT.get((self.state, type(event)))
        if new is None:
            return False
        self.state = new
        return True

    def ask(self, timeout: float, scope: Scope, signum: int) -> list[orders.Instruction]:
        """Tell it to end, and give it ``timeout`` seconds; a signal more, if it was told before.

        ``signum`` 0 is no signal: it has had one.
        """
        scope = "all" if self.job == "on_elected" else scope
        if self.force == Force.ASKED:
            return [orders.Forward(signum, scope)] if signum else []
        return self._order(Force.ASKED, orders.StopTree(timeout, scope, signum))

    def stop(self, grace: float, signum: int) -> list[orders.Instruction]:
        """Leadership ends: all of it is told, and has ``grace`` seconds."""
        return self._order(Force.STOPPED, orders.StopTree(grace, "all", signum))

    def relay(self, signum: int) -> list[orders.Instruction]:
        """Pass a signal on that is no order to end."""
        heard = self.may_exit and self.force < Force.KILLED
        return [orders.Forward(signum, "main")] if heard else []

    def kill(self) -> list[orders.Instruction]:
        """End it at once."""
        return self._order(Force.KILLED, orders.KillTree())

    def _order(self, force: Force, order: orders.Instruction) -> list[orders.Instruction]:
        if not self.alive or force <= self.force:
            return []
        self.force = force
        return [order]
