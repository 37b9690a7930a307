"""One session with ZooKeeper through one kazoo client. The only module that drives kazoo.

What this does not guarantee: that a request which was not answered in time did not act, or will not
act later: kazoo keeps requests while it is without a connection and sends them afterwards. The
server takes them in the order of our asking; one that came after them and was answered settles what
became of them.

kazoo would open a new session by itself when the old one is over. Here a session ends once: what
held in the old one does not hold in another.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionDropped,
    KazooException,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
    SessionClosedRequireSaslError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, make_acl

from electctl.clock import now
from electctl.errors import ConfigError, Refused, Unreachable
from electctl_zookeeper.failures import ANSWERS, CLIENT_ERRORS, SessionLost, translate
from electctl_zookeeper.proof import Proof
from electctl_zookeeper.target import Target
from electctl_zookeeper.wire import Wire

#: Starts a request; returns kazoo's asynchronous result.
Request = Callable[[Any], Any]

#: Requests in a row without an answer after which another connection is tried.
PATIENCE_LIMIT = 2

_LOG = logging.getLogger("electctl.zookeeper")
# Below INFO kazoo writes whole requests, passwords among them.
_LOG.setLevel(logging.INFO)
for _logger in (_LOG, logging.getLogger("kazoo")):
    # Without any handler Python prints warnings to stderr by itself.
    _logger.addHandler(logging.NullHandler())


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection, which tells what was negotiated, and when it was asked for.

    kazoo keeps neither where its users can see it.
    """

    def __init__(
        self,
        opened: Callable[[float, float], None],
        may_ping: Callable[[], bool],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._opened = opened
        self._may_ping = may_ping
        #: Whether the server has answered that the session is closed.
        self.closed_there = False

    def _send_ping(self, timeout: float) -> None:
        if not self._may_ping():
            raise SessionExpiredError("given up here")
        super()._send_ping(timeout)

    def _read_response(self, *args: Any) -> Any:
        answer = super()._read_response(*args)
        if answer is CLOSE_RESPONSE:
            self.closed_there = True
        return answer

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        sent = now()
        answer = super()._invoke(timeout, request, xid)
        if isinstance(request, Connect) and answer[0].time_out > 0:
            self._opened(sent, answer[0].time_out / 1000)
        return answer

    def _connect(self, *args: Any) -> Any:
        try:
            return super()._connect(*args)
        except (AuthFailedError, ConnectionDropped, SessionExpiredError):
            raise
        except SessionClosedRequireSaslError as error:
            raise AuthFailedError("the server demands SASL") from error
        except KazooException as error:
            # kazoo's thread would end with a traceback on stderr.
            raise ConnectionDropped(str(error)) from error


class _Client(KazooClient):  # type: ignore[misc]
    def __init__(
        self, opened: Callable[[float, float], None], may_ping: Callable[[], bool], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._connection = _Connection(
            opened,
            may_ping,
            self,
            self._conn_retry.copy(),
            logger=self.logger,
            sasl_options=kwargs["sasl_options"],
        )

    @property
    def closed_there(self) -> bool:
        return bool(self._connection.closed_there)

    def say_goodbye(self) -> None:
        """The first half of :meth:`stop`: ask for the end of the session, and do not wait."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._call(CloseInstance, self.handler.async_result())

    def stop(self) -> None:
        """End the session and kazoo's threads. Waits for both."""
        self.say_goodbye()
        self._safe_close()


class Session:
    """A session: opened once, then asked; over once it is lost or closed. Times in seconds.

    ``timeout`` is asked of the server, ``patience`` is how long one request may take. ``on_change``
    is called from kazoo's threads whenever the connection's state changes.
    """

    def __init__(
        self, target: Target, timeout: float, patience: float, on_change: Callable[[], None]
    ) -> None:
        self.target = target
        self.patience = patience
        self.lost = False
        #: What the server granted, in seconds; 0 before the first connection.
        self.negotiated = 0.0
        self._proof: Proof | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._on_change = on_change
        self._closing = False
        self._refused = False
        self._timed_out = 0
        self._ends_with_proof = False
        self._handler = Wire(patience, target.tls, alone=len(target.hosts) == 1)
        self._client = _client(target, timeout, self._handler, self._opened, self._may_ping)
        self._client.add_listener(self._on_state)

    # Called by kazoo's threads -------------------------------------------------------------------

    def _opened(self, sent: float, negotiated: float) -> None:
        with self._lock:
            if self._proof is None:
                self.negotiated = negotiated
                self._proof = Proof(sent, self.target.tick_for(negotiated))
            else:
                self.negotiated = min(self.negotiated, negotiated)
                self._proof.taken_up(sent)

    def _on_state(self, state: str) -> None:
        if state == KazooState.LOST:
            self._refused = self._client.client_state == KeeperState.AUTH_FAILED
            self.lost = True
            self._handler.closed = True
        self._news.set()
        self._on_change()

    # Proof of life -------------------------------------------------------------------------------

    @property
    def known_since(self) -> float:
        """Since when the server's leader surely counts our time-out (see :class:`Proof`)."""
        with self._lock:
            assert self._proof is not None, "the session was never opened"
            return self._proof.since

    @property
    def ping(self) -> float:
        """Seconds after which one write more makes the one before it known."""
        with self._lock:
            assert self._proof is not None, "the session was never opened"
            return self._proof.ping

    def committed(self, sent: float) -> None:
        """A write that was sent at ``sent`` has just been answered."""
        with self._lock:
            assert self._proof is not None, "the session was never opened"
            self._proof.committed(sent, now())

    @property
    def granted(self) -> float:
        """What a grant may count on: the time-out negotiated less one tick. Raises ConfigError."""
        tick = self.target.tick_for(self.negotiated)
        if self.negotiated <= tick:
            raise ConfigError(
                f"a session of {self.negotiated:g} s is not longer than a tick of {tick:g} s",
                hint="raise --ttl, or correct ?tick=",
            )
        return self.negotiated - tick

    def end_with_proof(self) -> None:
        """From now on give the session up when its last proof is older than the time-out.

        kazoo would keep it alive by pings for as long as the process lives, and with it the place
        of a leader that has ended for want of an answer.
        """
        self._ends_with_proof = True

    def _may_ping(self) -> bool:
        """Called by kazoo's thread, before each ping."""
        return not self._ends_with_proof or now() < self.known_since + self.negotiated

    # Requests ------------------------------------------------------------------------------------

    def open(self, limit: float, cancelled: threading.Event | None = None) -> None:
        """Connect, at the latest by ``limit`` on :func:`electctl.clock.now`, unless cancelled.

        Raises Unreachable, Refused, ConfigError (a certificate that is not trusted).
        """
        live = self._client.start_async()
        while not live.is_set():
            self._check_over()
            left = limit - now()
            # A name may stand for two addresses, and a server may be about to listen.
            hopeless = self._handler.failures > 2 * len(self.target.hosts)
            if left <= 0 or hopeless or (cancelled is not None and cancelled.is_set()):
                raise self._unreachable()
            self._news.wait(min(left, 0.1))
            self._news.clear()

    def _unreachable(self) -> Unreachable | ConfigError:
        trouble = self._handler.trouble
        if isinstance(trouble, ssl.SSLCertVerificationError):
            return ConfigError(
                f"ZooKeeper at {self.target.peer}: its certificate is not trusted: "
                f"{trouble.verify_message}",
                hint="?ca= names the authority's file; the certificate must name the host",
            )
        if trouble is None and not any(_resolves(host) for host, _ in self.target.hosts):
            return Unreachable(
                f"ZooKeeper at {self.target.peer}: no such host", hint="is the name right?"
            )
        error = translate(trouble or KazooTimeoutError(), self.target.peer)
        assert isinstance(error, Unreachable)
        return error

    def _check_over(self) -> None:
        if self._refused:
            raise translate(AuthFailedError(), self.target.peer)
        if self.lost:
            raise SessionLost(f"ZooKeeper at {self.target.peer} has ended our session")

    @property
    def identity(self) -> tuple[int, bytes] | None:
        """The session's id and password, with which another client can take it up or end it."""
        found: tuple[int, bytes] | None = self._client.client_id
        return found

    @property
    def interrupted(self) -> bool:
        """Whether there is no connection now."""
        return self.lost or not self._client.connected

    def gather(self, requests: Sequence[Request], timeout: float | None = None) -> list[Any]:
        """Send all at once; the answers in order, one of ANSWERS' errors in place of a result.

        Raises Unreachable (SessionLost when the session is over), Refused, ConfigError.
        """
        limit = now() + (self.patience if timeout is None else timeout)
        self._check_over()
        try:
            started = [request(self._client) for request in requests]
            answers = [self._await(answer, limit) for answer in started]
            self._timed_out = 0
            return answers
        except KazooTimeoutError as error:
            self._timed_out += 1
            if self._timed_out >= PATIENCE_LIMIT:
                # The server may be cut off from its peers, and kazoo notices only silence.
                self._handler.break_connection()
            raise translate(error, self.target.peer) from error
        except CLIENT_ERRORS as error:
            self._check_over()
            raise translate(error, self.target.peer) from error

    def _await(self, answer: Any, limit: float) -> Any:
        try:
            return answer.get(timeout=max(0.0, limit - now()))
        except ANSWERS as error:
            return error

    def ask(self, request: Request, timeout: float | None = None) -> Any:
        """One request. Raises also what is in ANSWERS."""
        answer = self.gather([request], timeout)[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def transact(
        self, fill: Callable[[Any], None], timeout: float | None = None
    ) -> tuple[list[Any], float]:
        """All of a transaction or nothing; its results and the time at which it was sent.

        ``fill`` adds the operations to kazoo's TransactionRequest. Raises also what is in ANSWERS.
        """
        sent = now()
        return self.outcome(self.ask(transaction(fill), timeout)), sent

    def outcome(self, results: Any) -> list[Any]:
        """What :meth:`gather` gave for a transaction that was done. Raises as :meth:`transact`."""
        if isinstance(results, Exception):
            raise results
        # The operation at fault has its own error, those around it say "rolled back".
        for result in results:
            if isinstance(result, Exception) and not isinstance(
                result, RolledBackError | RuntimeInconsistency
            ):
                if isinstance(result, ANSWERS):
                    raise result
                raise translate(result, self.target.peer) from result
        done: list[Any] = results
        return done

    def ensure_path(self, path: str, shared: str = "") -> None:
        """Create a path and its parents, persistent. Raises like :meth:`gather`.

        ``shared`` is the one among them in which every user may create folders of their own.
        """
        steps = path.split("/")
        paths = ["/".join(steps[: end + 1]) for end in range(1, len(steps))]
        try:
            # Most often only the last ones are missing.
            missing = len(paths)
            while missing and isinstance(self._create(paths[missing - 1], shared), NoNodeError):
                missing -= 1
            for later in paths[missing:]:
                self._create(later, shared)
        except Refused:
            # Somebody else may have made it for us.
            if self.ask(lambda client: client.exists_async(path)) is None:
                raise

    def _create(self, path: str, shared: str) -> Any:
        acl = None
        if path == shared and self.target.creator_acl:
            acl = [*CREATOR_ALL_ACL, make_acl("world", "anyone", read=True, create=True)]
        return self.gather([lambda client: client.create_async(path, b"", acl=acl)])[0]

    # The end -------------------------------------------------------------------------------------

    def end(self) -> None:
        """:meth:`close`, once there is a connection, and only that within ``patience``.

        Raises Unreachable if the store has not confirmed it: the session then runs out by itself.
        One that is lost already is no error.
        """
        limit = now() + self.patience
        while self._client.state == KazooState.SUSPENDED and now() < limit:
            # kazoo would stop without a word.
            self._news.clear()
            if self._client.state == KazooState.SUSPENDED:
                self._news.wait(max(0.0, limit - now()))
        lost = self.lost
        self._close(limit)
        if not (lost or self._client.closed_there):
            raise translate(KazooTimeoutError(), self.target.peer)

    def close(self) -> None:
        """End the session in the store too, which removes its ephemeral znodes. Idempotent.

        Gives up after ``patience``; the session then runs out by itself.
        """
        self._close(now() + self.patience)

    def _close(self, limit: float) -> None:
        if self._closing:
            return
        self._closing = True
        # Before anything else: the next candidate waits for it.
        self._client.say_goodbye()
        hurry = threading.Timer(max(0.0, limit - now()), self._cut)
        hurry.start()
        try:
            self._stop()
        finally:
            hurry.cancel()

    def abandon(self) -> None:
        """Go away without a word: the session runs out by itself. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._cut()
        self._stop()

    def _cut(self) -> None:
        self._handler.closed = True
        self._handler.break_connection()

    def _stop(self) -> None:
        try:
            self._client.stop()
            self._client.close()
        except CLIENT_ERRORS as error:
            _LOG.info("closing: %s", error)


def transaction(fill: Callable[[Any], None]) -> Request:
    """All of what ``fill`` adds to kazoo's TransactionRequest, or nothing; :meth:`Session.outcome`
    tells which."""

    def commit(client: Any) -> Any:
        wanted = client.transaction()
        fill(wanted)
        return wanted.commit_async()

    return commit


def _resolves(host: str) -> bool:
    # kazoo passes over names that do not, without a word.
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _client(
    target: Target,
    timeout: float,
    handler: Wire,
    opened: Callable[[float, float], None],
    may_ping: Callable[[], bool],
) -> _Client:
    user = f"{target.user}:{target.password}"
    sasl = target.user is not None and target.auth == "sasl"
    return _Client(
        opened,
        may_ping,
        hosts=target.peer,
        timeout=timeout,
        handler=handler,
        default_acl=CREATOR_ALL_ACL if target.creator_acl else OPEN_ACL_UNSAFE,
        auth_data=[("digest", user)] if target.user is not None and not sasl else None,
        sasl_options={
            "mechanism": "DIGEST-MD5",
            "username": target.user,
            "password": target.password,
        }
        if sasl
        else None,
        connection_retry=KazooRetry(
            max_tries=-1,
            delay=0.05,
            backoff=2,
            max_delay=0.5,
            sleep_func=SequentialThreadingHandler.sleep_func,
        ),
        logger=_LOG,
    )
