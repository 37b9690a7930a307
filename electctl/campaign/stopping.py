"""Every "kill by" of one command's process tree: events in, instructions out, time an argument.

What this does not guarantee: that what is killed dies (uninterruptible sleep, a process of another
user). After :data:`STUCK_LIMIT` that is said, with :class:`Stuck`, and the killing goes on. Nor
that a look finds everything: so :class:`Gone` follows :class:`NoChildLeft` alone, the kernel's word
to a child subreaper that it has no child, and never a look that found nothing.

What it does guarantee, whatever order the events come in (``tests/test_stopping.py`` checks each
on random input): the earliest "kill by" wins; SIGTERM goes to each process at most once, because a
second one means "hurry" to some programs; what a handler starts in answer to it is left alone.

States::

    running → [ending] → [killing] → gone
              main ended  time is up

"Kill by" comes from the deadline of the lease, from a stop, from the end of the command's own
process (what it leaves behind gets the grace), from the death of electctl (the same), or is at
once. The guardian drives this machine, and electctl itself if the guardian is dead, both by
:mod:`electctl.campaign.warden`.
"""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Sequence
from typing import Literal, assert_never

from msgspec import Struct

from electctl.campaign.process import UNKNOWN_START, Key, Process

State = Literal["running", "ending", "killing", "gone"]
Scope = Literal["main", "all"]

#: Seconds that a killed tree may take to be gone before it counts as unkillable.
STUCK_LIMIT = 10.0

#: Looks for one signal. A look that finds nobody new ends it; only a tree that forks faster than it
#: is looked at needs more than two.
LOOKS = 10

#: Pause between two attempts to kill, in seconds, doubled from the one to the other.
SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.1

#: Transitions that are remembered.
_REMEMBERED = 64


# Events ------------------------------------------------------------------------------------------


class Deadline(Struct, frozen=True):
    """SIGTERM and SIGKILL are due then. The latest pair counts; their difference is the grace."""

    terminate_at: float
    kill_at: float


class Signal(Struct, frozen=True):
    """Pass a signal on."""

    signum: int
    scope: Scope = "all"


class Stop(Struct, frozen=True):
    """Signal now, SIGKILL to all in ``timeout`` seconds, or at the deadline if that is sooner.

    ``signum`` 0 is no signal: the terminal has sent it already.
    """

    timeout: float
    scope: Scope = "all"
    signum: int = signal.SIGTERM


class Kill(Struct, frozen=True):
    """SIGKILL to all now."""


class Abandoned(Struct, frozen=True):
    """electctl is gone without goodbye: nobody renews the leadership any more."""


class MainEnded(Struct, frozen=True):
    """The command's own process has ended, and was waited for."""


class Seen(Struct, frozen=True):
    """What a look found, zombies included, in answer to :class:`Look` or :class:`Destroy`.

    ``settled`` is False if the tree was still forking at the end of a :class:`Destroy`.
    """

    processes: Sequence[Process]
    settled: bool = True


class NoChildLeft(Struct, frozen=True):
    """The kernel says that there is no child, so no descendant either, for a subreaper."""


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = Deadline | Signal | Stop | Kill | Abandoned | MainEnded | Seen | NoChildLeft | Tick


# Instructions ------------------------------------------------------------------------------------


class Look(Struct, frozen=True):
    """Look at the tree, and answer with :class:`Seen`."""


class Send(Struct, frozen=True):
    """Send these signals to exactly these processes."""

    processes: tuple[Process, ...]
    signals: tuple[int, ...]


class SendMain(Struct, frozen=True):
    """Send these signals to the command's own process, which has not been waited for."""

    signals: tuple[int, ...]


class Destroy(Struct, frozen=True):
    """Freeze, then kill all that is there; answer with :class:`Seen`, what there was."""


class Gone(Struct, frozen=True):
    """Nothing is left. ``left`` were there after the command's own end, and were stopped."""

    at: float
    left: int


class Stuck(Struct, frozen=True):
    """Killed, and ``left`` are still there after :data:`STUCK_LIMIT` seconds."""

    left: int


Instruction = Look | Send | SendMain | Destroy | Gone | Stuck


class _Telling(Struct):
    """A signal on its way to all."""

    signals: tuple[int, ...]
    told: set[Key]
    #: Who has started at this clock tick or later is not told, from the second look on.
    before: float
    #: They are told because the command's own process left them behind.
    left_behind: bool
    looks: int = 0


class Transition(Struct, frozen=True):
    """One event with what came of it, for a crash report."""

    at: float
    event: str
    state: State
    out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.event} -> {self.state}: {', '.join(self.out) or 'nothing'}"


class Stopping:
    """The end of one command's tree. Call :meth:`handle` for every event, and at :meth:`wake_at`.

    ``main`` is the id of the command's own process; ``ticks`` the clock ticks in a second, in which
    the kernel tells a process's start.
    """

    def __init__(self, main: int, deadline: Deadline, *, ticks: int = 100) -> None:
        self.state: State = "running"
        #: The time to terminate has passed, and was acted upon.
        self.overdue = False
        #: How many were there after the command's own end, and had to be stopped.
        self.left = 0
        self._main = main
        self._ticks = ticks
        self._deadline = deadline
        self._main_ended = False
        #: The command's own process had ended before the killing began.
        self._sweeping = False
        self._stop_by = math.inf
        #: Who has had SIGTERM.
        self._terminated: set[Key] = set()
        self._tellings: list[_Telling] = []
        self._left_behind: set[Key] = set()
        self._alive: set[Key] = set()
        self._next_kill = -math.inf
        self._pause = SHORTEST_PAUSE
        self._stuck_at = math.inf
        self._transitions: deque[Transition] = deque(maxlen=_REMEMBERED)

    @property
    def kill_by(self) -> float:
        """When everything is killed: the earliest time that anything asks for."""
        return min(self._deadline.kill_at, self._stop_by)

    @property
    def grace(self) -> float:
        """What is left behind gets as much between SIGTERM and SIGKILL, in seconds."""
        return max(0.0, self._deadline.kill_at - self._deadline.terminate_at)

    def wake_at(self) -> float:
        """When the next :class:`Tick` is due; infinite once the tree is gone."""
        match self.state:
            case "gone":
                return math.inf
            case "killing":
                return min(self._next_kill, self._stuck_at)
            case _ if self.overdue:
                return self.kill_by
        return min(self.kill_by, self._deadline.terminate_at)

    def recent(self) -> list[str]:
        """The last transitions, for a crash report. A tick of which nothing came is none."""
        return [str(transition) for transition in self._transitions]

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in one event at time ``now``; return what must be done, in order.

        After :class:`Gone` nothing is said any more.
        """
        if self.state == "gone":
            return []
        out = self._take(event, now)
        # After a kill others come first, who may have ended: no second one without a tick.
        if not (isinstance(event, Seen) and self.state == "killing"):
            out += self._on_time(now)
        if out or not isinstance(event, Tick):
            self._transitions.append(
                Transition(now, _short(event), self.state, tuple(_short(each) for each in out))
            )
        return out

    def forget(self, pid: int) -> None:
        """The process was waited for: its id, which may be used again, says nothing any more."""
        unknown = (pid, UNKNOWN_START)
        self._terminated.discard(unknown)
        for telling in self._tellings:
            telling.told.discard(unknown)

    # Events --------------------------------------------------------------------------------------

    def _take(self, event: Event, now: float) -> list[Instruction]:
        match event:
            case Deadline():
                self._deadline = event
                return []
            case Signal(signum=signum, scope=scope):
                return self._pass_on(signum, scope, now)
            case Stop(timeout=timeout, scope=scope, signum=signum):
                self._kill_no_later(now + timeout)
                return self._pass_on(signum, scope, now)
            case Kill():
                self._kill_no_later(-math.inf)
                return []
            case Abandoned():
                self._kill_no_later(now + self.grace)
                return self._tell_all(signal.SIGTERM, now)
            case MainEnded():
                return self._main_has_ended(now)
            case Seen():
                return self._seen(event, now)
            case NoChildLeft():
                self.state = "gone"
                self.left = len(self._left_behind)
                return [Gone(now, self.left)]
            case Tick():
                return []
            case _:
                assert_never(event)

    def _kill_no_later(self, at: float) -> None:
        self._stop_by = min(self._stop_by, at)

    def _main_has_ended(self, now: float) -> list[Instruction]:
        self._main_ended = True
        if self.state != "running":
            return []
        self.state = "ending"
        self._kill_no_later(now + self.grace)
        return self._tell_all(signal.SIGTERM, now)

    def _pass_on(self, signum: int, scope: Scope, now: float) -> list[Instruction]:
        if signum == 0:
            return []
        if scope == "all":
            return self._tell_all(signum, now)
        if self._main_ended:
            return []
        if signum == signal.SIGTERM:
            # Which start it has is seen with the first look; until then its id stands for it.
            if self._was_terminated(self._main):
                return []
            self._terminated.add((self._main, UNKNOWN_START))
        return [SendMain(_with_continue(signum))]

    def _was_terminated(self, pid: int) -> bool:
        return any(pid == told for told, _ in self._terminated)

    def _tell_all(self, signum: int, now: float) -> list[Instruction]:
        if self.state == "killing":
            return []
        told = self._terminated if signum == signal.SIGTERM else set()
        # With the main process alive a handler of the command may start something, to tidy up.
        before = math.inf if self._main_ended else now * self._ticks
        self._tellings.append(_Telling(_with_continue(signum), told, before, self._main_ended))
        return [Look()]

    def _seen(self, event: Seen, now: float) -> list[Instruction]:
        alive = [process for process in event.processes if process.alive]
        keys = {process.key for process in alive}
        if self.state == "killing":
            if self._sweeping:
                self._left_behind |= keys
            self._after_kill(event, keys, now)
            return []
        self._alive = keys
        out: list[Instruction] = []
        for telling in list(self._tellings):
            out += self._tell(telling, alive)
        if self._tellings:
            out.append(Look())
        return out

    def _tell(self, telling: _Telling, alive: list[Process]) -> list[Instruction]:
        fresh = [
            process
            for process in alive
            if process.key not in telling.told
            and not (process.pid == self._main and (self._main, UNKNOWN_START) in telling.told)
            # One clock tick less, because a start is rounded down.
            and (telling.looks == 0 or process.start + 1 <= telling.before)
        ]
        telling.looks += 1
        if not fresh or telling.looks == LOOKS:
            self._tellings.remove(telling)
        if not fresh:
            return []
        telling.told.update(process.key for process in fresh)
        if telling.left_behind:
            self._left_behind.update(process.key for process in fresh)
        return [Send(tuple(fresh), telling.signals)]

    # Killing -------------------------------------------------------------------------------------

    def _after_kill(self, event: Seen, keys: set[Key], now: float) -> None:
        if not event.settled:
            # It forks as fast as we kill. Reap, and go on without a pause.
            self._next_kill = now
        elif keys - self._alive:
            self._pause = SHORTEST_PAUSE
            self._next_kill = now + self._pause
        else:
            self._next_kill = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._alive = keys

    def _on_time(self, now: float) -> list[Instruction]:
        if self.state == "gone":
            return []
        due = not self.overdue and now >= self._deadline.terminate_at
        self.overdue |= due
        if self.state != "killing":
            if now < self.kill_by:
                return self._tell_all(signal.SIGTERM, now) if due else []
            self._sweeping = self._main_ended
            self.state = "killing"
            self._tellings.clear()
            self._stuck_at = now + STUCK_LIMIT
            self._next_kill = now
        out: list[Instruction] = []
        if now >= self._stuck_at:
            self._stuck_at = math.inf
            out.append(Stuck(len(self._alive)))
        if now >= self._next_kill:
            out.append(Destroy())
        return out


def _with_continue(signum: int) -> tuple[int, ...]:
    # SIGCONT, as systemd sends it: a stopped process cannot handle SIGTERM.
    return (signum, signal.SIGCONT) if signum == signal.SIGTERM else (signum,)


def _short(thing: Event | Instruction) -> str:
    match thing:
        case Seen(processes=processes, settled=settled):
            alive = sum(process.alive for process in processes)
            return f"Seen({alive} of {len(processes)} alive, settled={settled})"
        case Send(processes=processes, signals=signals):
            return f"Send({len(processes)} processes, signals={[int(each) for each in signals]})"
    return repr(thing)
