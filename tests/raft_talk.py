"""What tests of real Raft nodes share: a client that speaks the wire by hand.

What this does not do: find the leader, or send anything again.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Self

from electctl.raft.pure.commands import ClientCommand, Result
from electctl.raft.pure.requests import Answer, Applied, Ask, Reply, Request, Submit
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    ClientHello,
    Framer,
    Welcome,
    frame,
)
from tests.processes import DEADLINE


class Talk:
    """One connection to a node, as the client ``name``; None: it does not greet."""

    def __init__(self, address: tuple[str, int], name: str | None = "talk") -> None:
        self.sock = socket.create_connection(address, DEADLINE)
        self._framer = Framer(CLIENT_LIMIT)
        self._bodies: list[bytes] = []
        self._last_id = 0
        if name is not None:
            self.send(ClientHello(name))
            assert isinstance(REPLY_TO_HELLO.decode(self.body()), Welcome)

    def send(self, value: object) -> None:
        self.sock.sendall(frame(value))

    def body(self) -> bytes:
        """The next frame. ConnectionError if the node closes the connection instead."""
        while not self._bodies:
            chunk = self.sock.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError("closed")
            self._bodies += self._framer.feed(chunk)
        return self._bodies.pop(0)

    def told(self) -> Any:
        return TO_CLIENT.decode(self.body())

    def ask(self, ask: Ask) -> Reply:
        """The reply; whatever else is told meanwhile is dropped."""
        self._last_id += 1
        self.send(Request(self._last_id, ask))
        while True:
            told = self.told()
            if isinstance(told, Answer) and told.id == self._last_id:
                return told.reply

    def submit(self, command: ClientCommand) -> Result:
        reply = self.ask(Submit(command))
        assert isinstance(reply, Applied), reply
        return reply.result

    def ends(self) -> list[bytes]:
        """What still comes until the node closes the connection, which it must."""
        found = []
        try:
            while True:
                found.append(self.body())
        except ConnectionError:
            return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()
