"""A client's connection to one node, made and served by a thread of its own.

What this does not guarantee: that what was sent arrives. Nor does it connect again: a channel that
has ended is replaced by a new one.

Making a connection may block (names are looked up, a far end may be silent), and so is done by the
thread too; whoever sends or closes never waits.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from electctl.base import threads, unix_socket
from electctl.base.clock import now
from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable
from electctl.raft.io.tls import FreshTls
from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.requests import Told
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    HELLO_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    ClientHello,
    Farewell,
    Framer,
    NodeStatus,
    Welcome,
    frame,
)


class Door(Protocol):
    """A way to a node that is started when it is needed (:mod:`electctl.raft.io.local`)."""

    def connect(self) -> socket.socket:
        """A connection to it. Raises OSError, Unreachable, ConfigError."""


#: Where a node is: host and port, the path of its socket on this machine, or who starts it.
Address = tuple[str, int] | Path | Door


#: Seconds to connect to one address, TLS included, and from there until the node has greeted.
CONNECT_TIMEOUT = 2.0
HELLO_TIMEOUT = 5.0
_CHUNK = 1 << 16
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: TLS alerts by which a server rejects our certificate or the lack of one (RFC 8446, section 6.2).
_OUR_CERTIFICATE = re.compile("CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE")


class ConnectionLost(Unreachable):
    """There was a connection, and it broke."""


def name_of(address: Address) -> str:
    """The address, for people."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Channel:
    """Calls ``heard`` for each message, the node's greeting first, and ``ended`` once.

    Both are called by the thread. ``ended`` is not called after :meth:`close`. Raises Unreachable
    if there is no thread to be had.
    """

    def __init__(
        self,
        address: Address,
        tls: FreshTls | None,
        hello: ClientHello,
        heard: Callable[[Channel, Welcome | Told], None],
        ended: Callable[[Channel, ElectctlError], None],
    ) -> None:
        self._address = address
        self._name = f"the node at {name_of(address)}"
        self._tls = tls
        self._heard = heard
        self._ended = ended
        #: When the first thing was sent after which nothing has come.
        self.unanswered_since: float | None = None
        #: Whether the node has greeted us, and in how many seconds once we were connected.
        self.greeted = False
        self.greeting = 0.0
        self._outbox = bytearray(frame(hello))
        self._lock = threading.Lock()
        self._closed = False
        self._ears, self._bell = socket.socketpair()
        self._ears.setblocking(False)
        self._bell.setblocking(False)
        try:
            threads.start(self._run, "electctl-raft")
        except Unreachable:
            self._ears.close()
            self._bell.close()
            raise

    def send(self, data: bytes) -> None:
        """Send a frame, now or when the connection is made. Does nothing once it has ended."""
        with self._lock:
            if self._closed:
                return
            if self.unanswered_since is None:
                self.unanswered_since = now()
            self._outbox += data
            self._ring()

    def close(self) -> None:
        """End it soon; what is not sent yet is dropped. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # then it rings already
            self._bell.send(b"!")

    # The thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        error: ElectctlError | None = None
        try:
            with self._connect() as sock:
                self._serve(sock)
        except OSError as failed:
            error = self._translate(failed)
        except Malformed as failed:
            error = self._stranger(failed)
        except (Unreachable, Refused, ConfigError) as failed:
            error = failed
        with self._lock:
            closed, self._closed = self._closed, True
            self._ears.close()
            self._bell.close()
        if error is not None and not closed:
            self._ended(self, error)

    def _connect(self) -> socket.socket:
        if isinstance(self._address, Path):
            return unix_socket.connect(self._address, CONNECT_TIMEOUT)
        if not isinstance(self._address, tuple):
            return self._address.connect()
        sock = socket.create_connection(self._address, CONNECT_TIMEOUT)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                # It closes the plain one itself.
                sock = self._tls.get().wrap_socket(sock, server_hostname=self._address[0])
        except BaseException:
            sock.close()
            raise
        return sock

    def _serve(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        framer = Framer(CLIENT_LIMIT, first=HELLO_LIMIT)
        poll = select.poll()
        poll.register(self._ears, select.POLLIN)
        connected = now()
        welcome_by: float | None = connected + HELLO_TIMEOUT
        while not self._closed:
            poll.register(sock, select.POLLIN | (select.POLLOUT if self._outbox else 0))
            poll.poll(None if welcome_by is None else max(0.0, welcome_by - now()) * 1000)
            with suppress(BlockingIOError):
                self._ears.recv(_CHUNK)
            self._write(sock)
            for data in self._read(sock):
                for body in framer.feed(data):
                    if welcome_by is not None:
                        self.greeting = now() - connected
                    self._take(body, first=welcome_by is not None)
                    welcome_by = None
            if welcome_by is not None and now() >= welcome_by:
                raise Unreachable(f"{self._name} does not answer", hint="is it stopped?")

    def _write(self, sock: socket.socket) -> None:
        with self._lock:
            try:
                while self._outbox:
                    del self._outbox[: sock.send(self._outbox)]
            except _NOT_NOW:
                pass

    def _read(self, sock: socket.socket) -> Iterator[bytes]:
        # All that is there: what TLS has decoded already is not seen by poll.
        while not self._closed:
            try:
                chunk = sock.recv(_CHUNK)
            except _NOT_NOW:
                return
            if not chunk:
                raise self._lost("it was closed")
            yield chunk

    def _lost(self, cause: str) -> ConnectionLost:
        hint = "is it running?"
        if self._tls is not None and not self.greeted:
            # In TLS 1.3 a node judges our certificate after the handshake has ended for us.
            hint = "does it accept our certificate (?cert=, ?key=)? its own log says why"
        return ConnectionLost(f"the connection to {self._name} is lost: {cause}", hint=hint)

    def _take(self, body: bytes, *, first: bool) -> None:
        message = (REPLY_TO_HELLO if first else TO_CLIENT).decode(body)
        if isinstance(message, Farewell):
            raise Unreachable(f"{self._name} turned us away: {message.reason}")
        with self._lock:
            self.unanswered_since = None
        self.greeted = True
        if not self._closed and not isinstance(message, NodeStatus):
            self._heard(self, message)

    def _stranger(self, error: Malformed) -> ElectctlError:
        if isinstance(self._address, tuple | Path):
            return Unreachable(
                f"{self._name} does not talk as a node does: {error.message}",
                hint="is the port that of a raft node, with and without TLS?",
            )
        return ConfigError(
            f"{self._name} was started by another version of electctl: {error.message}",
            hint="electctl raft stop ends it, and the next command starts one of its own",
        )

    def _translate(self, error: OSError) -> ElectctlError:
        if isinstance(error, ssl.SSLCertVerificationError) and self._tls is not None:
            return Unreachable(
                f"{self._name}: its certificate is not accepted: {error.verify_message}",
                hint=self._tls.whom,
            )
        if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
            reason = error.reason or " ".join(str(error).split())
            if "ALERT" in reason and _OUR_CERTIFICATE.search(reason):
                return Refused(
                    f"{self._name} rejects our certificate: {reason}", hint="?cert=FILE&key=FILE"
                )
            return Unreachable(
                f"{self._name}: TLS failed: {reason}", hint="does it speak TLS on this port?"
            )
        if isinstance(error, TimeoutError):
            return Unreachable(
                f"{self._name} does not answer", hint="is it running, and reachable?"
            )
        cause = error.strerror or str(error)
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return self._lost(cause)
        return Unreachable(f"{self._name} cannot be reached: {cause}", hint="is it running?")
