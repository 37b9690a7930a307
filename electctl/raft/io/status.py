"""Asks nodes how they are, one connection each.

What this does not guarantee: that the answers fit together; each was true at its own moment.
"""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from electctl.base import unix_socket
from electctl.base.clock import now
from electctl.errors import Unreachable
from electctl.raft.io.tls import Tls
from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    ClientHello,
    Farewell,
    Framer,
    NodeStatus,
    StatusAsked,
    frame,
)

Address = tuple[str, int] | Path


def ask_status(address: Address, timeout: float, tls: Tls | None = None) -> NodeStatus:
    """The status of the node at a TCP address or a Unix socket. ``timeout`` in seconds for all.

    Raises Unreachable.
    """
    deadline = now() + timeout
    try:
        with _connect(address, timeout, tls) as sock:
            sock.sendall(frame(ClientHello(f"status-{uuid.uuid4().hex}")) + frame(StatusAsked(1)))
            framer = Framer(CLIENT_LIMIT)
            bodies: list[bytes] = []
            while len(bodies) < 2:
                sock.settimeout(max(0.001, deadline - now()))
                chunk = sock.recv(65536)
                if not chunk:
                    if bodies:
                        break
                    raise Unreachable("it closed the connection", hint=_HINT)
                bodies += framer.feed(chunk)
            match REPLY_TO_HELLO.decode(bodies[0]):
                case Farewell(reason=reason):
                    raise Unreachable(f"it says: {reason}", hint=_HINT)
            if len(bodies) < 2:
                raise Unreachable("it closed the connection", hint=_HINT)
            status = TO_CLIENT.decode(bodies[1])
    except TimeoutError:
        raise Unreachable(f"no answer within {timeout:g} s", hint=_HINT) from None
    except OSError as error:
        raise Unreachable(error.strerror or str(error), hint=_HINT) from None
    except Malformed as error:
        raise Unreachable(f"it does not speak our protocol: {error.message}", hint=_HINT) from None
    if not isinstance(status, NodeStatus):
        raise Unreachable("it answered another question", hint=_HINT)
    return status


def _connect(address: Address, timeout: float, tls: Tls | None) -> socket.socket:
    if isinstance(address, Path):
        return unix_socket.connect(address, timeout)
    plain = socket.create_connection(address, timeout)
    if tls is None:
        return plain
    try:
        return tls.calling().get().wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise


_HINT = "is it running, and is this its address?"
