"""A node's way to one other node: dials, greets, sends, and dials again.

What this does not guarantee: that a message arrives; Raft stands the loss of any. What does not fit
into the buffer is dropped. It hears nothing but the answer to its greeting: the other node sends
over a connection of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from ssl import SSLContext

from electctl.base.fresh import Fresh
from electctl.errors import ElectctlError
from electctl.raft.io.connection import Connection
from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.messages import Append, Install, Message
from electctl.raft.pure.wire import (
    HELLO_LIMIT,
    PEER_LIMIT,
    REPLY_TO_HELLO,
    Farewell,
    Framer,
    PeerHello,
    Welcome,
    frame,
)

#: Bytes that may wait to be sent before another message is taken: one with entries or a table, or
#: one that is small, such as a heartbeat.
BACKLOG = 8 << 20
SMALL_BACKLOG = 9 << 20
#: Seconds for one attempt, and between two; the pause doubles up to the last.
_ATTEMPT = 5.0
_PAUSES = (0.05, 1.0)


class Stranger(ElectctlError):
    """The far end is not the node that we look for."""


class Peer:
    """``check`` raises Stranger if the welcome is not of node ``number`` of our cluster.

    ``said(event, text, detail)`` is called once for each change: connected, lost, out of reach.
    """

    def __init__(
        self,
        hello: PeerHello,
        address: tuple[str, int],
        tls: Fresh[SSLContext] | None,
        check: Callable[[int, Welcome], None],
        said: Callable[[str, str, bool], None],
    ) -> None:
        self.number = hello.to
        self.address = address
        self._hello = hello
        self._tls = tls
        self._check = check
        self._said = said
        self._trouble = ""
        self._connection: Connection | None = None

    @property
    def reached(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    def send(self, message: Message) -> None:
        """Send it if there is a connection with room; else it is lost."""
        connection = self._connection
        large = isinstance(message, Append | Install)
        if connection is None or connection.unsent > (BACKLOG if large else SMALL_BACKLOG):
            return
        data = frame(message)
        if len(data) > PEER_LIMIT:
            size = len(data) >> 20
            self._complain("too_large", f"the table has outgrown a message: {size} MiB")
        else:
            connection.send(data)

    async def run(self) -> None:
        """Keep up the connection until cancelled."""
        pause = _PAUSES[0]
        while True:
            try:
                over = await self._connect()
            except (OSError, Malformed, Stranger) as error:
                cause = error.message if isinstance(error, ElectctlError) else _cause(error)
                self._complain("peer_unreachable", f"cannot reach node {self.number}: {cause}")
            else:
                pause = _PAUSES[0]
                self._trouble = ""
                self._said("peer_connected", f"connected to node {self.number}", False)
                try:
                    cause = await over
                finally:
                    self._connection = None
                self._said("peer_lost", f"lost node {self.number}: {cause}", False)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    async def _connect(self) -> asyncio.Future[str]:
        """Connect and greet; the future is done when the connection is over, with the cause."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()
        over: asyncio.Future[str] = loop.create_future()

        def heard(connection: Connection) -> None:
            if answered.done():
                connection.end("it sent what was not asked for")
            else:
                answered.set_result(connection.take())

        def lost(connection: Connection, cause: str) -> None:
            if not over.done():
                over.set_result(cause)
            if not answered.done():
                answered.set_exception(ConnectionResetError(cause))

        connection: Connection | None = None
        try:
            async with asyncio.timeout(_ATTEMPT):
                _, connection = await loop.create_connection(
                    lambda: Connection(Framer(HELLO_LIMIT), heard, lost),
                    *self.address,
                    ssl=self._tls.get() if self._tls else None,
                )
                connection.send(frame(self._hello))
                match REPLY_TO_HELLO.decode(await answered):
                    case Welcome() as welcome:
                        self._check(self.number, welcome)
                    case Farewell(reason=reason):
                        raise Stranger(f"it says: {reason}")
        except BaseException as error:
            if connection is not None:
                connection.end("not welcome")
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {_ATTEMPT:g} s") from None
            raise
        finally:
            if answered.done() and not answered.cancelled():
                answered.exception()  # looked at, or asyncio complains
        self._connection = connection
        return over

    def end(self) -> None:
        """Break the connection off."""
        if self._connection is not None:
            self._connection.end("we stop")

    def _complain(self, event: str, text: str) -> None:
        """Once for each new trouble, whatever the number of attempts."""
        self._said(event, text, text == self._trouble)
        self._trouble = text


def _cause(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        # Its numbers are the resolver's own.
        return error.strerror or str(error)
    # asyncio puts its own account, with the address, where the system's words should be.
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
