"""Names: an election's keys and channels, and what its value says of the holder.

What this does not guarantee: that another tool's value is never taken for ours. One that ends in a
colon and 32 hex digits would be.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from electctl.errors import UsageError

_OURS = re.compile(rb"(?s)(.*):([0-9a-f]{32})\Z")
_RESERVED = "electctl:{"


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


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys and channels of one election.

    The kind comes before the election's name and the name last, so no two elections share a key.
    A name with a "}" and no hash tag cannot be matched by any tag: its keys are distinct, but fall
    into another slot, which matters to a cluster only.
    """

    lock: bytes
    term: bytes
    waiting: bytes
    checkpoint: bytes
    #: What all channels begin with. Channels know no databases, so their names do.
    channels: bytes
    changes: bytes
    keyspace: bytes

    @classmethod
    def of(cls, election: str, db: int) -> Keys:
        """Raises UsageError for a name among which our own keys lie."""
        if election.startswith(_RESERVED):
            raise UsageError(
                f"an election's name must not begin with {_RESERVED}",
                hint="our own keys begin so; choose another name",
            )
        name = election.encode()
        tag = b"{" + hash_tag(name) + b"}:"
        own = b"electctl:" + tag
        channels = b"electctl:%d:" % db + tag
        return cls(
            lock=name,
            term=own + b"term:" + name,
            waiting=own + b"waiting:" + name,
            checkpoint=own + b"checkpoint:" + name,
            channels=channels,
            changes=channels + b"changes:" + name,
            keyspace=b"__keyspace@%d__:" % db + name,
        )

    @property
    def queue(self) -> tuple[bytes, bytes, bytes]:
        """The keys of the scripts that know who waits."""
        return self.lock, self.term, self.waiting

    def wake(self, nonce: bytes) -> bytes:
        """The channel of one waiter."""
        return self.channels + b"wake:" + nonce


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a value names. ``nonce`` is empty for a foreign tool's value."""

    id: str
    nonce: str

    @property
    def ours(self) -> bool:
        """Whether electctl wrote it."""
        return bool(self.nonce)


def new_nonce() -> bytes:
    """32 hex digits that no other attempt has."""
    return secrets.token_hex(16).encode()


def owner(value: bytes) -> Owner:
    """Read a lock's value, ours or a foreign tool's."""
    found = _OURS.match(value)
    if found is None:
        return Owner(value.decode("utf-8", "backslashreplace"), "")
    return Owner(found[1].decode("utf-8", "backslashreplace"), found[2].decode())
