"""The sockets under kazoo, and kazoo's threads.

What this does not guarantee: that a server is reached at all; kazoo goes round the servers by
itself. kazoo opens its sockets here rather than by itself, because it leaves them open when a TLS
handshake fails, trusts every public authority beside the one named, and gives no way to break off.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

from electctl.base import forks
from electctl.base.clock import now
from electctl.base.fresh import Fresh

#: Seconds for the question whether a server takes connections at all.
_PROBE_TIMEOUT = 0.5


class Wire(SequentialThreadingHandler):  # type: ignore[misc]
    """``patience`` is how many seconds a connection may take to be made."""

    def __init__(self, patience: float, tls: Fresh[ssl.SSLContext] | None, *, alone: bool) -> None:
        super().__init__()
        self.patience = patience
        #: Set for good: no further connection is made.
        self.closed = False
        #: Why the last attempt failed, and how many have failed since the last success.
        self.trouble: OSError | None = None
        self.failures = 0
        #: Seconds that each server has to answer the first request; None: as long as kazoo says.
        self.share: float | None = None
        #: The server that last closed a connection before it had answered anything.
        self._hung_up: tuple[tuple[str, int], str] | None = None
        self._tls = tls
        self._alone = alone
        self._sock: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._tried: tuple[tuple[str, int], str] | None = None
        self._avoid: tuple[tuple[str, int] | None, float] = (None, 0.0)
        self._home = forks.here()

    def stop(self) -> None:
        """End the threads, as kazoo also does at exit; a fork of this process has none of them."""
        if self._home == forks.here():
            super().stop()

    def create_connection(
        self, address: tuple[str, int], hostname: str = "", timeout: float = 10.0, **_: Any
    ) -> socket.socket:
        """Called by kazoo's connection thread. Raises OSError."""
        if self.closed:
            raise OSError("the session is over")
        if self._avoid[0] == address and now() < self._avoid[1]:
            raise OSError("it did not answer; another server is tried first")
        self._tried = address, hostname or address[0]
        try:
            sock = self._connect(*self._tried, self.at_most(min(timeout, self.patience)))
        except (ConnectionResetError, BrokenPipeError):
            self.hung_up()
            raise
        except OSError as error:
            self.trouble = error
            self.failures += 1
            raise
        self._sock, self._address = sock, address
        if self.closed:
            # Closed while this connection was made, and so too early to break it.
            sock.close()
            raise OSError("the session is over")
        self.failures = 0
        return sock

    def at_most(self, timeout: float) -> float:
        """``timeout``, but no more than one server's share."""
        return timeout if self.share is None else min(timeout, self.share)

    def _connect(self, address: tuple[str, int], name: str, timeout: float) -> socket.socket:
        sock = socket.create_connection(address, timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if self._tls is None else self._secure(sock, name)
        except BaseException:
            sock.close()
            raise

    def _secure(self, sock: socket.socket, name: str) -> socket.socket:
        assert self._tls is not None
        return self._tls.get().wrap_socket(sock, server_hostname=name)

    def hung_up(self) -> None:
        """The server closed a connection before it had answered the first request."""
        self._hung_up = self._tried

    def takes_no_connections(self) -> bool:
        """Whether a server that was tried closes whatever is opened, unheard.

        One that only has no quorum hears and answers a word.
        """
        if self._hung_up is None:
            return False
        try:
            with self._connect(*self._hung_up, _PROBE_TIMEOUT) as sock:
                sock.settimeout(_PROBE_TIMEOUT)
                sock.sendall(b"srvr")
                return not sock.recv(1)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return True
        except OSError:
            return False

    def select(self, *args: Any) -> Any:
        """What a TLS record brought beyond the message that was read is ready, too."""
        reads, writes, errors, *timeout = args
        held = [sock for sock in reads if isinstance(sock, ssl.SSLSocket) and sock.pending()]
        if not held:
            return super().select(reads, writes, errors, *timeout)
        ready, writable, failed = super().select(reads, writes, errors, 0)
        return [*held, *(sock for sock in ready if sock not in held)], writable, failed

    def break_connection(self) -> None:
        """Have kazoo connect anew, to another server where there is one."""
        if not self._alone:
            self._avoid = (self._address, now() + 2 * self.patience)
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already
