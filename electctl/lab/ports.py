"""Free ports on loopback, held until their server has gone.

What this does not guarantee: that a program which binds without SO_REUSEADDR can have the port
(Redis, etcd, ZooKeeper, PostgreSQL and asyncio set it), nor that the port stays free once it is
released.
"""

from __future__ import annotations

import os
import socket
import weakref

HOST = "127.0.0.1"


class HeldPort:
    """A port of 127.0.0.1 that the kernel gives to nobody else while this object lives.

    A bound socket that does not listen keeps the port from every bind to port 0 and from every
    outgoing connection, also while its server is down, and refuses connections as a closed port
    does; a server that sets SO_REUSEADDR can still listen on it (Linux, inet_csk_get_port).
    ``number`` 0 takes any free port. Raises OSError (EADDRINUSE) if ``number`` is taken.
    """

    def __init__(self, number: int = 0) -> None:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, number))
            self.number: int = sock.getsockname()[1]
            self._close = weakref.finalize(self, os.close, sock.detach())

    def release(self) -> None:
        """Let go of the port. Idempotent."""
        self._close()
