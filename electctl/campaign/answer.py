"""The desk at which a campaign answers its command: ``check`` and ``checkpoint``.

What this does not guarantee: that only the command asks. Whoever runs as the same user and knows
the path can; the socket has mode 0600.

The protocol is one JSON object a line each way, one request a connection. One thread serves all
connections and never blocks: a check is answered from memory. Requests that ask the store go to a
few threads, through a queue with an end. A third keeps the socket where it is. All are made once,
before the command, and so is a descriptor in reserve: whatever the command uses up, somebody can
still be answered. Who is slow is the first to go when there are too many.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from electctl.base.clock import now, now_ns
from electctl.campaign.ask import MAX_LINE, MAX_VALUE
from electctl.campaign.workers import start_thread
from electctl.errors import (
    CannotRun,
    ElectctlError,
    Inconclusive,
    OutcomeUnknown,
    UsageError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from electctl.campaign.places import Spot
    from electctl.core.leadership import Leadership

#: Connections at once, and bytes of unfinished requests; beyond that the slowest one is closed.
MAX_CLIENTS = 256
MAX_UNREAD = 16 << 20
#: Requests that wait for the store; more are refused.
MAX_QUEUE = 128
#: Threads that ask the store.
ASKERS = 2
#: Seconds that a client may take over its request, and over reading the answer.
PATIENCE = 10.0
#: Seconds between two looks at whether the socket is still there.
LOOK_EVERY = 0.5
#: Seconds without accepting when the system has no descriptor to give.
_REST = 0.05
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Client:
    """One connection: a line in, a line out."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.request = bytearray()
        self.reply = b""
        #: The store is being asked for it.
        self.asked = False
        self.since = now()


class Desk:
    """Answers until the process ends. Raises CannotRun where there is no thread for it.

    ``note`` gets a sentence for people, from any thread; ``made`` a directory before it is made,
    from the caller's; ``record`` what became of a checkpoint, from any thread, as an event's name,
    whose it was and its details. Set :attr:`leadership` while one is held.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        made: Callable[[Path], None],
        record: Callable[[str, Leadership, dict[str, object]], None],
    ) -> None:
        #: None: we do not lead.
        self.leadership: Leadership | None = None
        #: Where the socket is; None while closed.
        self.spot: Spot | None = None
        self._note = note
        self._made = made
        self._record = record
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._new_listener: socket.socket | None = None
        self._clients: dict[_Client, None] = {}
        self._to_ask: queue.Queue[tuple[_Client, dict[str, Any]]] = queue.Queue(MAX_QUEUE)
        self._answered: deque[tuple[_Client, dict[str, Any]]] = deque()
        self._resting_until: float | None = None
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._reserve: int | None = self._reading_of_null()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reading, selectors.EVENT_READ)
        start_thread(self._serve, "desk")
        start_thread(self._keep, "desk-keeper")
        for number in range(ASKERS):
            start_thread(self._ask, f"desk-asker-{number}")

    def open(self, spots: list[Spot]) -> None:
        """Listen in the first of these that takes a socket, and nowhere else.

        Raises CannotRun if none does.
        """
        self.close()
        trouble = ""
        for spot in spots:
            if spot.home is not None:
                self._made(spot.home)
            try:
                listener = spot.listen()
            except OSError as error:
                spot.remove()
                trouble = trouble or f": {error.strerror}"
                continue
            with self._lock:
                self.spot = spot
            self._hand_over(spot, listener)
            return
        raise CannotRun(
            f"the socket for the command cannot be made{trouble}",
            hint="is there room in the runtime and temporary directories? --socket names a place",
        )

    def close(self) -> None:
        """Answer nobody new, and remove the socket. Idempotent."""
        with self._lock:
            spot, self.spot = self.spot, None
        if spot is not None:
            spot.remove()
        self._wake()

    # The socket's keeper --------------------------------------------------------------------------

    def _keep(self) -> None:
        said = ""
        while True:
            time.sleep(LOOK_EVERY)
            spot = self.spot
            # Without the lock: a file system may keep us waiting, and a check must not.
            if spot is None or spot.is_there():
                continue
            try:
                self._hand_over(spot, spot.listen())
                trouble = "the control socket had been removed, and was made again"
            except OSError as error:
                trouble = f"the control socket is gone: {error.strerror}; trying again"
            if trouble != said and self.spot is spot:
                self._note(trouble)
                said = trouble

    def _hand_over(self, spot: Spot, listener: socket.socket) -> None:
        """To the thread that serves; from one that has made it."""
        with self._lock:
            late = self.spot is not spot
            old, self._new_listener = self._new_listener, None if late else listener
        if old is not None:
            old.close()
        if late:  # closed meanwhile
            listener.close()
            spot.remove()
        self._wake()

    # Connections ----------------------------------------------------------------------------------

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full, so it will be read
            os.write(self._writing, b"\0")

    def _serve(self) -> None:
        while True:
            resting = self._resting_until is not None
            for key, _ in self._selector.select(_REST if resting else 1.0):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Client):
                    self._attend(key.data)
                else:
                    with suppress(BlockingIOError):
                        os.read(self._reading, 4096)
            self._take_listener()
            while self._answered:
                client, reply = self._answered.popleft()
                if client in self._clients:
                    self._answer(client, reply)
            self._tidy()

    def _take_listener(self) -> None:
        with self._lock:
            closed, new, self._new_listener = self.spot is None, self._new_listener, None
        if (closed or new is not None) and self._listener is not None:
            if self._resting_until is None:
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = self._resting_until = None
        if new is None:
            return
        if closed:
            new.close()
        else:
            self._listener = new
            self._selector.register(new, selectors.EVENT_READ)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(2):
            try:
                sock, _address = self._listener.accept()
            except OSError as error:
                if error.errno not in _FULL or not self._make_room():
                    return
            else:
                break
        else:
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._drop_slowest()
        sock.setblocking(False)
        client = _Client(sock)
        self._clients[client] = None
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """No descriptor is left for who knocks: give up the reserve, or the slowest, or rest."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            return True
        if self._drop_slowest():
            return True
        assert self._listener is not None
        self._selector.unregister(self._listener)
        self._resting_until = now() + _REST
        return False

    def _drop_slowest(self) -> bool:
        """Close the oldest connection that has not said what it wants."""
        slow = next((client for client in self._clients if not client.asked), None)
        if slow is not None:
            self._drop(slow)
        return slow is not None

    def _drop(self, client: _Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        del self._clients[client]

    def _tidy(self) -> None:
        at = now()
        for client in [c for c in self._clients if not c.asked and at - c.since > PATIENCE]:
            self._drop(client)
        while sum(len(client.request) for client in self._clients) > MAX_UNREAD:
            if not self._drop_slowest():
                break
        if self._reserve is None:
            with suppress(OSError):
                self._reserve = self._reading_of_null()
        if self._resting_until is not None and at >= self._resting_until:
            self._resting_until = None
            if self._listener is not None:
                self._selector.register(self._listener, selectors.EVENT_READ)

    @staticmethod
    def _reading_of_null() -> int:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _attend(self, client: _Client) -> None:
        if client not in self._clients:
            return  # closed a moment ago, for another's sake
        try:
            if client.reply:
                client.reply = client.reply[client.socket.send(client.reply) :]
                if not client.reply:
                    self._drop(client)
                return
            chunk = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:  # it has gone: its own affair
            self._drop(client)
            return
        if not chunk:
            self._drop(client)
        elif not client.asked:
            client.request += chunk
            if b"\n" in chunk or len(client.request) > MAX_LINE:
                self._hear(client)

    # Requests -------------------------------------------------------------------------------------

    def _hear(self, client: _Client) -> None:
        try:
            request = _parse(bytes(client.request))
            client.request.clear()
            match request.get("do"):
                case "check":
                    self._answer(client, _check(self.leadership))
                case "get" | "set":
                    client.asked = True
                    self._to_ask.put_nowait((client, request))
                case _:
                    raise UsageError(
                        "the request is none that this electctl knows", hint="check, set or get"
                    )
        except ElectctlError as error:
            self._answer(client, _error(error))
        except queue.Full:
            busy = Inconclusive(
                f"{MAX_QUEUE} requests wait for the store already: nothing was done",
                hint="ask again, and fewer at a time",
            )
            self._answer(client, _error(busy))

    def _answer(self, client: _Client, reply: dict[str, Any]) -> None:
        client.asked, client.since = False, now()
        client.reply = json.dumps(reply).encode() + b"\n"
        self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
        self._attend(client)

    def _ask(self) -> None:
        while True:
            client, request = self._to_ask.get()
            try:
                reply = _ask_store(self.leadership, request, self._record)
            except ElectctlError as error:
                reply = _error(error)
            self._answered.append((client, reply))
            self._wake()


def _check(leadership: Leadership | None) -> dict[str, Any]:
    remaining = 0.0 if leadership is None else leadership.remaining()
    return {
        "leading": remaining > 0,
        "remaining_ms": int(remaining * 1000),
        "token": None if leadership is None else leadership.token,
    }


def _ask_store(
    leadership: Leadership | None,
    request: dict[str, Any],
    record: Callable[[str, Leadership, dict[str, object]], None],
) -> dict[str, Any]:
    if leadership is None:
        raise Inconclusive("the campaign does not lead", hint="ask again once it does")
    told: dict[str, object] = {"began_ns": now_ns()}
    match request:
        case {"do": "set", "value": str(text)}:
            value = _decode(text)
            told |= {"value": _digest(value), "outcome": "accepted"}
            try:
                told["version"] = leadership.checkpoint.set(value)
            except ElectctlError as error:
                told["outcome"] = "unknown" if isinstance(error, OutcomeUnknown) else "refused"
                raise
            finally:
                record("checkpoint_set", leadership, told)
            return {}
        case {"do": "get"}:
            found = leadership.checkpoint.get()
            told |= {"value": None if found is None else _digest(found)}
            record("checkpoint_got", leadership, told)
            return {"value": None if found is None else base64.b64encode(found).decode()}
    raise UsageError("a value is missing, or is no text", hint='{"do": "set", "value": "NDI="}')


def _digest(value: bytes) -> str:
    """What an event shows of a value, which may be a secret, or long."""
    return hashlib.sha256(value).hexdigest()


def _error(error: ElectctlError) -> dict[str, Any]:
    shown = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    return {"error": shown}


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise UsageError(
            f"the request is longer than {MAX_LINE} bytes",
            hint=f"a checkpoint holds at most {MAX_VALUE} bytes",
        )
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise UsageError("the request is not a JSON object", hint='{"do": "check"}')
    return request


def _decode(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise UsageError("the value is not base64", hint="RFC 4648, section 4") from None
    if len(value) > MAX_VALUE:
        raise UsageError(
            f"the value has {len(value)} bytes; {MAX_VALUE} are allowed",
            hint="store it elsewhere, and its name here",
        )
    return value
