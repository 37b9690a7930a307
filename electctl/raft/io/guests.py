"""Who has connected to a node: greets clients and peers, takes their requests, brings the answers.

What this does not guarantee: that they are who they say. It keeps a bounded part of what they send,
whoever they are: a frame that makes no sense ends its connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from electctl.base.clock import now
from electctl.raft.io.connection import Connection
from electctl.raft.io.peers import Stranger
from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.replica import Departed, FromClient, ReplicaEvent
from electctl.raft.pure.requests import Answer, Request, Retry, Told
from electctl.raft.pure.steps import Receive
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    FROM_CLIENT,
    FROM_PEER,
    HELLO,
    HELLO_LIMIT,
    NAME_LIMIT,
    PEER_LIMIT,
    ClientHello,
    Framer,
    NodeStatus,
    PeerHello,
    StatusAsked,
    Welcome,
    frame,
)

#: Seconds until a connection must have greeted.
HELLO_TIMEOUT = 5.0
#: Connections at a time: of clients, and of those that have not greeted yet. That many may come in
#: one burst, before the first of them is heard.
MAX_CLIENTS = 1000
MAX_STRANGERS = 1000
#: Bytes that a client may leave unread before its connection is closed.
BACKLOG = 1 << 20
#: Requests of one client, and bytes of requests of all, that may wait for their answer. Whoever
#: asks more is told to ask again.
MAX_ASKED = 1000
MAX_ASKED_BYTES = 64 << 20
#: Seconds between two lines about connections that were refused.
_CALM = 1.0

Say = Callable[[str, str, bool], None]


@dataclass(slots=True, eq=False)
class _Guest:
    """One connection. Who is at its far end is known once it has greeted."""

    connection: Connection
    deadline: asyncio.TimerHandle
    client: str | None = None
    peer: int | None = None
    #: Requests that have no answer yet, and their size in bytes.
    asked: dict[int, int] = field(default_factory=dict)

    @property
    def greeted(self) -> bool:
        return self.client is not None or self.peer is not None


class Guests:
    """``welcome`` is our answer to a greeting; ``check`` raises Stranger on one of a wrong peer.

    ``wake`` is called when :meth:`events` has something to give, ``status`` tells how the node is,
    and ``say(event, text, detail)`` takes what is worth a line.
    """

    def __init__(
        self,
        welcome: Welcome,
        check: Callable[[PeerHello], None],
        status: Callable[[], NodeStatus],
        wake: Callable[[], None],
        say: Say,
    ) -> None:
        self._welcome = frame(welcome)
        self._check = check
        self._status = status
        self._wake = wake
        self._say = say
        self._guests: dict[Connection, _Guest] = {}
        self._clients: dict[str, _Guest] = {}
        self._peers: dict[int, _Guest] = {}
        self._speaking: deque[_Guest] = deque()
        self._departed: deque[str] = deque()
        self._asked_bytes = 0
        self._complained_at = -_CALM
        self._unsaid = 0

    def accept(self) -> Connection:
        """The protocol of a new connection, for asyncio."""
        framer = Framer(CLIENT_LIMIT, first=HELLO_LIMIT)
        return Connection(framer, self._heard, self._lost, self._arrived)

    @property
    def present(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._guests)

    def close(self) -> None:
        """Break all connections off."""
        for connection in list(self._guests):
            connection.end("we stop")

    # What they say --------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._speaking or self._departed)

    def event(self) -> ReplicaEvent | None:
        """The next thing that was said, of each connection in turn; None if it is dealt with."""
        if self._departed:
            return Departed(self._departed.popleft())
        guest = self._speaking.popleft()
        if guest.connection.over:
            return None
        body = guest.connection.take()
        if guest.connection.waiting:
            self._speaking.append(guest)
        try:
            return self._understand(guest, body)
        except (Malformed, Stranger) as error:
            guest.connection.refuse(error.message)
            return None

    def _understand(self, guest: _Guest, body: bytes) -> ReplicaEvent | None:
        if guest.peer is not None:
            return Receive(guest.peer, FROM_PEER.decode(body))
        if guest.client is None:
            self._greeted(guest, HELLO.decode(body))
            return None
        match FROM_CLIENT.decode(body):
            case Request() as request:
                return self._asked(guest, guest.client, request, len(body))
            case StatusAsked(id=number):
                self._send(guest, replace(self._status(), id=number))
        return None

    def _asked(
        self, guest: _Guest, client: str, request: Request, size: int
    ) -> ReplicaEvent | None:
        if len(guest.asked) >= MAX_ASKED or self._asked_bytes + size > MAX_ASKED_BYTES:
            self._send(guest, Answer(request.id, Retry(None)))
            return None
        self._asked_bytes += size - guest.asked.get(request.id, 0)
        guest.asked[request.id] = size
        return FromClient(client, request)

    # What they are told ---------------------------------------------------------------------------

    def tell(self, client: str, message: Told) -> None:
        """Send it to the connection of that name, if there is one."""
        guest = self._clients.get(client)
        if guest is not None:
            if isinstance(message, Answer):
                self._asked_bytes -= guest.asked.pop(message.id, 0)
            self._send(guest, message)

    def _send(self, guest: _Guest, message: Told | NodeStatus) -> None:
        if guest.connection.unsent > BACKLOG:
            guest.connection.refuse("it does not read what it is sent")
        else:
            guest.connection.send(frame(message))

    # Coming and going -----------------------------------------------------------------------------

    def _arrived(self, connection: Connection) -> None:
        strangers = [guest for guest in self._guests.values() if not guest.greeted]
        if len(strangers) >= MAX_STRANGERS:
            # The oldest that is silent, so that those who greet at once always get in.
            silent = (guest for guest in strangers if not guest.connection.waiting)
            next(silent, strangers[0]).connection.refuse("too many that say nothing")
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(HELLO_TIMEOUT, connection.refuse, "it does not greet")
        self._guests[connection] = _Guest(connection, deadline)

    def _greeted(self, guest: _Guest, hello: ClientHello | PeerHello) -> None:
        match hello:
            case ClientHello(name=name):
                if not 0 < len(name) <= NAME_LIMIT:
                    raise Stranger(f"a client's name has 1 to {NAME_LIMIT} characters")
                if len(self._clients) >= MAX_CLIENTS and name not in self._clients:
                    raise Stranger(
                        f"it has {MAX_CLIENTS} clients, each candidate and each watch among them, "
                        "and takes no more"
                    )
                guest.client = name
                before, self._clients[name] = self._clients.get(name), guest
            case PeerHello(number=number):
                self._check(hello)
                guest.connection.framer.limit = PEER_LIMIT
                guest.peer = number
                before, self._peers[number] = self._peers.get(number), guest
        guest.deadline.cancel()
        if before is not None:
            before.connection.end("it has connected anew")
        guest.connection.send(self._welcome)

    def _heard(self, connection: Connection) -> None:
        self._speaking.append(self._guests[connection])
        self._wake()

    def _lost(self, connection: Connection, cause: str) -> None:
        guest = self._guests.pop(connection)
        guest.deadline.cancel()
        self._asked_bytes -= sum(guest.asked.values())
        if guest.client is not None and self._clients.get(guest.client) is guest:
            del self._clients[guest.client]
            self._departed.append(guest.client)
            self._wake()
        if guest.peer is not None and self._peers.get(guest.peer) is guest:
            del self._peers[guest.peer]
        if connection.refused:
            self._complain(connection, cause)

    def _complain(self, connection: Connection, cause: str) -> None:
        """A line, but not one for each of a thousand."""
        if now() - self._complained_at < _CALM:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more before)" if self._unsaid else ""
        self._complained_at, self._unsaid = now(), 0
        self._say("refused", f"refused {connection.address}: {cause}{more}", False)
