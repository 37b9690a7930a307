"""One end of a connection: frames in, frames out, and neither without bound.

What this does not do: know what the frames mean. Nor does it guarantee that what was sent arrives;
a connection can break with everything that it still holds.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.wire import Farewell, Framer, frame

#: Milliseconds that sent bytes may stay without acknowledgement: a cable that was cut is noticed
#: after this time, not after the fifteen minutes for which TCP would try (tcp(7)).
_UNHEARD_MS = 10_000
#: Seconds that a farewell may take to be read.
_FAREWELL = 1.0


class Connection(asyncio.Protocol):
    """``heard`` is called when bodies wait in it, ``lost`` once, when it is over, with the cause.

    ``made`` is called when it begins; neither of the others is before.

    While bodies wait in it, it reads no more, so it holds the bytes of one read (256 KiB) and one
    unfinished frame at most.
    """

    def __init__(
        self,
        framer: Framer,
        heard: Callable[[Connection], None],
        lost: Callable[[Connection, str], None],
        made: Callable[[Connection], None] | None = None,
    ) -> None:
        self.framer = framer
        self.over = False
        #: Whether it is over because of what came, or did not come.
        self.refused = False
        self._heard = heard
        self._lost = lost
        self._made = made
        self._bodies: deque[bytes] = deque()
        self._cause = ""

    # For asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        try:
            bodies = self.framer.feed(data)
        except Malformed as error:
            self.refuse(error.message)
            return
        if bodies:
            self._bodies.extend(bodies)
            self._transport.pause_reading()
            self._heard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(str(exc) if exc else "the connection was closed")

    # For whoever uses it --------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many bodies wait to be taken."""
        return len(self._bodies)

    @property
    def unsent(self) -> int:
        """Bytes that the far end has not made room for."""
        return 0 if self.over else self._transport.get_write_buffer_size()

    @property
    def address(self) -> str:
        """Who the far end is, for people."""
        found = self._transport.get_extra_info("peername")
        return f"{found[0]}:{found[1]}" if isinstance(found, tuple) else "the local socket"

    def take(self) -> bytes:
        """The next body that waits."""
        body = self._bodies.popleft()
        if not self._bodies and not self.over:
            self._transport.resume_reading()
        return body

    def send(self, data: bytes) -> None:
        """Send a frame. Look at :attr:`unsent` before. Does nothing once it is over."""
        if not self.over:
            self._transport.write(data)

    def end(self, cause: str) -> None:
        """Break it off. Idempotent."""
        if not self.over:
            self._transport.abort()
            self._finish(cause)

    def refuse(self, reason: str) -> None:
        """Say why, and end it."""
        if not self.over:
            self.refused = True
            self._transport.write(frame(Farewell(reason)))
            self._transport.close()
            asyncio.get_running_loop().call_later(_FAREWELL, self._transport.abort)
            self._finish(reason)

    def _finish(self, cause: str) -> None:
        if not self.over:
            self.over = True
            self._bodies.clear()
            self._lost(self, cause)
