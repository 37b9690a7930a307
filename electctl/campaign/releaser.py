"""The releaser: gives the grant back when electctl is gone, in a process of its own.

What this does not guarantee: that the grant is given back. A store that is away too, a network that
is cut, a machine without a process or a byte to spare: then it runs out by itself, as it would
without us. Nor does it look whether anything acts under that grant: the guardian tells it when the
tree is gone, and until then it does nothing.

It is forked before there is any thread or client library, and has the URL, with its password, from
the fork. While nothing is to be done it loads the backend and its client library, at a low
priority: when it is needed, the files that it was started from may be gone (an upgrade, a virtual
environment that was removed), and so it reads none any more.

What it is told comes down a socket, one JSON object a line:

- ``{"do": "hold", "receipt": …}``: what there is to give back, a leadership's receipt; the last one
  counts
- ``{"do": "drop"}``: there is nothing to give back any more
- ``{"do": "release"}``: electctl is gone, and so is all that acted under the grant: give it back,
  and end

The end of the stream ends it too, and gives nothing back. It says nothing to anybody: standard
error is the command's, or a stream of events, and whoever could explain it is dead.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from electctl.base import threads
from electctl.base.clock import now
from electctl.contract.backend import Backend
from electctl.contract.url import BackendURL
from electctl.core.receipt import Receipt
from electctl.core.registry import open_backend
from electctl.errors import ElectctlError, OutcomeUnknown, Unreachable

#: Seconds of leadership after which the client library is loaded: a short command needs none.
SETTLED = 1.0
#: How much less than others the loading counts for; the release itself counts in full.
NICE = 5
#: Seconds for the last try beyond the end of the grant, until the process ends for certain.
_LAST_TRY = 5.0
_FIRST_BACKOFF = 0.05
_MAX_BACKOFF = 1.0
_CHUNK = 1 << 16


class Releaser:
    """Made before the fork, with the URL; :meth:`serve` is called after it."""

    def __init__(self, url: BackendURL) -> None:
        self._url = url
        self._receipt: Receipt | None = None
        self._load_at: float | None = None
        self._loader: threading.Thread | None = None
        self._backend: Backend | None = None

    def serve(self, end: socket.socket) -> None:
        """Do what is told over ``end``, until there is no more to come; then return.

        Whoever called it ends the process by ``os._exit``: a client library's threads may be stuck.
        Raises ValueError for what is not understood; nothing is given back then.
        """
        end.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(end, selectors.EVENT_READ)
            for message in self._messages(end, selector):
                if message.get("do") == "release":
                    self._release()
                    return
                self._take(message)

    def _messages(
        self, end: socket.socket, selector: selectors.BaseSelector
    ) -> Iterator[dict[str, object]]:
        buffer = b""
        while True:
            due = self._load_at
            if not selector.select(None if due is None else max(0.0, due - now())):
                self._load_meanwhile()
                continue
            try:
                chunk = end.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # the other end was killed with something unread
                return
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield _message(line)

    def _take(self, message: dict[str, object]) -> None:
        match message:
            case {"do": "hold", "receipt": str(receipt)}:
                if self._receipt is None and self._loader is None:
                    self._load_at = now() + SETTLED
                self._receipt = Receipt.unpack(receipt)
            case {"do": "drop"}:
                self._receipt = None
            case _:
                raise ValueError(f"the releaser does not know what this means: {message}")

    # Loading -------------------------------------------------------------------------------------

    def _load_meanwhile(self) -> None:
        self._load_at = None
        try:
            self._loader = threads.start(self._load_humbly, "electctl-load")
        except Unreachable:
            # No thread to be had: then not meanwhile.
            self._loader = threading.current_thread()
            self._load()

    def _load_humbly(self) -> None:
        with suppress(OSError, AttributeError):
            # Of this thread alone, as Linux has it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._load()

    def _load(self) -> None:
        """Open the backend, which makes no contact, and load what a first contact would."""
        # What cannot be loaded now is tried again when it is needed.
        with suppress(ElectctlError):
            backend = open_backend(self._url)
            # Names are looked up by a codec that Python loads at the first one.
            "localhost".encode("idna")
            self._backend = backend

    # Giving back ---------------------------------------------------------------------------------

    def _release(self) -> None:
        receipt = self._receipt
        if receipt is None:
            return
        # It was renewed before electctl died, so this is later than its end.
        gone_at = now() + receipt.ttl
        _end_by_alarm(receipt.ttl + _LAST_TRY)
        if self._loader is not None and self._loader is not threading.current_thread():
            self._loader.join()
        backoff = _FIRST_BACKOFF
        while not self._give_back(receipt) and now() + backoff < gone_at:
            time.sleep(backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF)
        if self._backend is not None:
            self._backend.close()

    def _give_back(self, receipt: Receipt) -> bool:
        """Whether nothing is left to try."""
        try:
            if self._backend is None:
                self._backend = open_backend(self._url)
            self._backend.give_back(receipt.grant)
        except (Unreachable, OutcomeUnknown):
            return False
        except ElectctlError:
            return True  # it would be refused again
        return True


def _message(line: bytes) -> dict[str, object]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError(f"the releaser wants an object, not {line!r}")
    return found


def _end_by_alarm(seconds: float) -> None:
    """Have the kernel end this process after so many seconds, whatever it is stuck in."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, seconds)
