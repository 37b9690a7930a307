"""One session with ZooKeeper through one kazoo client.

What this does not guarantee: that a request which was not answered in time did not act, or will not
act later: kazoo keeps requests while it is without a connection and sends them afterwards. The
server takes them in the order of our asking; one that came after them and was answered settles what
became of them.

kazoo would open a new session by itself when the old one is over. Here a session ends once: what
held in the old one does not hold in another.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from kazoo.exceptions import (
    AuthFailedError,
    NoAuthError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState, KeeperState

from electctl.base.clock import now
from electctl.errors import ConfigError, Refused, Unreachable
from electctl_zookeeper import rights
from electctl_zookeeper.client import LOG, make_client
from electctl_zookeeper.container import MARK, create_container
from electctl_zookeeper.failures import ANSWERS, CLIENT_ERRORS, SessionLost, translate
from electctl_zookeeper.proof import Proof
from electctl_zookeeper.target import Target
from electctl_zookeeper.wire import Wire

#: Starts a request; returns kazoo's asynchronous result.
Request = Callable[[Any], Any]

#: Seconds that a connection which was broken off may take to be gone.
CUT_LIMIT = 1.0
#: Requests in a row without an answer after which another connection is tried.
PATIENCE_LIMIT = 2


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
        #: Seconds that the answer took which opened it: one answer, like that to a write.
        self.greeting = 0.0
        self._proof: Proof | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._on_change = on_change
        self._closing = False
        self._refused = False
        self._no_containers = False
        self._timed_out = 0
        self._ends_with_proof = False
        self._handler = Wire(patience, target.tls, alone=len(target.hosts) == 1)
        self._client = make_client(target, timeout, self._handler, self._opened, self._may_ping)
        self._client.add_listener(self._on_state)

    # Called by kazoo's threads -------------------------------------------------------------------

    def _opened(self, sent: float, negotiated: float) -> None:
        with self._lock:
            if self._proof is None:
                self.negotiated = negotiated
                self.greeting = now() - sent
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
        """Connect, at the latest by ``limit`` on :func:`electctl.base.clock.now`, unless cancelled.

        A server that is silent uses up its own share of the time only. Raises Unreachable, also for
        a certificate that is not trusted (another may be there at the next try), and Refused.
        """
        if len(self.target.hosts) > 1:
            self._handler.share = max(0.0, limit - now()) / len(self.target.hosts)
        try:
            live = self._client.start_async()
        except RuntimeError as error:
            raise Unreachable(
                f"ZooKeeper at {self.target.peer} cannot be asked: {error}",
                hint="the user's processes are used up (ulimit -u, TasksMax=), or the memory is",
            ) from None
        while not live.is_set():
            self._check_over()
            left = limit - now()
            # A name may stand for two addresses, and a server may be about to listen.
            hopeless = self._handler.failures > 2 * len(self.target.hosts)
            if left <= 0 or hopeless or (cancelled is not None and cancelled.is_set()):
                raise self._unreachable()
            self._news.wait(min(left, 0.1))
            self._news.clear()
        self._handler.share = None

    def _unreachable(self) -> Unreachable:
        trouble = self._handler.trouble
        if isinstance(trouble, ssl.SSLCertVerificationError):
            return Unreachable(
                f"ZooKeeper at {self.target.peer}: its certificate is not trusted: "
                f"{trouble.verify_message}",
                hint=f"{self.target.trusted}; the certificate must name the host",
            )
        if self._handler.takes_no_connections():
            # Whatever is amiss with others of the ensemble.
            return Unreachable(
                f"ZooKeeper at {self.target.peer} closes every connection from this host at once",
                hint="maxClientCnxns (60 of a host by default) or maxCnxns in zoo.cfg is used up: "
                "each candidate and each watch needs one",
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
    def ended_there(self) -> bool:
        """Whether it is over, and because the server, or its proof of life, says so."""
        return self.lost and not self._refused and not self._closing

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
            started = [self._client.begin(request) for request in requests]
            answers = [self._await(request, answer, limit) for request, answer in started]
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

    def _await(self, request: Any, answer: Any, limit: float) -> Any:
        try:
            result = answer.get(timeout=max(0.0, limit - now()))
        except ANSWERS as error:
            return error
        except NoAuthError as error:
            result = error
        rights.check(request, result, self.target)
        return result

    def look_later(
        self, path: str, seen: Callable[[Any], None], changed: Callable[[Any], None]
    ) -> None:
        """Ask whether ``path`` is there, and to be told of its next change; waits for nothing.

        ``seen`` is called with kazoo's answer and ``changed`` with its event, from its threads.
        """
        self._client.exists_async(path, changed).rawlink(seen)

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

    def ensure_path(self, path: str, shared: str = "", containers: Collection[str] = ()) -> None:
        """Create a path and its parents. Raises like :meth:`gather`.

        ``shared`` is the one among them in which every user may create folders of their own;
        ``containers`` are those that the server is to remove when they have become empty. A server
        before 3.5.3 cannot do that, and makes them persistent like the others.
        """
        steps = path.split("/")
        paths = ["/".join(steps[: end + 1]) for end in range(1, len(steps))]
        try:
            # Most often only the last ones are missing.
            missing = len(paths)
            while missing and isinstance(
                self._create(paths[missing - 1], shared, containers), NoNodeError
            ):
                missing -= 1
            for later in paths[missing:]:
                self._create(later, shared, containers)
        except Refused:
            # Somebody else may have made it for us.
            if self.ask(lambda client: client.exists_async(path)) is None:
                raise

    def _create(self, path: str, shared: str, containers: Collection[str]) -> Any:
        acl = self._client.default_acl
        if path == shared:
            acl = rights.for_all_to_create(self._acl_below(path))
        if path in containers and not self._no_containers:
            try:
                return self.gather([lambda client: create_container(client, path, acl)])[0]
            except ConfigError:  # UnimplementedError
                self._no_containers = True
        data = MARK if path in containers else b""
        return self.gather([lambda client: client.create_async(path, data, acl=acl)])[0]

    # Rights --------------------------------------------------------------------------------------

    def create_as_in(self, path: str) -> None:
        """Give all that is created from now on the rights of ``path``, as far as ``?acl=`` says so.

        Where that is not there, those of the next znode above it. Raises like :meth:`gather`.
        """
        self._client.default_acl = self._acl_below(path)

    def _acl_below(self, path: str) -> list[Any]:
        if self.target.acl != "parent":
            return list(self._client.default_acl)
        while True:
            try:
                above, _ = self.ask(partial(_get_acl, path=path or "/"))
            except NoNodeError:
                path = path.rpartition("/")[0]
            except Refused:
                return rights.inherited([])  # so private that we may not even look
            else:
                return rights.inherited(above)

    # The end -------------------------------------------------------------------------------------

    def end(self, limit: float | None = None) -> None:
        """:meth:`close`, once there is a connection, and only that until ``limit`` on
        :func:`electctl.base.clock.now`, ``patience`` from now by default.

        Raises Unreachable if the store has not confirmed it: the session then runs out by itself.
        One that is lost already is no error.
        """
        if limit is None:
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
        if not self._stop(limit):
            self._cut()

    def abandon(self) -> None:
        """Go away without a word: the session runs out by itself. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._cut()

    def _cut(self) -> None:
        """Break the connection. A thread that looks up a name is left to find that out."""
        self._handler.closed = True
        self._handler.break_connection()
        self._stop(now() + CUT_LIMIT)

    def _stop(self, limit: float) -> bool:
        """Ask for the session's end first of all: the next candidate waits for it."""
        try:
            return self._client.stop_by(limit)
        except CLIENT_ERRORS as error:
            LOG.info("closing: %s", error)
            return True


def _get_acl(client: Any, path: str) -> Any:
    return client.get_acls_async(path)


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
