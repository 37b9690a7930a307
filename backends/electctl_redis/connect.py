"""Connections to Redis: where to, in how much time, and what an error means.

What this does not guarantee: that a request which brought no answer did not act. Nor that Sentinel
names the one true primary: a Sentinel that is cut off together with an old primary still names it.

redis-py's own connection is used without its client and pool. So each request is one round trip,
nothing is retried behind the core's back (the core decides what an unanswered request means), and
a connection on which anything went wrong is closed: a late answer can never be taken for the
answer to a later question.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import redis.connection
import redis.exceptions

from electctl.clock import now
from electctl.errors import Refused, Unreachable
from electctl_redis.failures import CLIENT_ERRORS, translate

if TYPE_CHECKING:
    from electctl_redis.scripts import Script
    from electctl_redis.target import Target, Tls


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


def _stream(host: str, port: int, tls: Tls | None, timeout: float) -> _Stream:
    arguments: dict[str, object] = {
        "host": host,
        "port": port,
        # For TLS, and for the rest of an answer that has begun: waiting for one to begin is bounded
        # by each request's own deadline, in Link.ready.
        "socket_timeout": max(timeout, 1.0),
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        # Version 3 would cost a HELLO for each connection.
        "protocol": 2,
    }
    if tls is not None:
        arguments |= tls.arguments()
    # Announcing the library's name would cost two round trips for each connection, and finding it
    # out a millisecond. How to leave it out differs between versions.
    if hasattr(redis.connection, "DriverInfo"):
        arguments["driver_info"] = None
    kind: Any = redis.connection.Connection if tls is None else redis.connection.SSLConnection
    stream: Any = kind(**arguments)
    stream.driver_info = stream.lib_name = stream.lib_version = None
    found: _Stream = stream
    return found


class Link:
    """One connection, used by one thread at a time. Any error leaves it to be closed."""

    def __init__(self, host: str, port: int, tls: Tls | None, deadline: float) -> None:
        self.peer = f"{host}:{port}"
        self._stream = _stream(host, port, tls, max(0.001, deadline - now()))
        self._unproven: Tls | None = None
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
        """Turn redis-py's errors into ours."""
        try:
            yield
        except CLIENT_ERRORS as error:
            if self._unproven is not None and not isinstance(error, redis.exceptions.TimeoutError):
                self._raise_if_certificate_is_rejected(self._unproven)
            raise translate(error, self.peer) from error

    def _raise_if_certificate_is_rejected(self, tls: Tls) -> None:
        """Ask again without saying anything.

        In TLS 1.3 a server judges our certificate after the handshake has ended for us. If we have
        sent a command by then, its reset destroys the alert that says why (RFC 8446, 4.4.2.4).
        """
        host, _, port = self.peer.rpartition(":")
        stream = _stream(host, int(port), tls, 1.0)
        try:
            stream.connect()
            stream.read_response()
        except CLIENT_ERRORS as error:
            if isinstance(found := translate(error, self.peer), Refused):
                raise found from error
        finally:
            stream.disconnect()

    def login(self, user: str | None, password: str | None, db: int, deadline: float) -> None:
        """AUTH and SELECT in one round trip; raises before anything else can be sent."""
        commands: list[tuple[object, ...]] = []
        if password is not None:
            commands.append(("AUTH", password) if user is None else ("AUTH", user, password))
        if db:
            commands.append(("SELECT", db))
        with self.translated():
            if commands:
                self._stream.send_packed_command(self._stream.pack_commands(commands))
            for _ in commands:
                self.read(deadline)

    def call(self, *args: object, deadline: float, interrupt: Interrupt | None = None) -> Any:
        """Send one command and return its answer. Raises redis-py's errors."""
        self.send(*args)
        return self.read(deadline, interrupt)

    def send(self, *args: object) -> None:
        """Send one command."""
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


def _open(target: Target, deadline: float) -> Link:
    if target.service is None:
        host, port = target.hosts[0]
        return _login(target, host, port, deadline)
    host, port = _primary(target, deadline)
    link = _login(target, host, port, deadline)
    try:
        with link.translated():
            role = link.call("ROLE", deadline=deadline)[0]
        if role != b"master":
            raise Unreachable(
                f"{link.peer} is a {role.decode()}, and the Sentinels still call it the primary",
                hint="a fail-over is under way",
            )
    except BaseException:
        link.close()
        raise
    return link


def _login(target: Target, host: str, port: int, deadline: float) -> Link:
    link = Link(host, port, target.tls, deadline)
    try:
        link.login(target.user, target.password, target.db, deadline)
    except BaseException:
        link.close()
        raise
    return link


def _primary(target: Target, deadline: float) -> tuple[str, int]:
    """Ask the Sentinels in turn (https://redis.io/docs/latest/develop/reference/sentinel-clients/)."""
    trouble: list[str] = []
    for index, (host, port) in enumerate(target.hosts):
        # A Sentinel that does not answer may use up its own share of the time only.
        share = now() + (deadline - now()) / (len(target.hosts) - index + 1)
        try:
            link = Link(host, port, target.tls, share)
        except Unreachable as error:
            trouble.append(error.message)
            continue
        try:
            link.login(target.sentinel_user, target.sentinel_password, 0, share)
            with link.translated():
                found = link.call(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.service, deadline=share
                )
        except Unreachable as error:
            trouble.append(error.message)
            continue
        except Refused as error:
            raise Refused(
                f"Sentinel: {error.message}", hint="?sentinel_user=…&sentinel_password=…"
            ) from error
        finally:
            link.close()
        if found is not None:
            return found[0].decode(), int(found[1])
        trouble.append(f"the Sentinel at {link.peer} knows no service {target.service!r}")
    raise Unreachable("; ".join(trouble), hint="redis+sentinel://host:port,…/service")


class Links:
    """Connections to one target, opened as needed; threads never wait for one another's answers."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._idle: list[Link] = []
        self._lock = threading.Lock()
        self._closed = False

    def open(self, deadline: float) -> Link:
        """A new connection, which is the caller's to close."""
        return _open(self.target, deadline)

    def call(self, *args: object) -> Any:
        """One command and its answer, within ``timeout`` seconds."""
        deadline = now() + self.timeout
        with self._borrow(deadline) as link:
            return link.call(*args, deadline=deadline)

    def script(
        self,
        script: Script,
        keys: tuple[bytes, ...],
        *args: bytes | str | int,
        interrupt: Interrupt | None = None,
    ) -> Any:
        """Run a script by its digest; its text is sent only to a server that does not know it.

        Raises Interrupted as well as ours.
        """
        deadline = now() + self.timeout
        with self._borrow(deadline) as link:
            rest = (len(keys), *keys, *args)
            try:
                return link.call(
                    "EVALSHA", script.sha, *rest, deadline=deadline, interrupt=interrupt
                )
            except redis.exceptions.NoScriptError:
                return link.call("EVAL", script.text, *rest, deadline=deadline, interrupt=interrupt)

    @contextmanager
    def _borrow(self, deadline: float) -> Iterator[Link]:
        link = self._take() or self.open(deadline)
        try:
            with link.translated():
                yield link
        except BaseException:
            link.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(link)
                return
        link.close()

    def _take(self) -> Link | None:
        while True:
            with self._lock:
                if self._closed:
                    raise Unreachable("the connection to Redis has been closed here")
                if not self._idle:
                    return None
                link = self._idle.pop()
            if link.idle_and_sound():
                return link
            link.close()

    def close(self) -> None:
        """Close the idle connections now and those in use when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()


class Subscription:
    """A connection that receives what is published on its channels, in order."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._early: deque[tuple[bytes, bytes]] = deque()

    def subscribe(self, channel: bytes, deadline: float, *, optional: bool = False) -> None:
        """Return when the server has it. Raises Refused without the right, unless ``optional``."""
        with self._link.translated():
            try:
                self._link.send("SUBSCRIBE", channel)
                while (found := self._link.read(deadline))[0] != b"subscribe":
                    self._keep(found)
            except redis.exceptions.NoPermissionError:
                if not optional:
                    raise

    def next(
        self, deadline: float, interrupt: Interrupt | None = None
    ) -> tuple[bytes, bytes] | None:
        """The next (channel, message); None once ``deadline`` has passed. Raises Interrupted."""
        with self._link.translated():
            while not self._early:
                if not self._link.ready(deadline, interrupt):
                    return None
                self._keep(self._link.read(deadline + 1.0))
            return self._early.popleft()

    def _keep(self, found: Any) -> None:
        if found[0] == b"message":
            self._early.append((found[1], found[2]))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
