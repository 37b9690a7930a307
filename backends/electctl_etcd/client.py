"""One client of a cluster: fails over between endpoints, logs in again, and never waits for ever.

What this does not guarantee: that a request which raised Unreachable did not act. A request may
have been sent to several members, one after the other; so everything that is sent through
:meth:`Client.call` can be repeated without harm (leases and keys are fresh, every write compares).
"""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import Any

from electctl.base.clock import now
from electctl.base.fresh import Fresh
from electctl.contract.credentials import Credentials, nobody
from electctl.errors import ElectctlError, LeadershipLost, Refused, Unreachable
from electctl_etcd.denial import explained
from electctl_etcd.rpc import (
    LeaseExists,
    Silent,
    grpc,
    is_auth_disabled,
    is_stale_token,
    pb,
    translate,
)
from electctl_etcd.streams import KeepAlives, Member, Stream

#: Seconds for one request where no candidate's timing says otherwise.
REQUEST_TIMEOUT = 5.0

#: Seconds that a new connection has before it may be replaced: TCP, TLS and HTTP/2 need up to four
#: round trips, and where a new one is as silent as the last, it is not the connection.
_SETTLED = 5.0

_CHANNEL_OPTIONS = (
    # A server that comes back is to be noticed within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # How long one try to connect may take, whatever its name says.
    ("grpc.min_reconnect_backoff_ms", int(_SETTLED * 1000)),
    # A name that stands for another address now is looked up again at the next attempt; gRPC
    # would do so every 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # What http_proxy, https_proxy and grpc_proxy name is for web pages. It would be asked to
    # connect to an etcd on loopback.
    ("grpc.enable_http_proxy", 0),
    # Nor may a TXT record of the domain say how requests are tried again.
    ("grpc.service_config_disable_resolution", 1),
    # Each client its own connections: closing one must not touch another's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
)
# A member that has lost its leader then refuses at once instead of letting the request wait
# (etcd clientv3.WithRequireLeader), and breaks off its watches.
_REQUIRE_LEADER = ("hasleader", "true")
#: Calls whose errors are known by the time they come out.
_STREAMS = ("open_watch", "keep_alive", "keep_alive_once", "ready_to_keep_alive")


class Endpoint:
    """One connection to one member: its channel and its calls, each ``(request, timeout=,
    metadata=)``. It is never mended, but replaced."""

    def __init__(self, name: str, credentials: Any | None, trusted: str) -> None:
        self.name = name
        self._trusted = "" if credentials is None else trusted
        #: What it was made with, and keeps.
        self.credentials = credentials
        self.made = now()
        #: When anything came from the member last.
        self.heard = 0.0
        if credentials is None:
            self.channel = grpc.insecure_channel(name, options=_CHANNEL_OPTIONS)
        else:
            self.channel = grpc.secure_channel(name, credentials, options=_CHANNEL_OPTIONS)
        self.kv = pb.calls(self.channel, "KV")
        self.leases = pb.calls(self.channel, "Lease")
        self.watches = pb.calls(self.channel, "Watch")
        self.auth = pb.calls(self.channel, "Auth")
        #: Streams of keep-alives that nobody uses now.
        self._held: list[KeepAlives] = []
        self._lock = threading.Lock()

    def translate(self, error: Any) -> ElectctlError:
        """What an error of a call to this member means."""
        return translate(error, self.name, trusted=self._trusted)

    def keep_alive(self, request: Any, *, timeout: float, metadata: Any) -> Any:
        """One keep-alive, on a stream that is held for the next one."""
        deadline = now() + timeout
        held = self._take(metadata)
        if held is not None:
            answer = self._keep(held, request, timeout)
            if answer is not None:
                return answer
        fresh = KeepAlives(self, metadata)
        return self._keep(fresh, request, deadline - now(), last=True)

    def keep_alive_once(self, request: Any, *, timeout: float, metadata: Any) -> Any:
        """One keep-alive, on a stream of its own."""
        stream = KeepAlives(self, metadata)
        try:
            return stream.ask(request, timeout)
        finally:
            stream.close()

    def _keep(self, stream: KeepAlives, request: Any, timeout: float, *, last: bool = False) -> Any:
        """The answer; None if the stream turned out to be broken and it is not the ``last`` try."""
        deadline = now() + timeout
        try:
            answer = stream.ask(request, timeout)
        except BaseException as error:
            stream.close()
            if last or not isinstance(error, Unreachable) or now() >= deadline:
                raise
            return None
        self._hold(stream)
        return answer

    def ready_to_keep_alive(self, _: None, *, timeout: float, metadata: Any) -> None:
        """Have a stream for the first keep-alive, with all the threads that it needs."""
        self._hold(self._take(metadata) or KeepAlives(self, metadata))

    def _take(self, metadata: Any) -> KeepAlives | None:
        while True:
            with self._lock:
                if not self._held:
                    return None
                stream = self._held.pop()
            # Another token, or it broke meanwhile.
            if stream.sound and stream.metadata == metadata:
                return stream
            stream.close()

    def drop_keep_alives(self) -> None:
        """Close the streams that are held."""
        with self._lock:
            held, self._held = self._held, []
        for stream in held:
            stream.close()

    def _hold(self, stream: KeepAlives) -> None:
        with self._lock:
            self._held.append(stream)

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
        raise Silent(f"etcd at {self.name} did not set up a watch in time")


class Client:
    """A cluster behind its endpoints. Safe to use from several threads.

    ``trusted`` says, for people, which authorities are in ``credentials``.
    """

    def __init__(
        self,
        endpoints: tuple[str, ...],
        *,
        tls: Fresh[Any] | None = None,
        trusted: str = "",
        credentials: Credentials | None = None,
    ) -> None:
        self._tls = tls
        self._credentials = credentials or nobody()
        self._trusted = trusted
        self._endpoints = [self._connect(name) for name in endpoints]
        self._current = 0
        self._lock = threading.Lock()
        self._user = self._credentials.user
        self._token: str | None = None if self._user else ""
        #: By how many it is still to be closed.
        self._users = 1
        self._closed = False

    def _connect(self, name: str) -> Endpoint:
        made = None if self._tls is None else self._tls.get()
        return Endpoint(name, made, self._trusted)

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked first."""
        return self._endpoints[self._current]

    def leave(self, endpoint: Member) -> None:
        """Ask the next member first from now on, if this one was asked first."""
        with self._lock:
            if self.endpoint is endpoint:
                self._current = (self._current + 1) % len(self._endpoints)

    def _replaced(self, number: int, failed: Endpoint, dead: bool) -> bool:
        """After a failure: whether there is another connection to member ``number`` by now.

        A new one is made if the last is ``dead``, or the files with our credentials say something
        else than it was made with. Calls that are under way on the old one break off, and are tried
        on the new one.
        """
        with self._lock:
            there = self._endpoints[number]
            if there is failed and not self._closed:
                outdated = self._tls and self._tls.get() is not failed.credentials
                if dead or outdated:
                    self._endpoints[number] = self._connect(failed.name)
            replaced = self._endpoints[number] is not failed
        if replaced and there is failed:
            failed.channel.close()
        return replaced

    def call(self, rpc: str, request: Any, timeout: float) -> Any:
        """Send a request, which must bear repeating, to one member after the other until one
        answers, within ``timeout`` seconds for all of them. ``rpc`` names a call of
        :class:`Endpoint`, as in "kv.Txn".

        A connection on which nothing came for a whole request is replaced for the next one.

        Raises Unreachable when no member answered; Refused, LeadershipLost (a lease that does not
        exist), UsageError and ConfigError as the first that answered said.
        """
        deadline = now() + timeout
        # Half of the time for the first, so that a stopped member costs no renewal; all the rest
        # for the second, so that a slow network has its time. Members that refuse cost none.
        share = timeout if len(self._endpoints) == 1 else timeout / 2
        # Our own round over all of them: another thread may move the first meanwhile.
        first = self._current
        left = list(range(first, len(self._endpoints))) + list(range(first))
        while True:
            began = now()
            endpoint = self._endpoints[left[0]]
            try:
                return self._ask(endpoint, rpc, request, share)
            except Unreachable as error:
                share = deadline - now()
                silent = isinstance(error, Silent) and endpoint.heard < began
                dead = silent and now() - endpoint.made >= _SETTLED
                if silent:  # before another stands in its place
                    self.leave(endpoint)
                if self._replaced(left[0], endpoint, dead) and share > 0 and not silent:
                    continue
                self.leave(endpoint)
                del left[0]
                if not left or share <= 0:
                    raise

    def _ask(self, endpoint: Endpoint, rpc: str, request: Any, timeout: float) -> Any:
        deadline = now() + timeout
        send = attrgetter(rpc)(endpoint)
        try:
            token = self._log_in(endpoint, timeout)
            try:
                answer = send(request, timeout=deadline - now(), metadata=_metadata(token))
                endpoint.heard = now()
                return answer
            except grpc.RpcError as error:
                if not (token and is_stale_token(error)):
                    raise
            except Refused:
                # A watch under a stale token is refused as if it lacked permission.
                if not (token and rpc in _STREAMS):
                    raise
            self._token = None
            token = self._log_in(endpoint, deadline - now())
            return send(request, timeout=deadline - now(), metadata=_metadata(token))
        except grpc.RpcError as error:
            raise explained(endpoint.translate(error), request, self._user) from error
        except ValueError as error:
            if not self._closed and endpoint in self._endpoints:
                raise
            raise Unreachable("the connection to etcd was closed here") from error

    def _log_in(self, endpoint: Endpoint, timeout: float) -> str:
        """The token to send; "" where none is needed."""
        if self._token is None:
            password = self._credentials.get().secret
            login = pb.AuthenticateRequest(name=self._user, password=password or "")
            try:
                self._token = str(endpoint.auth.Authenticate(login, timeout=timeout).token)
            except grpc.RpcError as error:
                if not is_auth_disabled(error):
                    raise
                self._token = ""
        return self._token

    def share(self) -> bool:
        """Have it stay open until it was closed once more. False if it is closed already."""
        with self._lock:
            if not self._closed:
                self._users += 1
            return not self._closed

    def close(self) -> None:
        """Close all connections, if we are the last; calls in progress raise Unreachable."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._closed = True
            endpoints = list(self._endpoints)
        for endpoint in endpoints:
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

    def get_ready(self, timeout: float) -> None:
        """Have what the first keep-alive needs."""
        self.call("ready_to_keep_alive", None, timeout)

    def keep_alive(self, lease: int, timeout: float, *, held: bool = True) -> Any:
        """The answer to one keep-alive; its TTL is 0 or less if the lease is gone.

        ``held``: on a stream that stays open for the next one.
        """
        rpc = "keep_alive" if held else "keep_alive_once"
        return self.call(rpc, pb.LeaseKeepAliveRequest(ID=lease), timeout)

    def drop_keep_alives(self) -> None:
        """Close the streams that are held for keep-alives."""
        for endpoint in self._endpoints:
            endpoint.drop_keep_alives()

    def remaining(self, lease: int, timeout: float) -> Any:
        """The answer to how long a lease has: whole seconds, rounded down; below 0: it is gone."""
        return self.call("leases.LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=lease), timeout)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (_REQUIRE_LEADER, ("token", token)) if token else (_REQUIRE_LEADER,)
