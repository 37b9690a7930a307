"""electctl's side of the guardian: gives it commands and deadlines, hears what became of them.

What this does not guarantee: that the tree is dead before ``TreeGone``; see
:mod:`electctl.campaign.stopping` and :mod:`electctl.campaign.tree` for what nobody can kill. If the
guardian dies, this side kills the tree, but only while electctl runs: both killed at once leave the
command's own process to the kernel (PR_SET_PDEATHSIG), and the rest to the releaser, as far as it
knows of it (:mod:`electctl.campaign.releasing`).

Not thread-safe: one thread owns a Guardian.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from electctl.base.clock import now
from electctl.campaign import guard_process, helper, orphans, prctl, procfs, releasing, strays
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.channel import (
    CannotStart,
    Channel,
    Deadline,
    Drop,
    Exited,
    Goodbye,
    GuardianDied,
    GuardianEvent,
    Hold,
    Kill,
    LastWords,
    Notice,
    Order,
    RemoveAtEnd,
    Scope,
    Signal,
    Start,
    Started,
    Stop,
    Stuck,
    TreeGone,
    from_order,
    to_event,
)
from electctl.campaign.lookout import LATE, Deadlines
from electctl.campaign.process import Key
from electctl.campaign.releasing import Ends, Serve
from electctl.campaign.stopping import STUCK_LIMIT
from electctl.campaign.tree import Tree
from electctl.errors import CannotRun

__all__ = [
    "CannotStart",
    "Exited",
    "Guardian",
    "GuardianDied",
    "GuardianEvent",
    "Scope",
    "Started",
    "Stuck",
    "TreeGone",
]

#: How long :meth:`Guardian.close` waits for the guardian to kill what is left, in seconds.
_GOODBYE = 2.0

#: How long it then waits for the releaser, which has nothing left to do.
_FAREWELL = 0.5

#: How long one whose channel is closed may take until it can be waited for, in seconds.
_DYING = 0.1

#: The pause between two tries to help a guardian that is late, in seconds.
_PAUSE = 0.05

#: The pause between looks at a tree that was killed from this side, in seconds.
_PACE = 0.005


class Guardian:
    """The guardian of one ``electctl campaign``; runs one command after the other.

    For each :meth:`start` there is one end, CannotStart or TreeGone. Before TreeGone come Started
    and Exited (Exited may be missing, and Started too, if the guardian died), and Stuck, once, if
    10 s after the kill something is still there.
    """

    def __init__(
        self,
        pid: int,
        channel: Channel,
        mark: str,
        *,
        grouped: bool = True,
        releaser: int | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.pid = pid
        #: What its command's cgroup is called by.
        self.mark = mark
        #: What is weaker than it should be, for the user to know; mostly nothing. It may grow.
        self.warnings = [weaker] if (weaker := procfs.method()[1]) else []
        self._channel = channel
        self._grouped = grouped
        self._releaser = releaser
        self._dead = False
        #: Its status as wait(2) gives it, once it was waited for.
        self._ended: int | None = None
        self._running = False
        self._command: int | None = None
        #: When SIGKILL is due by the lease, and by what was ordered since the start.
        self._deadlines = deadlines or Deadlines()
        self._stop_by = math.inf
        #: Not before then do we help a guardian that is late (again); then it counts as lost.
        self._help_at = -math.inf
        self._lost_at = math.inf
        self._report = ""
        self._spared: set[Key] = set()
        self._orphans: orphans.Orphans | None = None
        self._events: list[GuardianEvent] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._pidfd = procfs.pidfd(pid)
        if self._pidfd is not None:
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    @classmethod
    def spawn(
        cls,
        releaser: Serve | None = None,
        *,
        given: tuple[int, ...] = (),
        terminal: bool = False,
    ) -> Guardian:
        """Fork the guardian, and make the calling process a child subreaper (Linux).

        Call it before any thread exists and before a client library is imported: it is a fork
        without exec. ``releaser`` is run in a process of its own, forked here too, and told by the
        guardian what to give back (:data:`electctl.campaign.releasing.Serve`). ``given`` are the
        descriptors that commands inherit beside the standard ones. With ``terminal`` commands run
        in our own session and process group, as job control needs it. Raises CannotRun if the
        system gives us no process.
        """
        prctl.become_subreaper()
        ours, theirs = Channel.pair()
        me, mark = os.getpid(), Cgroup.new_mark()
        ends: Ends | None = None
        helper_pid = None
        deadlines = Deadlines()
        if releaser is not None:
            ends, other = Ends.pair()
            helper_pid = helper.fork(
                "releaser", partial(releasing.run, other, me, deadlines, releaser)
            )
            other.close()
        pid = helper.fork(
            "guardian", partial(guard_process.run, theirs, me, mark, ends, given, terminal)
        )
        theirs.close()
        if ends is not None:
            ends.close()
        return cls(pid, ours, mark, grouped=not terminal, releaser=helper_pid, deadlines=deadlines)

    def fileno(self) -> int:
        """Readable when :meth:`receive` has something to do."""
        return self._selector.fileno()

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a command, with our standard streams and nothing else open but what was given.

        ``argv[0]`` is looked for in the PATH of ``env``. Give the deadlines first: without any, or
        after the time to kill, nothing is run and CannotStart says so. The same before the
        end of an earlier command. Raises CannotRun after GuardianDied.
        """
        if self._dead:
            raise CannotRun(
                f"{argv[0]}: the guardian process is dead", hint="run the campaign again"
            )
        self._reap_strays()
        # If the guardian dies, its tree becomes ours, and is to be told from what was ours before
        # (the embedded store's daemon, for one).
        self._spared = orphans.others(self.pid)
        self._running = True
        self._stop_by = self._lost_at = math.inf
        self._help_at = -math.inf
        self._send(Start(list(argv), dict(env)))

    def deadline(self, terminate_at: float, kill_at: float) -> None:
        """When to send SIGTERM and SIGKILL on :func:`electctl.base.clock.now`. The latest counts.

        The difference of the two is the grace that what is left of the tree gets after the
        command's own end or after electctl's death.
        """
        self._deadlines.set(terminate_at, kill_at)
        self._send(Deadline(terminate_at, kill_at))

    def remove_at_end(self, path: Path) -> None:
        """Remove this directory, if it is there, should we die without :meth:`close`.

        Replaces an earlier one.
        """
        self._send(RemoveAtEnd(str(path)))

    def stop(self, timeout: float, scope: Scope = "all", signum: int = signal.SIGTERM) -> None:
        """``signum`` now, SIGKILL to all in ``timeout`` seconds or at the deadline, if sooner.

        Also wakes a guardian that somebody stopped.
        """
        self._stop_by = min(self._stop_by, now() + timeout)
        self._send(Stop(timeout, scope, int(signum)))
        self._signal_guardian(signal.SIGCONT)

    def signal(self, signum: int, scope: Scope = "all") -> None:
        """Pass a signal on to the command's own process, or to every process of it."""
        self._send(Signal(int(signum), scope))

    def kill(self) -> None:
        """SIGKILL to the tree now. Also wakes a guardian that somebody stopped."""
        self._stop_by = min(self._stop_by, now())
        self._send(Kill())
        self._signal_guardian(signal.SIGCONT)

    def wake_at(self) -> float:
        """When :meth:`keep_awake` is to be called at the latest."""
        if not self._running:
            return math.inf
        return self._help_at if self._dead else max(self._kill_by + LATE, self._help_at)

    def keep_awake(self) -> bool:
        """See to it that the tree is killed in time. Call it after each SIGCHLD, and in time.

        A guardian that somebody has stopped (SIGSTOP) is continued; one that is stopped when
        SIGKILL to the tree is due is killed itself, and :meth:`receive` does its work: whoever
        stops it may do so again and again. One that is late for another reason (a debugger, a
        freezer, a busy host) is helped: its tree is killed from this side too. If nothing comes of
        it for long, it counts as dead. Returns whether :meth:`receive` is to be called.
        """
        if self._dead or self._channel.fileno() < 0:
            return self._dead and self._running
        due = self._running and now() >= self._kill_by
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None:
                self._signal_guardian(signal.SIGKILL if due else signal.SIGCONT)
        if self._running and now() >= self.wake_at():
            self._help()
        return self._dead

    @property
    def _kill_by(self) -> float:
        return min(self._deadlines.kill_at, self._stop_by)

    def _help(self) -> None:
        """Kill what is below the guardian, which has not done so."""
        group = Cgroup.of(self.mark)
        if group is not None:
            group.kill()
        Tree(self.pid).destroy()
        self._help_at = now() + _PAUSE
        self._lost_at = min(self._lost_at, now() + STUCK_LIMIT)
        if now() >= self._lost_at:
            self._lose()

    def _lose(self) -> None:
        self._dead = True
        self._signal_guardian(signal.SIGKILL)
        self._events.append(GuardianDied(self._report or self._silent_death()))

    def hold(self, receipt: str) -> None:
        """What the releaser is to give back if we die without :meth:`close`."""
        self._send(Hold(receipt))

    def drop(self) -> None:
        """There is nothing to give back any more."""
        self._send(Drop())

    def receive(self) -> list[GuardianEvent]:
        """What has happened since the last call; does not wait.

        If the guardian has died, it also goes on killing the tree from this side; then, until
        TreeGone, each call may take some milliseconds.
        """
        if not self._dead:
            self._listen()
        if self._dead and self._running:
            self._kill_orphans()
        if self._dead and not self._running:
            self._fall_silent()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Say goodbye: the guardian kills what is left and exits. Waits for that, at most 2 s.

        A guardian that does not is killed, and its tree from this side, which may take as long.
        A second call does nothing.
        """
        if self._channel.fileno() < 0:
            return
        self._send(Goodbye())
        self._signal_guardian(signal.SIGCONT)
        until = now() + _GOODBYE
        while not self._dead and now() < until:
            self._selector.select(_PACE)
            self._listen()
        self._signal_guardian(signal.SIGKILL)
        until = now() + _GOODBYE
        while not self._reap_guardian() and now() < until:
            time.sleep(_PACE)
        while self._running and now() < until:
            self._kill_orphans()
        # Where PID 1 waits for no orphans, one that we leave would stay a zombie for good.
        until = now() + _FAREWELL
        while self._releaser and orphans.reap(self._releaser) is None and now() < until:
            time.sleep(_PACE)
        left = Cgroup.of(self.mark)
        if left is not None:
            left.remove()  # a guardian that was killed has not
        self._selector.close()
        self._channel.close()
        if self._pidfd is not None:
            os.close(self._pidfd)

    def _send(self, order: Order) -> None:
        if not self._dead:
            self._channel.send(from_order(order))
            self._watch()

    def _watch(self) -> None:
        writing = selectors.EVENT_WRITE if self._channel.pending else 0
        self._selector.modify(self._channel, selectors.EVENT_READ | writing)

    def _listen(self) -> None:
        """Read events; notice the guardian's death."""
        # Looked at before the read, so that its last words are in the channel by then.
        dead = self._reap_guardian()
        self._channel.flush()
        messages, gone = self._channel.receive()
        for event in map(to_event, messages):
            if isinstance(event, LastWords):
                self._report = event.report
                continue
            self._tell(event)
            match event:
                case Started(pid):
                    self._command = pid
                case CannotStart() | TreeGone():
                    self._finish()
        if dead or gone:
            self._lose()
        else:
            self._watch()

    def _silent_death(self) -> str:
        """How the guardian ended that has said nothing; empty if it was killed.

        Its end of the channel is closed some moments before it can be waited for, and how it ends
        is settled by then: a SIGKILL after that changes nothing.
        """
        until = now() + _DYING
        while not self._reap_guardian() and now() < until:
            time.sleep(_PACE)
        if self._ended is None or signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            return ""  # the kernel throws away how children end
        code = os.waitstatus_to_exitcode(self._ended)
        if code == -signal.SIGKILL:
            return ""
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        return f"the guardian process ended without a word: {how}"

    def _tell(self, event: GuardianEvent | Notice) -> None:
        if not isinstance(event, Notice):
            self._events.append(event)
        elif event.message not in self.warnings:
            self.warnings.append(event.message)

    def _finish(self) -> None:
        self._running, self._command, self._orphans = False, None, None

    def _fall_silent(self) -> None:
        """No more events will come, and a channel at its end would be readable for ever."""
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)

    def _reap_guardian(self) -> bool:
        if self._ended is None:
            self._ended = orphans.reap(self.pid)
        return self._ended is not None

    def _reap_strays(self) -> None:
        """Wait for what became our child when its parent ended: on-lost hooks leave such behind."""
        strays.reap({self.pid})

    def _signal_guardian(self, signum: int) -> None:
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _kill_orphans(self) -> None:
        """The guardian is dead and its tree is ours: kill it, wait for it."""
        self._reap_guardian()
        if self._orphans is None:
            self._orphans = orphans.Orphans(
                self.pid,
                self.mark,
                self._command,
                self._spared,
                self._tell,
                grouped=self._grouped,
            )
        self._orphans.kill()
        if self._orphans.gone:
            self._finish()
        else:
            time.sleep(_PACE)
