"""Names: an election's keys and channels, and what its value says of the holder.

What this does not guarantee: that another tool's value is never taken for ours. One that ends in a
colon and 32 hex digits would be.
"""

from __future__ import annotations

import json
import re
import secrets
from binascii import crc_hqx
from dataclasses import dataclass
from functools import cache

from electctl.contract.naming import Naming
from electctl.errors import UsageError

_OURS = re.compile(rb"(?s)(.*):([0-9a-f]{32})\Z")
#: A key is a key, and each spelling another. Our own keys begin so.
NAMING = Naming(reserved=("electctl:{",))
#: Of a cluster.
SLOTS = 16384


def hash_tag(name: bytes) -> bytes:
    """What Redis Cluster hashes of a key: the text in its first braces, unless that is empty.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    start = name.find(b"{")
    if start >= 0:
        end = name.find(b"}", start + 1)
        if end > start + 1:
            return name[start + 1 : end]
    return name


def slot_of(key: bytes) -> int:
    """The hash slot of a key in a cluster: CRC16 (XMODEM) of its hash tag.

    Source: the same, #key-distribution-model
    """
    return crc_hqx(hash_tag(key), 0) % SLOTS


def slot_tag(slot: int) -> bytes:
    """Four letters that fall into a slot: the same four for the same slot, always."""
    # CRC is linear: flipping a bit of a text of fixed length flips the same bits of its CRC. So
    # which of the 16 bits of four letters to flip is found as in solving linear equations.
    bits, rest = 0, slot ^ slot_of(_letters(0))
    for flipped, by in _flips():
        if rest ^ flipped < rest:
            rest, bits = rest ^ flipped, bits ^ by
    return _letters(bits)


def _letters(bits: int) -> bytes:
    """Four of "@" to "O", one for each four bits."""
    return bytes(ord("@") | bits >> shift & 15 for shift in (12, 8, 4, 0))


@cache
def _flips() -> tuple[tuple[int, int], ...]:
    """Pairs: bits of the slot, and the bits of the letters that flip exactly these.

    The highest bit of each first is in no later one, so taking them in order leaves no rest.
    """
    found: list[tuple[int, int]] = []
    for place in range(16):
        bits = 1 << place
        rest = slot_of(_letters(bits)) ^ slot_of(_letters(0))
        for flipped, by in found:
            if rest ^ flipped < rest:
                rest, bits = rest ^ flipped, bits ^ by
        if rest:
            found.append((rest, bits))
    return tuple(found)


def _tag(name: bytes) -> bytes:
    """A hash tag for keys that are to be in a name's slot: its own, if that can stand in braces."""
    own = hash_tag(name)
    return slot_tag(slot_of(name)) if b"}" in own else own


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys and channels of one election, all in one slot of a cluster.

    The kind comes before the election's name and the name last, so no two elections share a key.
    """

    lock: bytes
    term: bytes
    waiting: bytes
    checkpoint: bytes
    #: The greatest token of any counter in this slot that was swept from a cluster.
    floor: bytes
    #: What all channels begin with. Channels know no databases, so their names do.
    channels: bytes
    changes: bytes
    keyspace: bytes

    @classmethod
    def of(cls, election: str, db: int) -> Keys:
        """The keys of that canonical name."""
        name = election.encode()
        tag = b"{" + _tag(name) + b"}:"
        own = b"electctl:" + tag
        channels = b"electctl:%d:" % db + tag
        return cls(
            lock=name,
            term=own + b"term:" + name,
            waiting=own + b"waiting:" + name,
            checkpoint=own + b"checkpoint:" + name,
            floor=b"electctl:{" + slot_tag(slot_of(name)) + b"}:tokens",
            channels=channels,
            changes=channels + b"changes:" + name,
            keyspace=b"__keyspace@%d__:" % db + name,
        )

    @property
    def queue(self) -> tuple[bytes, bytes, bytes]:
        """The keys of the scripts that know who waits; the first says where they are run."""
        return self.lock, self.term, self.waiting

    def wake(self, nonce: bytes) -> bytes:
        """The channel of one waiter."""
        return self.channels + b"wake:" + nonce


def election_of(key: bytes) -> bytes | None:
    """The election that one of our own keys belongs to; None for any other key."""
    for kind in (b"term:", b"checkpoint:"):
        before, found, name = key.partition(b"}:" + kind)
        if found and before + b"}:" == b"electctl:{" + _tag(name) + b"}:":
            return name
    return None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a value names. ``nonce`` is empty for a foreign tool's value."""

    id: str
    nonce: str

    @property
    def ours(self) -> bool:
        """Whether electctl wrote it."""
        return bool(self.nonce)


@dataclass(frozen=True, slots=True)
class Claim:
    """One grant: the election, and the value that its lock has as long as the grant stands."""

    election: str
    value: bytes

    def pack(self) -> str:
        """As a text."""
        return json.dumps([self.election, self.value.decode()])

    @classmethod
    def unpack(cls, text: str) -> Claim:
        """Read what :meth:`pack` made. Raises UsageError."""
        try:
            election, value = json.loads(text)
            claim = cls(str(election), str(value).encode())
        except (ValueError, TypeError):
            claim = cls("", b"")
        if not owner(claim.value).ours:
            raise UsageError("this is no receipt of a grant on Redis")
        return claim


def new_nonce() -> bytes:
    """32 hex digits that no other attempt has."""
    return secrets.token_hex(16).encode()


def owner(value: bytes) -> Owner:
    """Read a lock's value, ours or a foreign tool's."""
    found = _OURS.match(value)
    if found is None:
        return Owner(value.decode("utf-8", "backslashreplace"), "")
    return Owner(found[1].decode("utf-8", "backslashreplace"), found[2].decode())
