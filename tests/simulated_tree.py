"""A tree of simulated processes, and a driver that does what the stopping machine says."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from electctl.campaign import stopping
from electctl.campaign.process import UNKNOWN_START, Key, Process
from electctl.campaign.stopping import (
    Deadline,
    Gone,
    Instruction,
    Stopping,
    Stuck,
    Tick,
)

TICKS = 100
GUARDIAN, MAIN = 1, 100
TERM, CONT = signal.SIGTERM, signal.SIGCONT


@dataclass
class Simulated:
    """One process of the simulated tree."""

    pid: int
    start: int
    parent: int
    obeys: bool = True
    killable: bool = True
    hidden: bool = False
    alive: bool = True
    terms: int = 0

    @property
    def key(self) -> Key:
        return self.pid, UNKNOWN_START if self.hidden else self.start

    def seen(self) -> Process:
        return Process(self.pid, self.parent, self.pid, self.pid, self.key[1], self.alive)


class World:
    """Processes, the time, and a driver that does what the machine says, as the warden does."""

    def __init__(self, terminate: float = 100.0, kill: float = 110.0) -> None:
        self.now = 1000.0
        self.processes: dict[int, Simulated] = {}
        self.next_pid = MAIN
        self.main = self.spawn(GUARDIAN)
        self.deadline = Deadline(self.now + terminate, self.now + kill)
        self.machine = Stopping(MAIN, self.deadline, ticks=TICKS)
        self.said: list[Gone | Stuck] = []
        self.sent: list[tuple[int, tuple[int, ...]]] = []
        self.main_reaped = False
        self.end_told = False
        self.destroyed: list[float] = []
        #: Called after each look, as a tree goes on living.
        self.meanwhile: Callable[[], None] = lambda: None
        self.settled = True
        self.on_main_ended: Callable[[], None] = lambda: None
        self.on_destroy: Callable[[], None] = lambda: None

    def spawn(self, parent: int, **kind: bool) -> Simulated:
        process = Simulated(self.next_pid, int(self.now * TICKS), parent, **kind)
        self.processes[process.pid] = process
        self.next_pid += 1
        return process

    def living(self) -> list[Simulated]:
        return [process for process in self.processes.values() if process.alive]

    def end(self, process: Simulated) -> None:
        process.alive = False
        for child in self.processes.values():
            if child.parent == process.pid:
                child.parent = GUARDIAN

    # The driver

    def feed(self, event: stopping.Event) -> None:
        todo: deque[Instruction] = deque(self.machine.handle(event, self.now))
        while todo:
            match todo.popleft():
                case stopping.Look():
                    todo += self.machine.handle(self.look(), self.now)
                case stopping.Send(processes=processes, signals=signals):
                    for process in processes:
                        self.deliver(process.pid, signals)
                case stopping.SendMain(signals=signals):
                    assert not self.main_reaped
                    self.deliver(MAIN, signals)
                case stopping.Destroy():
                    self.on_destroy()
                    self.destroyed.append(self.now)
                    seen = self.look()
                    for living in self.living():
                        if living.killable:
                            self.end(living)
                    todo += self.machine.handle(seen, self.now)
                case Gone() | Stuck() as word:
                    if isinstance(word, Gone):
                        assert not self.processes, "said to be gone, and it is not"
                    self.said.append(word)

    def look(self) -> stopping.Seen:
        seen = [process.seen() for process in self.processes.values()]
        self.meanwhile()
        return stopping.Seen(seen, self.settled)

    def deliver(self, pid: int, signals: tuple[int, ...]) -> None:
        self.sent.append((pid, signals))
        process = self.processes.get(pid)
        if process is None or not process.alive:
            return
        if TERM in signals:
            process.terms += 1
            assert process.terms <= 1, "SIGTERM twice means hurry to some"
            if process.obeys:
                self.end(process)
        if signal.SIGKILL in signals and process.killable:
            self.end(process)

    def turn(self) -> None:
        """Wait for what has ended, then tell the time."""
        for process in list(self.processes.values()):
            if not process.alive and process.parent == GUARDIAN:
                del self.processes[process.pid]
                self.machine.forget(process.pid)
                self.main_reaped |= process.pid == MAIN
        if self.main_reaped and not self.end_told:
            self.end_told = True
            if self.machine.state == "running":
                self.on_main_ended()
            self.feed(stopping.MainEnded())
        if not self.processes:
            self.feed(stopping.NoChildLeft())
        self.feed(Tick())
        if any(not each.alive and each.parent == GUARDIAN for each in self.processes.values()):
            self.turn()  # as SIGCHLD would have it

    def pass_time(self, seconds: float) -> None:
        """Wake the machine when it wants to be woken, until so much time has passed."""
        until = self.now + seconds
        for _ in range(10_000):
            self.turn()
            wake = self.machine.wake_at()
            if wake > until:
                break
            self.now = max(self.now, wake)
        else:
            raise AssertionError("it never sleeps")
        self.now = until
        self.turn()

    @property
    def gone(self) -> bool:
        return any(isinstance(word, Gone) for word in self.said)
