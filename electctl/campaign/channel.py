"""What electctl and its guardian say to each other: one JSON object a line, over a socket pair.

What this does not guarantee: delivery. Neither side ever waits for the other, because the other may
be stopped; what does not fit into the socket's buffer is kept here until it does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """The command runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The command was not run; nothing else follows. 127: not found, 126: any other cause."""

    exit_code: int
    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The command's own process ended; others of its tree may be left until :class:`TreeGone`."""

    #: The shell's way to say it: the exit code, or 128 + the number of the signal.
    status: int
    #: As wait(2) gives it.
    raw: int
    #: The guardian had begun to stop it, because the time to terminate had come.
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class TreeGone:
    """No process of the command is left, zombies included."""

    #: :func:`electctl.clock.now` when the last one had been reaped.
    at: float


@dataclass(frozen=True, slots=True)
class GuardianDied:
    """The guardian is gone; electctl itself is now killing the tree, TreeGone follows if any."""


GuardianEvent = Started | CannotStart | Exited | TreeGone | GuardianDied

_KINDS: dict[str, type[Started | CannotStart | Exited | TreeGone]] = {
    kind.__name__: kind for kind in (Started, CannotStart, Exited, TreeGone)
}


def to_message(event: Started | CannotStart | Exited | TreeGone) -> dict[str, Any]:
    """The event as the guardian sends it."""
    return {"event": type(event).__name__, **asdict(event)}


def to_event(message: Mapping[str, Any]) -> Started | CannotStart | Exited | TreeGone:
    """The event that the guardian sent."""
    fields = dict(message)
    return _KINDS[fields.pop("event")](**fields)


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
    def pending(self) -> bool:
        """Something is left to be sent: call :meth:`flush` when the socket is writable."""
        return bool(self._outgoing)

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

    def close(self) -> None:
        self._socket.close()
