"""A term under test, held at every step against what must never happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from electctl.campaign import orders
from electctl.campaign.channel import (
    CannotStart,
    Exited,
    GuardianDied,
    Started,
    Stuck,
    TreeGone,
)
from electctl.campaign.job import Force
from electctl.campaign.term import Term
from electctl.core import lease

GRACE = 0.5
TTL = 2.0

ENDS = (orders.Signalled, orders.Crashed, lease.StopRequested, lease.StepDown)
#: What is said to a tree, and how hard it is.
ORDERS = {orders.Forward: Force.ASKED, orders.StopTree: Force.ASKED, orders.KillTree: Force.KILLED}


def extended(now: float) -> lease.Extended:
    return lease.Extended(now + TTL, now + TTL - GRACE - 0.1, now + TTL - 0.1, now)


@dataclass
class Checked:
    """A term whose every step is held against what must never happen."""

    plan: orders.Plan
    now: float = 100.0
    tree: bool = False
    #: The hardest that the tree was told to end; whether its own process has ended.
    told_tree: Force = Force.NONE
    exited: bool = False
    held: bool = False
    released: int = 0
    end_due: bool = False
    said: list[orders.Instruction] = field(default_factory=list)
    finish: orders.Finish | None = None

    def __post_init__(self) -> None:
        self.term = Term(self.plan)
        self.note(self.term.begin(self.now))
        assert self.said == [orders.Tell("campaigning"), orders.Enter()]

    def feed(self, *events: orders.Event, after: float = 0.0) -> list[orders.Instruction]:
        """Feed events; what the last one led to."""
        said: list[orders.Instruction] = []
        for event in events:
            self.now += after
            self.before(event)
            said = self.term.handle(event, self.now)
            self.note(said)
        return said

    def before(self, event: orders.Event) -> None:
        if isinstance(event, CannotStart) and self.term.tree.state != "starting":
            pass
        elif isinstance(event, TreeGone | CannotStart):
            self.tree = False
        self.exited |= isinstance(event, Exited)
        lost = isinstance(event, lease.Ended) and event.reason != "released"
        jobs = self.plan.command or self.plan.on_elected
        before = ("waiting", "checking", "preparing", "running")
        alone = isinstance(event, GuardianDied) and jobs and self.term.stage in before
        if lost or alone or isinstance(event, ENDS):
            self.end_due = True

    def note(self, said: Sequence[orders.Instruction]) -> None:
        for instruction in said:
            assert self.finish is None, f"{instruction} after the end"
            match instruction:
                case orders.StartJob():
                    assert self.held, "nobody would give it back after a crash"
                    assert not self.tree, "two jobs at once"
                    assert not self.end_due, "started although an end was due"
                    assert not self.released, "started after the release"
                    self.tree, self.exited, self.told_tree = True, False, Force.NONE
                case orders.Forward() | orders.StopTree() | orders.KillTree():
                    assert self.tree, f"{instruction} to nobody"
                    assert self.told_tree < Force.KILLED, f"{instruction} to the killed"
                    if not (
                        isinstance(instruction, orders.Forward) and instruction.scope == "main"
                    ):
                        self.told_tree = max(self.told_tree, ORDERS[type(instruction)])
                case orders.Hold():
                    self.held = True
                case orders.Drop():
                    assert self.released, "dropped what is not given back"
                case orders.Release():
                    assert not self.tree, "released while a process may live"
                    self.released += 1
                    assert self.released == 1, "released twice"
                case orders.Finish():
                    self.finish = instruction
            self.said.append(instruction)
        assert self.tree == self.term.tree.alive or self.finish is not None
        wake = self.term.wake_at()
        assert wake is None or (self.finish is None and wake > self.now)
        if self.tree and self.end_due and self.finish is None:
            assert self.exited or self.told_tree, "an end is due, and nobody told the tree"
        assert not (self.end_due and self.term.stage == "leading"), "it leads on"

    def told(self) -> list[str]:
        return [tell.event for tell in self.said if isinstance(tell, orders.Tell)]

    def elect(self) -> None:
        self.feed(extended(self.now), orders.Elected(7, GRACE))

    def run(self) -> None:
        """Elect, and have the command run."""
        self.elect()
        self.feed(Started(42))

    def end(self, status: int, left: int = 0) -> None:
        self.feed(Exited(status, 0), TreeGone(self.now, left))

    def tick_to_end(self) -> None:
        """Nobody answers any more but the guardian: what it cannot kill, and time, end it."""
        for _ in range(20):
            if self.finish is not None:
                return
            wake = self.term.wake_at()
            if wake is None:
                self.feed(Stuck(1))
            else:
                self.now = max(self.now, wake)
                self.feed(lease.Tick())
        raise AssertionError(f"it does not end: {self.term.stage}")
