"""Tells a service manager how it goes: the protocol of sd_notify(3).

What this does not guarantee: that anybody hears it. Nothing here waits or fails: where the manager
is gone, or its socket full, a message is lost, and with a watchdog the next one counts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

#: What a manager puts into the environment for this process. A command must not get it: it would
#: speak in our name, or keep a watchdog quiet that watches us.
VARIABLES = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


class Notifier:
    """A manager that wants to hear. Not thread-safe."""

    def __init__(self, address: str, watchdog_interval: float | None = None) -> None:
        self._address = address
        #: Seconds between two :meth:`ping`, half of what the manager allows; None: it wants none.
        self.watchdog_interval = watchdog_interval
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self | None:
        """The manager that ``environ`` names; None if it names none that can be spoken to."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # in the abstract namespace, unix(7)
        elif not address.startswith("/"):
            return None
        try:
            return cls(address, _interval(environ))
        except OSError:
            return None

    def ready(self, status: str) -> None:
        """We lead, or are otherwise up: what a manager waits for before it starts others."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """One line for people, as ``systemctl status`` shows it."""
        self._tell(f"STATUS={_line(text)}")

    def stopping(self) -> None:
        """We are about to end."""
        self._tell("STOPPING=1")

    def ping(self) -> None:
        """We are alive; at least every :attr:`watchdog_interval`, or the manager ends us."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Say no more."""
        self._socket.close()

    def _tell(self, *lines: str) -> None:
        with suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)


def _interval(environ: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises, if that is meant for us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return allowed / 2e6 if allowed > 0 else None


def _line(text: str) -> str:
    return " ".join(text.split())
