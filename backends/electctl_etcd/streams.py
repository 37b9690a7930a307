"""What goes both ways between us and one member for longer than one request: watches, keep-alives.

What this does not guarantee: that a stream lives. An error ends it, and another is opened.

gRPC serves each such call with threads of its own, started with the call. So the stream of a
leader's keep-alives is opened before it leads and held: a limit on processes that is reached later
costs no renewal.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Any, Protocol

from electctl.base import threads
from electctl.base.clock import now
from electctl.errors import ElectctlError, Unreachable
from electctl_etcd.rpc import Compacted, Silent, WatchBroken, describe, grpc

#: Threads that gRPC starts for a call: one sends, one waits for events.
_GRPC_THREADS = 2


class Member(Protocol):
    """What is used of a member (:class:`electctl_etcd.client.Endpoint`)."""

    name: str
    heard: float
    leases: Any
    watches: Any

    def translate(self, error: Any) -> ElectctlError: ...


class _Duplex:
    """A call that stays open, read by a thread of its own. Raises Unreachable if it cannot be made.

    Our side is never closed while it lasts: that would be enough for etcd itself, and ends it in
    etcd's gRPC proxy.
    """

    def __init__(self, endpoint: Member, method: Any, metadata: Any) -> None:
        self.endpoint = endpoint
        self._changed = threading.Condition()
        self._answers: deque[Any] = deque()
        self._error: ElectctlError | None = None
        self._closed = False
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._call: Any = None
        self._begun = threading.Event()
        threads.start(self._read, "electctl-etcd")
        try:
            _make_room()
            self._call = method(iter(self._requests.get, None), metadata=metadata)
        finally:
            self._begun.set()

    def close(self) -> None:
        """From any thread: end it; whoever waits for an answer is woken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._end()

    def _end(self) -> None:
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()

    def _read(self) -> None:
        self._begun.wait()
        if self._call is None:
            return
        try:
            for response in self._call:
                self.endpoint.heard = now()
                with self._changed:
                    self._put(response)
                    self._changed.notify_all()
            error: ElectctlError = Unreachable(f"etcd at {self.endpoint.name} ended a stream")
        except grpc.RpcError as failed:
            error = self.endpoint.translate(failed)
        with self._changed:
            self._error = self._error or self._meaning(error)
            self._changed.notify_all()
        self._end()

    def _put(self, response: Any) -> None:
        """Take in what came, with the lock held."""
        self._answers.append(response)

    def _meaning(self, error: ElectctlError) -> ElectctlError:
        return error


class KeepAlives(_Duplex):
    """Keep-alives to one member, one at a time. One that was not answered in time ends it, so a
    late answer can never be taken for the answer to a later one."""

    def __init__(self, endpoint: Member, metadata: Any) -> None:
        self.metadata = metadata
        super().__init__(endpoint, endpoint.leases.LeaseKeepAlive, metadata)

    @property
    def sound(self) -> bool:
        """Whether nothing has ended it yet."""
        return not self._closed and self._error is None

    def ask(self, request: Any, timeout: float) -> Any:
        """The answer. Raises what the member said instead, Unreachable if it said nothing."""
        self._requests.put(request)
        with self._changed:
            self._changed.wait_for(
                lambda: self._answers or self._error or self._closed, max(0.0, timeout)
            )
            if self._answers:
                return self._answers.popleft()
            error = self._error
        raise error or Silent(f"etcd at {self.endpoint.name} did not answer in time")


class Stream(_Duplex):
    """One watch that the server has confirmed.

    It has no deadline: who holds it must ask ``endpoint`` something from time to time.
    """

    def __init__(self, endpoint: Member, request: Any, metadata: Any) -> None:
        self._created = False
        super().__init__(endpoint, endpoint.watches.Watch, metadata)
        self._requests.put(request)

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
                lambda: self._answers or self._error or self._closed, max(0.0, timeout)
            )
            if self._closed:
                return None
            if self._answers:
                events: list[Any] = self._answers.popleft()
                return events
            if self._error is not None:
                raise self._error
            return None

    def _put(self, response: Any) -> None:
        if response.canceled:
            self._error = self._why_cancelled(response)
        elif response.created:
            self._created = True
        elif response.events:
            self._answers.append(list(response.events))

    def _why_cancelled(self, response: Any) -> ElectctlError:
        name = self.endpoint.name
        if response.compact_revision:
            return Compacted(f"etcd at {name} has compacted the history that a watch was to read")
        return self._meaning(describe(grpc.StatusCode.UNAVAILABLE, response.cancel_reason, name))

    def _meaning(self, error: ElectctlError) -> ElectctlError:
        if isinstance(error, Unreachable):
            return WatchBroken(error.message, hint=error.hint)
        return error


def _make_room() -> None:
    """Raise Unreachable if there are no threads to be had for a call.

    gRPC's channel could never be closed after a call that it had begun without them.
    """
    enough = threading.Event()
    try:
        for _ in range(_GRPC_THREADS):
            threads.start(enough.wait, "electctl-etcd-room")
    finally:
        enough.set()
