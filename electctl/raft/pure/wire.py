"""What goes over a connection to a node: greetings, then messages, in frames. Sans-I/O.

What this does not guarantee: that the far end is who it says; without TLS nothing here proves it.
Nor that a frame arrives: a connection may break at any byte.

A frame is the length of its body (4 bytes, big-endian), and the body: the version of this protocol
(1 byte) and one dataclass in the JSON of :mod:`electctl.raft.pure.codec`.

Whoever connects greets first, with :class:`ClientHello` or :class:`PeerHello`, and is answered with
:class:`Welcome`, or :class:`Farewell` and the end. A client need not wait for the answer, a peer
must. From then on a client sends :data:`FROM_CLIENT` and gets :data:`TO_CLIENT`; a peer sends
:data:`FROM_PEER` and gets nothing: each node sends its own messages over its own connection.
"""

from __future__ import annotations

from msgspec import Struct

from electctl.raft.pure.codec import Decoder, Malformed, encode
from electctl.raft.pure.messages import Message
from electctl.raft.pure.requests import Request, Told

VERSION = 2
#: Bytes that the body of a frame may have: of a first frame, of one from or to a client, and of one
#: from a peer, which may be a snapshot.
HELLO_LIMIT = 64 << 10
CLIENT_LIMIT = 2 << 20
PEER_LIMIT = 64 << 20
#: Characters that the name of a client may have.
NAME_LIMIT = 200
_HEAD = 4


# Greetings ---------------------------------------------------------------------------------------


class ClientHello(Struct, frozen=True):
    """A client. Answers go to the connection that greeted last under ``name``; it must be unique.

    A client that connects again keeps its name, so that what it asked before finds it.
    """

    name: str


class PeerHello(Struct, frozen=True):
    """Node ``number`` of ``voters`` looks for node ``to``.

    ``store`` names its store for as long as that lives, so that a node that lost its store, or one
    of another cluster, is not taken for the one it says it is.
    """

    number: int
    to: int
    voters: tuple[int, ...]
    store: str


class Welcome(Struct, frozen=True):
    """This is node ``number`` of ``voters``."""

    number: int
    voters: tuple[int, ...]
    store: str


class Farewell(Struct, frozen=True):
    """We do not talk to you. The connection is closed after it."""

    reason: str


# Status ------------------------------------------------------------------------------------------


class StatusAsked(Struct, frozen=True):
    """How is this node? Every node answers for itself, whether or not it has a leader."""

    id: int


class NodeStatus(Struct, frozen=True):
    """The answer. Indices are of the log; what it says of others is hearsay.

    ``ready``: it leads and has applied an entry of its own term. ``reached``: the other nodes to
    which it has a connection.
    """

    id: int
    number: int
    voters: tuple[int, ...]
    role: str
    term: int
    leader: int | None
    ready: bool
    commit: int
    applied: int
    last_index: int
    snapshot_index: int
    sessions: int
    elections: int
    reached: tuple[int, ...]


HELLO = Decoder(ClientHello | PeerHello)
REPLY_TO_HELLO = Decoder(Welcome | Farewell)
FROM_CLIENT = Decoder(Request | StatusAsked)
TO_CLIENT = Decoder(Told | NodeStatus)
FROM_PEER = Decoder(Message)


# Frames ------------------------------------------------------------------------------------------


def frame(value: object) -> bytes:
    """One dataclass as a frame. Whether the receiver takes one so large is not checked."""
    body = encode(value)
    return (len(body) + 1).to_bytes(_HEAD, "big") + bytes((VERSION,)) + body


class Framer:
    """Cuts a stream of bytes into bodies. Keeps no more than one unfinished frame.

    ``limit`` is for the length of a body, ``first`` for that of the first one if it differs. The
    limit may be changed between two calls.
    """

    def __init__(self, limit: int, first: int | None = None) -> None:
        self.limit = limit
        self._first = limit if first is None else first
        self._begun = False
        self._buffer = bytearray()

    @property
    def kept(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what was received; return the bodies that it completes, without the version.

        Raises Malformed on a frame that is too long or empty, before the rest of it is kept, or is
        of another version. After that the stream makes no sense any more.
        """
        buffer = self._buffer
        buffer += data
        bodies = []
        start = 0
        while len(buffer) - start > _HEAD:
            length = int.from_bytes(buffer[start : start + _HEAD], "big")
            self._check(length, buffer[start + _HEAD])
            end = start + _HEAD + length
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[start + _HEAD + 1 : end]))
            start = end
            self._begun = True
        del buffer[:start]
        return bodies

    def _check(self, length: int, version: int) -> None:
        limit = self.limit if self._begun else self._first
        if not 0 < length <= limit:
            raise Malformed(f"a frame of {length} bytes where 1 to {limit} are allowed")
        if version != VERSION:
            raise Malformed(f"version {version} of the protocol; this is version {VERSION}")
