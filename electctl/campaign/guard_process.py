"""The guardian process: the command's parent, its subreaper, and a dead-man's switch.

What this does not guarantee: anything while the guardian itself is stopped (everything stopped
together, a paused machine); the death of a process of another user or in uninterruptible sleep.
Away from Linux only the command's process group is signalled, and what leaves it is lost.

It is forked from electctl without exec and shares no thread, socket or client library with it. It
needs nobody to tell it when time is up, and it never waits for electctl, nor for the releaser. It
has all signals blocked, so nothing but SIGKILL ends it and nothing but SIGSTOP stops it.

What is to be done when is decided in :mod:`electctl.campaign.stopping`. This module starts the
command, hears orders, waits for children, and is woken in time.
"""

from __future__ import annotations

import math
import os
import selectors
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, assert_never

from electctl.base.clock import now
from electctl.campaign import prctl, stopping
from electctl.campaign import terminal as tty
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.channel import (
    CannotStart,
    Channel,
    Deadline,
    Drop,
    Goodbye,
    Hold,
    Kill,
    LastWords,
    Notice,
    Order,
    RemoveAtEnd,
    Signal,
    Start,
    Started,
    Stop,
    Told,
    to_message,
    to_order,
)
from electctl.campaign.helper import close_all_but, describe
from electctl.campaign.launch import execute, explain, outcome
from electctl.campaign.procfs import pidfd
from electctl.campaign.releasing import Ends, Releaser
from electctl.campaign.tree import Tree
from electctl.campaign.urgency import Urgency
from electctl.campaign.warden import Warden

#: The longest sleep while a command runs, in seconds. select(2) sleeps on a clock that stops in
#: suspend, the deadlines do not; so after a resume they are looked at within this time.
_NAP = 0.1

#: The sleep until a control group is found empty after wait(2) has said that nobody is left.
_SHORT_NAP = 0.002


#: What electctl's user is told when it is so.
_NO_RELEASER = (
    "the releaser process has ended: if electctl is killed now, the next leads only when the "
    "leadership has expired"
)


@dataclass(slots=True)
class _Command:
    """The command in progress, from fork to the last descendant that was waited for."""

    name: str
    warden: Warden
    #: Tells the error number of a failed exec; closed by one that succeeds. None once read.
    exec_pipe: int | None
    #: What came down that pipe.
    told: bytes = b""
    failure: CannotStart | None = None
    #: wait(2) says that nobody is left.
    childless: bool = False


def run(
    channel: Channel,
    parent: int,
    mark: str,
    ends: Ends | None,
    given: tuple[int, ...],
    terminal: bool,
) -> None:
    """Be the guardian until electctl (process ``parent``) says goodbye or is gone.

    ``given`` are the descriptors that commands get; with ``terminal`` they share electctl's.
    All signals are blocked already by the caller, before the fork.
    """
    guard = None
    try:
        group = os.getpgrp() if terminal else None
        tty.step_aside(terminal=terminal)
        close_all_but(channel.fileno(), *given, *(() if ends is None else ends.filenos()))
        prctl.become_subreaper()
        prctl.rename("leadguard", f"leadguard of {parent}")
        guard = _Guard(channel, parent, mark, Releaser(ends), given, group)
        guard.serve()
    except BaseException as error:
        recent = [] if guard is None else guard.recent()
        channel.send(to_message(LastWords("\n".join([describe(error), *recent]))))
        raise


class _Guard:
    def __init__(
        self,
        channel: Channel,
        parent: int,
        mark: str,
        releaser: Releaser,
        given: tuple[int, ...],
        group: int | None,
    ) -> None:
        self._channel = channel
        self._me = os.getpid()
        self._releaser = releaser
        #: Descriptors that commands get, beside the standard streams.
        self._given = given
        #: On a terminal, the process group that the command is to share with electctl.
        self._group = group
        self._command: _Command | None = None
        self._cgroup = Cgroup.make(mark)
        #: We are in the command's cgroup ourselves, which must not be while a command runs.
        self._inside = self._cgroup is not None and self._cgroup.enter()
        self._leaving = False
        #: electctl is gone without goodbye.
        self._abandoned = False
        #: A directory that electctl will not remove if it is killed.
        self._litter: str | None = None
        # Before the first deadline nothing may run.
        self._deadline = Deadline(-math.inf, -math.inf)
        self._selector = selectors.DefaultSelector()
        self._selector.register(_child_events(), selectors.EVENT_READ, None)
        self._urgency = Urgency.raised()
        self._selector.register(channel, selectors.EVENT_READ, self._on_channel)
        if (words := releaser.fileno()) >= 0:
            self._selector.register(words, selectors.EVENT_READ, self._on_releaser)
        # A fork of electctl may hold the other end of the channel open; a pidfd tells its death.
        self._parent = pidfd(parent)
        if self._parent is not None:
            self._selector.register(self._parent, selectors.EVENT_READ, self._on_parent_gone)
        if os.getppid() != parent:
            self._on_parent_gone()

    def serve(self) -> None:
        while not (self._leaving and self._command is None):
            for key, _ in self._selector.select(self._timeout()):
                if key.data is None:
                    os.read(key.fd, 4096)
                else:
                    key.data()
            self._reap()
            if self._command is not None:
                self._command.warden.feed(stopping.Tick())
                self._forget_if_gone()
            if not self._leaving:
                writing = selectors.EVENT_WRITE if self._channel.pending else 0
                self._selector.modify(
                    self._channel, selectors.EVENT_READ | writing, self._on_channel
                )
        if self._abandoned:
            self._releaser.release()
        if self._litter is not None:
            shutil.rmtree(self._litter, ignore_errors=True)
        self._leave_cgroup()
        if self._cgroup is not None:
            self._cgroup.remove()

    def recent(self) -> list[str]:
        """What was decided last."""
        return [] if self._command is None else self._command.warden.recent()

    def _timeout(self) -> float | None:
        command = self._command
        if command is None:
            return None
        nap = _SHORT_NAP if command.childless else _NAP
        return min(nap, max(0.0, command.warden.wake_at() - now()))

    # What electctl says

    def _on_channel(self) -> None:
        if self._leaving:
            return
        self._channel.flush()
        messages, gone = self._channel.receive()
        orders = [to_order(message) for message in messages]
        # The newest deadline first: if we could not run, those before it may be long past.
        deadlines = [order for order in orders if isinstance(order, Deadline)]
        others = [order for order in orders if not isinstance(order, Deadline)]
        for order in [*deadlines[-1:], *others]:
            self._obey(order)
        if gone:
            self._abandon()

    def _on_parent_gone(self) -> None:
        self._on_channel()
        self._abandon()

    def _on_releaser(self) -> None:
        """It speaks once, if it fails; and its end is to be heard as long as electctl lives."""
        handle = self._releaser.fileno()
        words, gone = self._releaser.last_words()
        if gone:
            self._selector.unregister(handle)
            if not self._leaving:
                self._channel.send(to_message(Notice(f"{_NO_RELEASER}{words}")))

    def _abandon(self) -> None:
        """electctl is gone without goodbye: nobody renews the leadership any more."""
        if not self._leaving:
            self._leave()
            self._abandoned = True
            self._feed(stopping.Abandoned())

    def _leave(self) -> None:
        self._leaving = True
        self._selector.unregister(self._channel)
        if self._parent is not None:
            self._selector.unregister(self._parent)

    def _obey(self, order: Order) -> None:
        match order:
            case Start(argv=argv, env=env):
                self._start(argv, env)
            case Deadline():
                self._deadline = order
                self._feed(order)
            case Signal() | Stop() | Kill():
                self._feed(order)
            case Hold(receipt=receipt):
                self._releaser.hold(receipt)
            case Drop():
                self._releaser.drop()
            case RemoveAtEnd(path=path):
                self._litter = path
            case Goodbye():
                self._leave()
                self._releaser.drop()
                self._feed(Kill())
            case _:
                assert_never(order)

    def _feed(self, event: stopping.Event) -> None:
        if self._command is not None:
            self._command.warden.feed(event)
            self._forget_if_gone()

    def _say(self, event: Told) -> None:
        command = self._command
        if command is not None and command.failure is not None:
            return  # that it was not run is all that is to be said, once it is gone
        if not self._leaving:
            self._channel.send(to_message(event))

    # Starting

    def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        if self._command is not None:
            self._refuse(CannotStart(126, f"{argv[0]}: the command before it has not ended"))
            return
        if now() >= self._deadline.kill_at:
            self._refuse(CannotStart(126, f"{argv[0]}: not started, its deadline has passed"))
            return
        try:
            reading, writing = os.pipe()
        except OSError as error:
            self._refuse(CannotStart(126, f"{argv[0]}: no pipe: {error.strerror}", True))
            return
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reading)
            self._refuse(CannotStart(126, f"{argv[0]}: cannot fork: {error.strerror}", True))
        else:
            if pid == 0:
                self._become(argv, env, writing)
            self._leave_cgroup()
            grouped = self._group is None
            self._releaser.command(pid, self._cgroup, session=grouped)
            warden = Warden(
                pid,
                Tree(self._me, main=pid),
                self._deadline,
                self._say,
                grouped=grouped,
                cgroup=self._cgroup,
            )
            self._command = _Command(argv[0], warden, reading)
            self._selector.register(reading, selectors.EVENT_READ, self._on_exec)
        finally:
            os.close(writing)

    def _become(self, argv: Sequence[str], env: Mapping[str, str], errors: int) -> NoReturn:
        """In the forked child."""
        self._urgency.restore()
        if self._cgroup is not None and not self._inside:
            self._cgroup.enter()
        execute(argv, env, errors, self._me, self._given, self._group)

    def _leave_cgroup(self) -> None:
        if self._inside and self._cgroup is not None:
            self._inside = False
            if not self._cgroup.leave():
                self._cgroup = None  # to kill it would be to kill ourselves

    def _refuse(self, refusal: CannotStart) -> None:
        if not self._leaving:
            self._channel.send(to_message(refusal))

    def _on_exec(self) -> None:
        command = self._command
        if command is None or command.exec_pipe is None:
            return
        if some := os.read(command.exec_pipe, 64):
            command.told += some
            return
        self._selector.unregister(command.exec_pipe)
        os.close(command.exec_pipe)
        command.exec_pipe = None
        joined_at, code = outcome(command.told)
        if code:
            command.failure = explain(command.name, code)
        else:
            self._say(Started(command.warden.main, joined_at))

    # Ends

    def _reap(self) -> None:
        """Wait for all that has ended: the command, and what it has left to us."""
        command = self._command
        childless = False
        try:
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if command is not None:
                    if ended[0] == command.warden.main:
                        while command.exec_pipe is not None:
                            self._on_exec()
                    command.warden.reaped(*ended)
        except ChildProcessError:
            childless = True
        if command is not None:
            command.childless = childless
            command.warden.after_reaping(no_child=childless)
            self._forget_if_gone()

    def _forget_if_gone(self) -> None:
        command = self._command
        if command is not None and command.warden.gone:
            self._command = None
            self._releaser.command_gone()
            if command.failure is not None:
                self._refuse(command.failure)


def _child_events() -> int:
    """A file descriptor that is readable when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return reading
