"""One client of a cluster: fails over between endpoints, logs in again, and never waits for ever.

What this does not guarantee: that a request which raised Unreachable did not act. A request may
have been sent to several members, one after the other; so everything that is sent through
:meth:`Client.call` can be repeated without harm (leases and keys are fresh, every write compares).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from electctl.clock import now
from electctl.errors import ElectctlError, LeadershipLost, Refused, Unreachable
from electctl_etcd.rpc import (
    Compacted,
    LeaseExists,
    WatchBroken,
    describe,
    grpc,
    is_auth_disabled,
    is_stale_token,
    pb,
    translate,
)

#: Seconds for one request where no candidate's timing says otherwise.
REQUEST_TIMEOUT = 5.0

_CHANNEL_OPTIONS = (
    # A server that comes back is to be noticed within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Each client its own connections: closing one must not touch another's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
)
# A member that has lost its leader then refuses at once instead of letting the request wait
# (etcd clientv3.WithRequireLeader), and breaks off its watches.
_REQUIRE_LEADER = ("hasleader", "true")


class _OneRequest:
    """The sending side of a stream: one request, then open until it is closed.

    Closing our side early would be enough for etcd itself, not for its gRPC proxy.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        yield self._request
        self._closed.wait()

    def close(self) -> None:
        self._closed.set()


class Stream:
    """One watch that the server has confirmed, read by a thread of its own.

    It has no deadline: who holds it must ask ``endpoint`` something from time to time.
    """

    def __init__(self, endpoint: Endpoint, request: Any, metadata: Any) -> None:
        self.endpoint = endpoint
        self._requests = _OneRequest(request)
        self._call = endpoint.watches.Watch(iter(self._requests), metadata=metadata)
        self._changed = threading.Condition()
        self._events: deque[list[Any]] = deque()
        self._created = False
        self._error: ElectctlError | None = None
        self._closed = False
        threading.Thread(target=self._read, name="electctl-etcd-watch", daemon=True).start()

    def confirmed(self, timeout: float) -> bool:
        """Wait until the server has set the watch up. Raises what it answered instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._created or self._error or self._closed, timeout)
            if self._error is not None:
                raise self._error
            return self._created

    def take(self, timeout: float) -> list[Any] | None:
        """The next events, in order; None after ``timeout`` seconds, or once closed.

        Raises WatchBroken, Compacted (its history is gone), Refused.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._events or self._error or self._closed, max(0.0, timeout)
            )
            if self._closed:
                return None
            if self._events:
                return self._events.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """From any thread: end it; a blocked :meth:`take` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._requests.close()
        self._call.cancel()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._put(response)
            error: ElectctlError = WatchBroken(f"etcd at {self.endpoint.name} ended a watch")
        except grpc.RpcError as failed:
            error = self.endpoint.translate(failed)
        with self._changed:
            self._error = self._error or _broken(error)
            self._changed.notify_all()
        self._requests.close()

    def _put(self, response: Any) -> None:
        with self._changed:
            if response.canceled:
                self._error = self._why_cancelled(response)
            elif response.created:
                self._created = True
            elif response.events:
                self._events.append(list(response.events))
            self._changed.notify_all()

    def _why_cancelled(self, response: Any) -> ElectctlError:
        name = self.endpoint.name
        if response.compact_revision:
            return Compacted(f"etcd at {name} has compacted the history that a watch was to read")
        return _broken(describe(grpc.StatusCode.UNAVAILABLE, response.cancel_reason, name))


def _broken(error: ElectctlError) -> ElectctlError:
    if isinstance(error, Unreachable):
        return WatchBroken(error.message, hint=error.hint)
    return error


class Endpoint:
    """One member: its channel and its calls, each ``(request, timeout=, metadata=)``."""

    def __init__(self, name: str, credentials: Any) -> None:
        self.name = name
        self._secure = credentials is not None
        self.channel = (
            grpc.insecure_channel(name, options=_CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(name, credentials, options=_CHANNEL_OPTIONS)
        )
        self.kv = pb.KVStub(self.channel)
        self.leases = pb.LeaseStub(self.channel)
        self.watches = pb.WatchStub(self.channel)
        self.auth = pb.AuthStub(self.channel)

    def translate(self, error: Any) -> ElectctlError:
        """What an error of a call to this member means."""
        return translate(error, self.name, secure=self._secure)

    def keep_alive(self, request: Any, *, timeout: float, metadata: Any) -> Any:
        """One keep-alive, on a stream of its own: its time-out is that of the stream.

        A stream that is held over many keep-alives would answer late ones with early answers.
        """
        requests = _OneRequest(request)
        call = self.leases.LeaseKeepAlive(iter(requests), timeout=timeout, metadata=metadata)
        try:
            for answer in call:
                return answer
        finally:
            requests.close()
            call.cancel()
        raise Unreachable(f"etcd at {self.name} ended a keep-alive without an answer")

    def open_watch(self, request: Any, *, timeout: float, metadata: Any) -> Stream:
        """A watch that this member has confirmed."""
        stream = Stream(self, request, metadata)
        try:
            if stream.confirmed(timeout):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()
        raise Unreachable(f"etcd at {self.name} did not set up a watch in time")


class Client:
    """A cluster behind its endpoints. Safe to use from several threads."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        *,
        credentials: Any = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        self._endpoints = [Endpoint(name, credentials) for name in endpoints]
        self._current = 0
        self._lock = threading.Lock()
        self._user = user
        self._password = password
        self._token: str | None = None if user else ""
        self._closed = False

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked first."""
        return self._endpoints[self._current]

    def leave(self, endpoint: Endpoint) -> None:
        """Ask the next member first from now on, if this one was asked first."""
        with self._lock:
            if self.endpoint is endpoint:
                self._current = (self._current + 1) % len(self._endpoints)

    def call(self, rpc: str, request: Any, timeout: float) -> Any:
        """Send a request, which must bear repeating, to one member after the other until one
        answers, within ``timeout`` seconds for all of them. ``rpc`` names a call of
        :class:`Endpoint`, as in "kv.Txn".

        Raises Unreachable when no member answered; Refused, LeadershipLost (a lease that does not
        exist), UsageError and ConfigError as the first that answered said.
        """
        deadline = now() + timeout
        tries = len(self._endpoints)
        # Half of the time for the first, so that a stopped member costs no renewal; all the rest
        # for the second, so that a slow network has its time. Members that refuse cost none.
        share = timeout if tries == 1 else timeout / 2
        while True:
            tries -= 1
            endpoint = self.endpoint
            try:
                return self._ask(endpoint, rpc, request, share)
            except Unreachable:
                self.leave(endpoint)
                share = deadline - now()
                if not tries or share <= 0:
                    raise

    def _ask(self, endpoint: Endpoint, rpc: str, request: Any, timeout: float) -> Any:
        deadline = now() + timeout
        send = attrgetter(rpc)(endpoint)
        try:
            token = self._log_in(endpoint, timeout)
            try:
                return send(request, timeout=deadline - now(), metadata=_metadata(token))
            except grpc.RpcError as error:
                if not (token and is_stale_token(error)):
                    raise
            except Refused:
                # A watch under a stale token is refused as if it lacked permission.
                if not (token and rpc == "open_watch"):
                    raise
            self._token = None
            token = self._log_in(endpoint, deadline - now())
            return send(request, timeout=deadline - now(), metadata=_metadata(token))
        except grpc.RpcError as error:
            raise endpoint.translate(error) from error
        except ValueError as error:
            if not self._closed:
                raise
            raise Unreachable("the connection to etcd was closed here") from error

    def _log_in(self, endpoint: Endpoint, timeout: float) -> str:
        """The token to send; "" where none is needed."""
        if self._token is None:
            login = pb.AuthenticateRequest(name=self._user, password=self._password or "")
            try:
                self._token = str(endpoint.auth.Authenticate(login, timeout=timeout).token)
            except grpc.RpcError as error:
                if not is_auth_disabled(error):
                    raise
                self._token = ""
        return self._token

    def close(self) -> None:
        """Close all connections; calls in progress raise Unreachable."""
        self._closed = True
        for endpoint in self._endpoints:
            endpoint.channel.close()

    # The requests of the lease API ---------------------------------------------------------------

    def grant(self, lease: int, ttl: int, timeout: float) -> Any:
        """The answer to making a lease of ``ttl`` seconds under an id that was never used."""
        deadline = now() + timeout
        try:
            request = pb.LeaseGrantRequest(ID=lease, TTL=ttl)
            return self.call("leases.LeaseGrant", request, timeout)
        except LeaseExists:
            # An earlier try of this very request acted, and its answer was lost.
            return self.keep_alive(lease, deadline - now())

    def revoke(self, lease: int, timeout: float) -> None:
        """End a lease and delete its keys, in one step. One that does not exist is no error."""
        try:
            self.call("leases.LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), timeout)
        except LeadershipLost:
            return

    def keep_alive(self, lease: int, timeout: float) -> Any:
        """The answer to one keep-alive; its TTL is 0 or less if the lease is gone."""
        return self.call("keep_alive", pb.LeaseKeepAliveRequest(ID=lease), timeout)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (_REQUIRE_LEADER, ("token", token)) if token else (_REQUIRE_LEADER,)
