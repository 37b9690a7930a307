"""electctl's side of the guardian: gives it commands and deadlines, hears what became of them.

What this does not guarantee: that the tree is dead before ``TreeGone``; see
:mod:`electctl.campaign.guard_process` and :mod:`electctl.campaign.tree` for what nobody can kill.
If the guardian dies, this side kills the tree, but only while electctl runs: both killed at once
leave the command's own process to the kernel (PR_SET_PDEATHSIG) and its descendants to nobody.

Not thread-safe: one thread owns a Guardian.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from electctl.campaign import guard_process, prctl, tree
from electctl.campaign.channel import (
    CannotStart,
    Channel,
    Exited,
    GuardianDied,
    GuardianEvent,
    Started,
    TreeGone,
    shell_status,
    to_event,
)
from electctl.clock import now
from electctl.errors import CannotRun

__all__ = [
    "CannotStart",
    "Exited",
    "Guardian",
    "GuardianDied",
    "GuardianEvent",
    "Started",
    "TreeGone",
]

#: How long :meth:`Guardian.close` waits for the guardian to kill what is left, in seconds.
_GOODBYE = 2.0

#: The pause between looks at a tree that was killed from this side, in seconds.
_PACE = 0.005


class Guardian:
    """The guardian of one ``electctl campaign``; runs one command after the other.

    For each :meth:`start` there is one end, CannotStart or TreeGone. Before TreeGone come Started
    and Exited (Exited may be missing, and Started too, if the guardian died).
    """

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self._channel = channel
        self._dead = False
        self._reaped = False
        self._running = False
        self._command: int | None = None
        self._spared: set[tree.Key] = set()
        self._events: list[GuardianEvent] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._pidfd = tree.pidfd(pid)
        if self._pidfd is not None:
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    @classmethod
    def spawn(cls) -> Guardian:
        """Fork the guardian, and make the calling process a child subreaper (Linux).

        Call it before any thread exists and before a client library is imported: it is a fork
        without exec. Raises CannotRun if the system gives us no process.
        """
        prctl.become_subreaper()
        ours, theirs = Channel.pair()
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    guard_process.run(theirs, parent)
                finally:
                    os._exit(0)
        except OSError as error:
            raise CannotRun(f"cannot fork the guardian process: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return cls(pid, ours)

    def fileno(self) -> int:
        """Readable when :meth:`receive` has something to do."""
        return self._selector.fileno()

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a command in a session of its own, with our standard streams and nothing else open.

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
        self._spared = self._others()
        self._running = True
        self._send({"do": "start", "argv": list(argv), "env": dict(env)})

    def deadline(self, terminate_at: float, kill_at: float) -> None:
        """When to send SIGTERM and SIGKILL (:func:`electctl.clock.now`); replaces earlier ones.

        The difference of the two is the grace that what is left of the tree gets after the
        command's own end or after electctl's death.
        """
        self._send({"do": "deadline", "terminate_at": terminate_at, "kill_at": kill_at})

    def remove_at_end(self, path: Path) -> None:
        """Remove this directory, if it is there, should we die without :meth:`close`.

        Replaces an earlier one.
        """
        self._send({"do": "remove_at_end", "path": str(path)})

    def signal(self, signum: int) -> None:
        """Forward a signal to every process of the command."""
        self._send({"do": "signal", "signum": int(signum)})

    def stop(self, grace: float) -> None:
        """SIGTERM to the tree now, SIGKILL in ``grace`` seconds or at the deadline, if sooner.

        Also wakes a guardian that somebody stopped.
        """
        self._send({"do": "stop", "grace": grace})
        self._signal_guardian(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the tree now. Also wakes a guardian that somebody stopped."""
        self._send({"do": "kill"})
        self._signal_guardian(signal.SIGCONT)

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
        self._send({"do": "goodbye"})
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
        self._selector.close()
        self._channel.close()
        if self._pidfd is not None:
            os.close(self._pidfd)

    def _send(self, message: Mapping[str, object]) -> None:
        if not self._dead:
            self._channel.send(message)
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
            self._events.append(event)
            match event:
                case Started(pid):
                    self._command = pid
                case CannotStart() | TreeGone():
                    self._finish()
        if dead or gone:
            self._dead = True
            self._signal_guardian(signal.SIGKILL)
            self._events.append(GuardianDied())
        else:
            self._watch()

    def _finish(self) -> None:
        self._running, self._command = False, None

    def _fall_silent(self) -> None:
        """No more events will come, and a channel at its end would be readable for ever."""
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)

    def _reap_guardian(self) -> bool:
        if not self._reaped:
            self._reaped = _reap(self.pid) is not None
        return self._reaped

    def _others(self) -> set[tree.Key]:
        """All descendants of ours but the guardian and what is below it."""
        if tree.children(os.getpid()) == [self.pid]:
            return set()  # as nearly always, and without a walk
        guardian = tree.read(self.pid)
        guarded = {guardian.key} if guardian is not None else set()
        return {p.key for p in tree.descendants(os.getpid(), spare=guarded)}

    def _reap_strays(self) -> None:
        """Wait for what became our child when its parent ended: on-lost hooks leave such behind."""
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self.pid:
                    return  # for _listen to find
                _reap(ended.si_pid)

    def _signal_guardian(self, signum: int) -> None:
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _kill_orphans(self) -> None:
        """The guardian is dead and its tree is ours: kill it, reap it.

        What is in our own session was never the command's, which had a session of its own.
        """
        self._reap_guardian()
        me, session = os.getpid(), os.getsid(0)
        # A guardian that was killed at once has not left our session yet.
        guardian = None if self._reaped else self.pid
        spare = self._spared | {
            p.key for p in tree.descendants(me) if p.session == session and p.pid != guardian
        }
        tree.kill_all(me, spare)
        left = tree.descendants(me, spare)
        for process in left:
            if process.parent == me and process.pid != self.pid:
                raw = _reap(process.pid)
                if raw is not None and process.pid == self._command:
                    self._events.append(Exited(shell_status(raw), raw))
        if left:
            time.sleep(_PACE)
        else:
            self._events.append(TreeGone(now()))
            self._finish()


def _reap(child: int) -> int | None:
    """How the child ended; None while it has not.

    0 if the kernel has thrown that away, as it does where we were started with SIGCHLD ignored.
    """
    try:
        ended, raw = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return 0
    return raw if ended else None
