"""One connection to a Redis server, and what an error on it means.

What this does not guarantee: that a request which brought no answer did not act.

redis-py's own connection is used without its client and pool. So each request is one round trip,
nothing is retried behind the core's back (the core decides what an unanswered request means), and
a connection on which anything went wrong is closed: a late answer can never be taken for the
answer to a later question.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import redis.connection
import redis.exceptions

from electctl.base.clock import now
from electctl.errors import Refused, Unreachable
from electctl_redis.failures import CLIENT_ERRORS, Elsewhere, translate, wanted

if TYPE_CHECKING:
    import ssl

    from electctl_redis.target import Address, FreshTls


class Interrupt:
    """Something that a waiting thread looks at beside its socket; once set it stays set."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._lock = threading.Lock()
        self._closed = False
        self.is_set = False

    def set(self) -> None:
        """From any thread, any number of times."""
        with self._lock:
            if not self.is_set and not self._closed:
                self._writer.send(b"!")
            self.is_set = True

    def fileno(self) -> int:
        """For a selector: readable once set."""
        return self._reader.fileno()

    def close(self) -> None:
        """Free the descriptors; ``set`` stays safe to call."""
        with self._lock:
            self._closed = True
            self._reader.close()
            self._writer.close()


class Interrupted(Exception):
    """The interrupt was set while an answer was awaited."""


class _Stream(Protocol):
    """What is used of redis-py's connection, which has no annotations."""

    _sock: socket.socket | None

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *args: Any) -> None: ...
    def pack_commands(self, commands: Any) -> Any: ...
    def send_packed_command(self, command: Any) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def read_response(self) -> Any: ...


class _SecureConnection(redis.connection.SSLConnection):
    """redis-py's, with a context of ours: it would read the files itself, fitting or not, trust
    every public authority beside the one named, and obey SSLKEYLOGFILE.
    """

    context: ssl.SSLContext

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        sock.settimeout(self.socket_connect_timeout)  # the handshake is part of connecting
        made = self.context.wrap_socket(sock, server_hostname=self.host)
        made.settimeout(self.socket_timeout)
        return made


def _stream(host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> _Stream:
    arguments: dict[str, object] = {
        "host": host,
        "port": port,
        # For the rest of an answer that has begun: waiting for one to begin is bounded by each
        # request's own deadline, in Link.ready.
        "socket_timeout": max(timeout, 1.0),
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        # Version 3 would cost a HELLO for each connection.
        "protocol": 2,
    }
    # Announcing the library's name would cost two round trips for each connection, and finding it
    # out a millisecond. How to leave it out differs between versions.
    if hasattr(redis.connection, "DriverInfo"):
        arguments["driver_info"] = None
    kind: Any = redis.connection.Connection if tls is None else _SecureConnection
    stream: Any = kind(**arguments)
    if tls is not None:
        stream.context = tls
    stream.driver_info = stream.lib_name = stream.lib_version = None
    found: _Stream = stream
    return found


class Link:
    """One connection, used by one thread at a time. Any error leaves it to be closed."""

    def __init__(self, address: Address, fresh: FreshTls | None, deadline: float) -> None:
        host, port = self.address = address
        self.peer = f"{host}:{port}"
        self._whom = "" if fresh is None else fresh.whom
        tls = None if fresh is None else fresh.get()
        self._stream = _stream(host, port, tls, max(0.001, deadline - now()))
        self._unproven: ssl.SSLContext | None = None
        self._user: str | None = None
        #: The last command, for what is said when it is refused; never one that logs in.
        self._sent: tuple[object, ...] = ()
        with self.translated():
            self._stream.connect()
        #: Set until the first answer: only that proves that the server took our certificate.
        self._unproven = tls
        sock = self._stream._sock
        if sock is None:
            raise Unreachable(f"the connection to Redis at {self.peer} was closed")
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn redis-py's errors into ours. Raises Elsewhere as well."""
        try:
            yield
        except redis.exceptions.AskError as error:  # or its child, MovedError
            asking = not isinstance(error, redis.exceptions.MovedError)
            # A node that was reached by an address of its own need not know it.
            place = (error.host or self.address[0], error.port)
            raise Elsewhere(place, asking, translate(error, self.peer)) from error
        except CLIENT_ERRORS as error:
            if self._unproven is not None and not isinstance(error, redis.exceptions.TimeoutError):
                self._raise_if_certificate_is_rejected(self._unproven)
            asked = wanted(self._sent, self._user)
            raise translate(error, self.peer, whom=self._whom, wanted=asked) from error

    def _raise_if_certificate_is_rejected(self, tls: ssl.SSLContext) -> None:
        """Ask again without saying anything.

        In TLS 1.3 a server judges our certificate after the handshake has ended for us. If we have
        sent a command by then, its reset destroys the alert that says why (RFC 8446, 4.4.2.4).
        """
        stream = _stream(*self.address, tls, 1.0)
        try:
            stream.connect()
            stream.read_response()
        except CLIENT_ERRORS as error:
            if isinstance(found := translate(error, self.peer), Refused):
                raise found from error
        finally:
            stream.disconnect()

    def login(
        self,
        user: str | None,
        password: str | None,
        db: int,
        deadline: float,
        *,
        cluster: bool = False,
    ) -> None:
        """AUTH and SELECT in one round trip; closes it and raises before anything else can be sent.

        ``cluster``: also raises if it is no node of one. Of two servers that are none, each would
        have every key.
        """
        self._user = user
        commands: list[tuple[object, ...]] = []
        if password is not None:
            commands.append(("AUTH", password) if user is None else ("AUTH", user, password))
        if db:
            commands.append(("SELECT", db))
        if cluster:  # changes nothing, and is refused by any other server
            commands.append(("READWRITE",))
        try:
            with self.translated():
                if commands:
                    self._stream.send_packed_command(self._stream.pack_commands(commands))
                for _ in commands:
                    self.read(deadline)
        except BaseException:
            self.close()
            raise

    def call(
        self,
        *args: object,
        deadline: float,
        interrupt: Interrupt | None = None,
        asking: bool = False,
    ) -> Any:
        """Send one command and return its answer. Raises redis-py's errors.

        ``asking``: the node is to serve it although the key's slot is still on its way there.
        """
        if asking:
            self.send("ASKING")
            self.read(deadline, interrupt)
        self.send(*args)
        return self.read(deadline, interrupt)

    def send(self, *args: object) -> None:
        """Send one command."""
        self._sent = args
        self._stream.send_command(*args)

    def read(self, deadline: float, interrupt: Interrupt | None = None) -> Any:
        """The next answer. TimeoutError of redis-py when ``deadline`` has passed."""
        if not self.ready(deadline, interrupt):
            raise redis.exceptions.TimeoutError("no answer in time")
        answer = self._stream.read_response()
        self._unproven = None
        return answer

    def ready(self, deadline: float, interrupt: Interrupt | None = None) -> bool:
        """Wait until there is something to read; False once ``deadline`` has passed.

        Raises :class:`Interrupted` if ``interrupt`` is set first.
        """
        if interrupt is not None and interrupt.is_set:
            raise Interrupted
        if self._stream.can_read(0):
            return True
        if interrupt is not None:
            self._selector.register(interrupt, selectors.EVENT_READ)
        try:
            while True:
                events = self._selector.select(max(0.0, deadline - now()))
                if interrupt is not None and interrupt.is_set:
                    raise Interrupted
                if events and self._stream.can_read(0):
                    return True
                if now() >= deadline:
                    return False
        finally:
            if interrupt is not None:
                self._selector.unregister(interrupt)

    def idle_and_sound(self) -> bool:
        """Whether an unused connection is still open, with no stray answer in it."""
        try:
            return not self._stream.can_read(0)
        except CLIENT_ERRORS:
            return False

    def close(self) -> None:
        """Close it. Sends nothing."""
        self._selector.close()
        self._stream.disconnect()
