"""What electctl and its guardian say to each other: one JSON object a line, over a socket pair.

What this does not guarantee: delivery. Neither side ever waits for the other, because the other may
be stopped; what does not fit into the socket's buffer is kept here until it does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from electctl.campaign.stopping import Deadline, Kill, Scope, Signal, Stop

__all__ = [
    "CannotStart",
    "Channel",
    "Deadline",
    "Drop",
    "Exited",
    "Goodbye",
    "GuardianDied",
    "GuardianEvent",
    "Hold",
    "Kill",
    "LastWords",
    "Notice",
    "Order",
    "RemoveAtEnd",
    "Scope",
    "Signal",
    "Start",
    "Started",
    "Stop",
    "Stuck",
    "Told",
    "TreeGone",
    "from_order",
    "shell_status",
    "to_event",
    "to_message",
    "to_order",
]


# Orders ------------------------------------------------------------------------------------------


class Start(Struct, frozen=True):
    """Run a command; the deadlines come first."""

    argv: list[str]
    env: dict[str, str]


class Hold(Struct, frozen=True):
    """What the releaser gives back if electctl dies: a text that the backend understands."""

    receipt: str


class Drop(Struct, frozen=True):
    """There is nothing to give back any more."""


class RemoveAtEnd(Struct, frozen=True):
    """Remove this directory if electctl dies without goodbye. Replaces an earlier one."""

    path: str


class Goodbye(Struct, frozen=True):
    """electctl leaves in good order: kill what is left, give nothing back."""


Order = Start | Deadline | Signal | Stop | Kill | Hold | Drop | RemoveAtEnd | Goodbye

_ORDERS: dict[str, type[Order]] = {
    "start": Start,
    "deadline": Deadline,
    "signal": Signal,
    "stop": Stop,
    "kill": Kill,
    "hold": Hold,
    "drop": Drop,
    "remove_at_end": RemoveAtEnd,
    "goodbye": Goodbye,
}
_NAMES = {kind: name for name, kind in _ORDERS.items()}


# Events ------------------------------------------------------------------------------------------


class Started(Struct, frozen=True):
    """The command runs."""

    pid: int
    #: On a terminal, when it joined our process group, on :func:`electctl.base.clock.now`.
    joined_at: float | None = None


class CannotStart(Struct, frozen=True):
    """The command was not run; nothing else follows. 127: not found, 126: any other cause."""

    exit_code: int
    message: str
    #: It may go better a little later: the system had no process to give.
    transient: bool = False


class Exited(Struct, frozen=True):
    """The command's own process ended; others of its tree may be left until :class:`TreeGone`."""

    #: The shell's way to say it: the exit code, or 128 + the number of the signal.
    status: int
    #: As wait(2) gives it.
    raw: int
    #: The guardian had begun to stop it, because the time to terminate had come.
    overdue: bool = False


class TreeGone(Struct, frozen=True):
    """No process of the command is left, zombies included."""

    #: :func:`electctl.base.clock.now` when the last one had been waited for.
    at: float
    #: How many were there after the command's own end, and were stopped.
    left: int = 0


class Stuck(Struct, frozen=True):
    """Killed, and still there after 10 s: it cannot be known when they end. TreeGone may follow."""

    left: int = 0


class Notice(Struct, frozen=True):
    """Something is weaker from now on, and the user is to be told."""

    message: str


class LastWords(Struct, frozen=True):
    """The guardian has failed by a fault of its own, and ends now."""

    report: str


class GuardianDied(Struct, frozen=True):
    """The guardian is gone; electctl itself is now killing the tree, TreeGone follows if any."""

    #: For a crash report: the fault, and what was decided last; empty if it was killed (SIGKILL).
    report: str = ""


Told = Started | CannotStart | Exited | TreeGone | Stuck | Notice | LastWords
GuardianEvent = Started | CannotStart | Exited | TreeGone | Stuck | GuardianDied

_EVENTS: dict[str, type[Told]] = {
    kind.__name__: kind
    for kind in (Started, CannotStart, Exited, TreeGone, Stuck, Notice, LastWords)
}


def from_order(order: Order) -> dict[str, Any]:
    """The order as electctl sends it."""
    return {"do": _NAMES[type(order)], **asdict(order)}


def to_order(message: Mapping[str, Any]) -> Order:
    """The order that electctl sent. Raises KeyError or TypeError if it is none."""
    fields = dict(message)
    return _ORDERS[fields.pop("do")](**fields)


def to_message(event: Told) -> dict[str, Any]:
    """The event as the guardian sends it."""
    return {"event": type(event).__name__, **asdict(event)}


def to_event(message: Mapping[str, Any]) -> Told:
    """The event that the guardian sent. Raises KeyError or TypeError if it is none."""
    fields = dict(message)
    return _EVENTS[fields.pop("event")](**fields)


def shell_status(raw: int) -> int:
    """The exit code, or 128 + n for signal n, of a status from wait(2)."""
    code = os.waitstatus_to_exitcode(raw)
    return code if code >= 0 else 128 - code


class Channel:
    """One end. A stream: a message of SOCK_SEQPACKET is too small for a big environment."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outgoing = bytearray()
        self._incoming = bytearray()

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends, close-on-exec."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> int:
        """Bytes that are left to be sent: call :meth:`flush` when the socket is writable."""
        return len(self._outgoing)

    def send(self, message: Mapping[str, Any]) -> None:
        """Never blocks. A message to a peer that is gone is dropped; :meth:`receive` tells."""
        self._outgoing += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send as much of what is pending as the socket takes."""
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages that are here, and whether the peer is gone. Never blocks."""
        gone = False
        try:
            while chunk := self._socket.recv(65536):
                self._incoming += chunk
            gone = True
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = rest
        return [json.loads(line) for line in lines], gone

    def give_up(self) -> None:
        """Send nothing more: both sides are at their end."""
        self._outgoing.clear()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
