"""The guardian process: the command's parent, its subreaper, and a dead-man's switch.

What this does not guarantee: anything while the guardian itself is stopped (everything stopped
together, a paused machine); the death of a process of another user or in uninterruptible sleep.
Away from Linux only the command's process group is signalled, and what leaves it is lost.

It is forked from electctl without exec and shares no thread, socket or client library with it. It
needs nobody to tell it when time is up, and it never waits for electctl. It has all signals
blocked, so nothing but SIGKILL ends it and nothing but SIGSTOP stops it.
"""

from __future__ import annotations

import errno
import math
import os
import selectors
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from electctl.campaign import prctl, tree
from electctl.campaign.channel import (
    CannotStart,
    Channel,
    Exited,
    Started,
    TreeGone,
    shell_status,
    to_message,
)
from electctl.clock import now

#: The longest sleep while a command runs, in seconds. select(2) sleeps on a clock that stops in
#: suspend, the deadlines do not; so after a resume they are looked at within this time.
_NAP = 0.1

#: Pause between attempts to kill what would not die, doubled up to _NAP.
_RETRY = 0.005


@dataclass(slots=True)
class _Command:
    """The command in progress, from fork to the last reaped descendant."""

    pid: int
    name: str
    #: Tells the error number of a failed exec; closed by one that succeeds. None once read.
    exec_pipe: int | None
    failure: CannotStart | None = None
    exited: bool = False
    #: A clock reading: asked to stop by then, whatever the deadlines say.
    stop_by: float = math.inf
    #: Who has had SIGTERM. A second one means "hurry" to some programs.
    terminated: set[tree.Key] = field(default_factory=set)
    #: The time to terminate has passed, and was acted upon.
    overdue: bool = False
    #: Its own process has ended, and the rest of the tree was asked to end.
    sweeping: bool = False
    next_kill: float = -math.inf
    pause: float = _RETRY


def run(channel: Channel, parent: int) -> None:
    """Be the guardian until electctl (process ``parent``) says goodbye or is gone.

    All signals are blocked already by the caller, before the fork.
    """
    os.setsid()
    _close_all_but(channel.fileno())
    prctl.become_subreaper()
    prctl.set_name("leadguard")
    _Guard(channel, parent).serve()


class _Guard:
    def __init__(self, channel: Channel, parent: int) -> None:
        self._channel = channel
        self._me = os.getpid()
        self._command: _Command | None = None
        self._leaving = False
        #: A directory that electctl will not remove if it is killed.
        self._litter: str | None = None
        # Before the first deadline nothing may run.
        self._terminate_at = self._kill_at = -math.inf
        self._selector = selectors.DefaultSelector()
        self._selector.register(_child_events(), selectors.EVENT_READ, None)
        #: Signals that do not take their usual effect here, as they must in the command.
        self._altered = [
            signum
            for signum in signal.valid_signals()
            if signal.getsignal(signum) != signal.SIG_DFL
        ]
        self._selector.register(channel, selectors.EVENT_READ, self._on_channel)
        # A fork of electctl may hold the other end of the channel open; a pidfd tells its death.
        self._parent = tree.pidfd(parent)
        if self._parent is not None:
            self._selector.register(self._parent, selectors.EVENT_READ, self._on_parent_gone)
        if os.getppid() != parent:
            self._leaving = True

    def serve(self) -> None:
        while not (self._leaving and self._command is None):
            for key, _ in self._selector.select(self._timeout()):
                if key.data is None:
                    os.read(key.fd, 4096)
                else:
                    key.data()
            self._reap()
            self._enforce()
            if not self._leaving:
                writing = selectors.EVENT_WRITE if self._channel.pending else 0
                self._selector.modify(
                    self._channel, selectors.EVENT_READ | writing, self._on_channel
                )
        if self._litter is not None:
            shutil.rmtree(self._litter, ignore_errors=True)

    def _timeout(self) -> float | None:
        command = self._command
        if command is None:
            return None
        due = self._kill_due(command)
        if due <= now():
            due = command.next_kill
        elif not command.overdue:
            due = min(due, self._terminate_at)
        return min(_NAP, max(0.0, due - now()))

    # What electctl says

    def _on_channel(self) -> None:
        if self._leaving:
            return
        self._channel.flush()
        messages, gone = self._channel.receive()
        # The newest deadline first: if we could not run, those before it may be long past.
        deadlines = [message for message in messages if message["do"] == "deadline"]
        others = [message for message in messages if message["do"] != "deadline"]
        for message in deadlines[-1:] + others:
            self._obey(message)
        if gone:
            self._abandoned()

    def _on_parent_gone(self) -> None:
        self._on_channel()
        self._abandoned()

    def _abandoned(self) -> None:
        """electctl is gone without goodbye: nobody renews the leadership any more."""
        if not self._leaving:
            self._leave()
            self._stop(self._grace)

    def _leave(self) -> None:
        self._leaving = True
        self._selector.unregister(self._channel)
        if self._parent is not None:
            self._selector.unregister(self._parent)

    def _obey(self, message: Mapping[str, Any]) -> None:
        match message["do"]:
            case "start":
                self._start(message["argv"], message["env"])
            case "deadline":
                self._terminate_at, self._kill_at = message["terminate_at"], message["kill_at"]
            case "remove_at_end":
                self._litter = message["path"]
            case "signal":
                self._signal(message["signum"])
            case "stop":
                self._stop(message["grace"])
            case "kill":
                self._stop_by(-math.inf)
            case "goodbye":
                self._leave()
                self._stop_by(-math.inf)

    def _say(self, event: Started | CannotStart | Exited | TreeGone) -> None:
        if not self._leaving:
            self._channel.send(to_message(event))

    # Starting

    def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        if self._command is not None:
            self._say(CannotStart(126, f"{argv[0]}: the command before it has not ended"))
            return
        if now() >= self._kill_at:
            self._say(CannotStart(126, f"{argv[0]}: not started, its deadline has passed"))
            return
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reading)
            self._say(CannotStart(126, f"{argv[0]}: cannot fork: {error.strerror}"))
        else:
            if pid == 0:
                _execute(argv, env, writing, self._me, self._altered)
            self._command = _Command(pid, argv[0], reading)
            self._selector.register(reading, selectors.EVENT_READ, self._on_exec)
        finally:
            os.close(writing)

    def _on_exec(self) -> None:
        command = self._command
        if command is None or command.exec_pipe is None:
            return
        code = os.read(command.exec_pipe, 64)
        self._selector.unregister(command.exec_pipe)
        os.close(command.exec_pipe)
        command.exec_pipe = None
        if code:
            command.failure = _explain(command.name, int(code))
        else:
            self._say(Started(command.pid))

    # Stopping

    def _kill_due(self, command: _Command) -> float:
        return min(self._kill_at, command.stop_by)

    @property
    def _grace(self) -> float:
        return self._kill_at - self._terminate_at

    def _signal(self, signum: int) -> None:
        command = self._command
        if command is None:
            return
        if signum == signal.SIGTERM:
            self._terminate(command)
        else:
            self._signal_tree(command, set(), signum)

    def _stop(self, grace: float) -> None:
        if self._command is not None:
            self._terminate(self._command)
            self._stop_by(now() + grace)

    def _stop_by(self, at: float) -> None:
        if self._command is not None:
            self._command.stop_by = min(self._command.stop_by, at)

    def _terminate(self, command: _Command) -> None:
        # SIGCONT, as systemd sends it: a stopped process cannot handle SIGTERM.
        self._signal_tree(command, command.terminated, signal.SIGTERM, signal.SIGCONT)

    def _signal_tree(self, command: _Command, told: set[tree.Key], *signals: int) -> None:
        if tree.AVAILABLE:
            # Mostly there is no other process than its own, and no walk is needed to see that.
            own = None if command.exited else tree.read(command.pid)
            if own is not None and own.key not in told and self._is_alone(command):
                told.add(own.key)
                tree.send(own, *signals)
                return
            # What a handler of the command starts in answer, to tidy up, is not told as well.
            before = math.inf if command.exited else now()
            tree.signal_all(self._me, told, self._kill_due(command), *signals, before=before)
        else:
            for signum in signals:
                tree.signal_group(command.pid, signum)

    def _is_alone(self, command: _Command) -> bool:
        # In this order: if it ends meanwhile, children that it has just made become ours.
        return not tree.children(command.pid) and tree.children(self._me) == [command.pid]

    def _enforce(self) -> None:
        command = self._command
        if command is None:
            return
        due = now() >= self._terminate_at and not command.overdue
        command.overdue |= due
        if now() >= self._kill_due(command):
            if now() >= command.next_kill:
                self._kill(command)
        elif due:
            self._terminate(command)

    def _kill(self, command: _Command) -> None:
        if not (command.exited and tree.AVAILABLE):
            # At once, without a walk, for all that has not left the command's group.
            tree.signal_group(command.pid, signal.SIGKILL)
        if tree.AVAILABLE and not tree.kill_all(self._me):
            # It forks as fast as we kill. Reap, and go on without a pause.
            return
        command.next_kill = now() + command.pause
        command.pause = min(2 * command.pause, _NAP)

    # Ends

    def _reap(self) -> None:
        command = self._command
        if command is None:
            return
        try:
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if ended[0] == command.pid:
                    self._on_exec()
                    command.exited = True
                    if command.failure is None:
                        status = shell_status(ended[1])
                        self._say(Exited(status, ended[1], command.overdue))
        except ChildProcessError:
            at = now()
            # No child means no descendant, for a subreaper. /proc has the last word all the same.
            if not self._anything_left(command):
                self._command = None
                self._say(command.failure or TreeGone(at))
                return
        if command.exited and not command.sweeping:
            command.sweeping = True
            self._stop(self._grace)

    def _anything_left(self, command: _Command) -> bool:
        if tree.AVAILABLE:
            children = tree.children(self._me)
            return bool(tree.descendants(self._me) if children is None else children)
        try:
            os.killpg(command.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _execute(
    argv: Sequence[str],
    env: Mapping[str, str],
    errors: int,
    guardian: int,
    altered: Sequence[int],
) -> NoReturn:
    """In the forked child: become the command."""
    try:
        os.setsid()
        prctl.die_with_parent(signal.SIGKILL)
        # The guardian may have died since the fork, before the line above took effect.
        if os.getppid() == guardian:
            for signum in altered:
                signal.signal(signum, signal.SIG_DFL)
            # What was sent to us since the fork has waited, and takes effect here.
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvpe(argv[0], list(argv), env)
    except OSError as error:
        os.write(errors, str(error.errno).encode())
    except ValueError:
        os.write(errors, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def _explain(name: str, code: int) -> CannotStart:
    if code not in (errno.ENOENT, errno.ENOTDIR):
        cause = os.strerror(code)
        if code == errno.ENOEXEC:
            cause += " (a script needs a first line such as #!/bin/sh)"
        return CannotStart(126, f"{name}: cannot be run: {cause}")
    if "/" in name and os.path.exists(name):
        return CannotStart(127, f"{name}: the interpreter that its first line names is not found")
    return CannotStart(127, f"{name}: command not found")


def _child_events() -> int:
    """A file descriptor that is readable when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return reading


def _close_all_but(kept: int) -> None:
    """All but standard input, output and error, which the command inherits, and ``kept``."""
    highest = os.sysconf("SC_OPEN_MAX")
    if tree.AVAILABLE:
        # A million calls are saved where the limit is high and close_range(2) is not there.
        highest = 1 + max(int(name) for name in os.listdir("/proc/self/fd"))
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), highest)
