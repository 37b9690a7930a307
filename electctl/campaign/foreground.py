"""What was typed at the terminal, whom it has reached, and whether we die of it.

What this does not guarantee: that a signal came from the terminal where signalfd(2) is not there to
tell; then it counts as sent by somebody.
"""

from __future__ import annotations

import os
from signal import SIGQUIT
from typing import TYPE_CHECKING

from electctl.base.clock import now
from electctl.campaign.channel import CannotStart, Exited, GuardianEvent, Started, TreeGone
from electctl.campaign.inbox import STOP_SIGNALS

if TYPE_CHECKING:
    from electctl.campaign.orders import Finish
    from electctl.campaign.signals import Caught
    from electctl.campaign.terminal import Terminal


class Foreground:
    """One campaign at its terminal; ``terminal`` is None where the command does not share ours."""

    def __init__(self, terminal: Terminal | None) -> None:
        self._terminal = terminal
        #: The last signal that counts for :meth:`dies_of`, if it came from the terminal.
        self._typed: int | None = None
        self._command: int | None = None
        self._joined_at: float | None = None
        #: How the command's own process ended, as wait(2) gives it.
        self._raw: int | None = None
        #: A command is about to start, and it is not known yet whether it did.
        self._starting = False
        #: What was typed meanwhile, and when, on :func:`electctl.base.clock.now`.
        self._deferred: list[tuple[Caught, float]] = []

    def begin(self) -> None:
        """A new term begins."""
        self._command = self._raw = None

    def lend(self) -> None:
        """A command is about to start."""
        self._raw = None
        self._starting = True
        if self._terminal is not None:
            self._terminal.lend()

    def hear(self, event: GuardianEvent) -> None:
        """What became of the command."""
        self._starting = False
        match event:
            case Started(pid=pid, joined_at=joined_at):
                self._command, self._joined_at = pid, joined_at
            case Exited(raw=raw):
                self._command, self._raw = None, raw
            case CannotStart() | TreeGone() if self._terminal is not None:
                killed = self._raw is not None and os.WIFSIGNALED(self._raw)
                self._terminal.take_back(killed=killed)

    def stops(self, caught: Caught, *, running: bool) -> bool:
        """Whether this signal tells us to stop; all else is the command's own affair.

        Without a ``running`` command SIGQUIT (Ctrl-\\) is for us.
        """
        stop = caught.signum in STOP_SIGNALS or (caught.signum == SIGQUIT and not running)
        if caught.from_terminal:
            self._typed = caught.signum
        elif stop:
            self._typed = None
        return stop

    def defers(self, caught: Caught) -> bool:
        """Whether it has to wait until it is known whether the command was there to get it."""
        if not (self._starting and caught.from_terminal and self._terminal is not None):
            return False
        self._deferred.append((caught, now()))
        return True

    def recall(self) -> list[tuple[Caught, bool]]:
        """What was deferred, each with whether it has reached the command."""
        if self._starting:
            return []
        deferred, self._deferred = self._deferred, []
        since = self._joined_at
        return [
            (caught, since is not None and at >= since and self.reached(caught))
            for caught, at in deferred
        ]

    def reached(self, caught: Caught) -> bool:
        """Whether the terminal has sent it to the command as well."""
        return (
            caught.from_terminal
            and self._terminal is not None
            and self._command is not None
            and self._terminal.reached(self._command)
        )

    def dies_of(self, finish: Finish) -> int | None:
        """The signal that the user typed (Ctrl-C) and the command died of, or we while waiting.

        Whoever waits for us, a loop in a shell, is to see that it is the end of that as well.
        """
        raw = 0 if self._raw is None else self._raw
        signum = os.WTERMSIG(raw) if os.WIFSIGNALED(raw) else self._typed
        died = self._raw is None or os.WIFSIGNALED(raw)
        typed = signum is not None and signum == self._typed and finish.exit_code == 128 + signum
        return signum if died and typed else None
