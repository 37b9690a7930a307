"""The keys of one election, exactly as ``etcdctl lock`` and ``etcdctl elect`` write them.

A candidate's key is ``<election>/`` and the id of its lease in lower-case hex without padding; its
value is the candidate's id, empty for ``etcdctl lock`` (etcd 3.4.23, clientv3/concurrency/key.go,
election.go and mutex.go).

Our own keys lie under ``electctl.io/``, which no election may be named after, so that a native tool
never takes one of them for a candidate.

What this does not guarantee: that a foreign lease never looks like ours (:func:`ours`); a wrong
guess makes an eviction wait in vain, and nothing else.
"""

from __future__ import annotations

import re
import secrets
from urllib.parse import quote, unquote

from electctl.contract.naming import Naming

ROOT = "electctl.io"
#: A name is the beginning of keys, byte for byte: ``/a``, ``a`` and ``a/`` are three for etcdctl.
NAMING = Naming(reserved=(f"{ROOT}/",))
_HEX = re.compile(rb"(?:0|[1-9a-f][0-9a-f]*)\Z")
# The first of the 16 hex digits of a lease id that we choose; the rest is random. A server's own
# choice begins with 16 bits of its member's id and then milliseconds since 1970 modulo 2**40
# (etcd pkg/idutil): one member in 32,768 could make ours, for fifty days from December 2031.
_MARK = 0x0E1EC7
_RANDOM_BITS = 40


def new_lease_id() -> int:
    """A lease id that has never been used, and that :func:`ours` knows.

    It is chosen here and not by the server, so that a grant whose answer was lost can be revoked.
    """
    return _MARK << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)


def ours(lease: int) -> bool:
    """Whether a lease was made by electctl, whose candidates look for an eviction mark."""
    return lease >> _RANDOM_BITS == _MARK


def prefix(election: str) -> bytes:
    """What the keys of all candidates begin with."""
    return election.encode() + b"/"


def prefix_end(start: bytes) -> bytes:
    """The end of the range of all keys that begin with ``start``, which ends with a slash."""
    return start[:-1] + bytes([start[-1] + 1])


def candidate_key(election: str, lease: int) -> bytes:
    """The key of the candidate that holds ``lease``."""
    return prefix(election) + f"{lease:x}".encode()


def is_candidate(key: bytes, start: bytes) -> bool:
    """Whether ``key`` is a candidate of the election with prefix ``start``, not of a nested name.

    ``jobs/`` is also the beginning of ``jobs/nightly/694d…``. Native tools count such a key as a
    candidate of ``jobs``; we do not.
    """
    return key.startswith(start) and _HEX.match(key, len(start)) is not None


def nested_note(key: bytes, election: str) -> str:
    """What people should know of a key that is among the candidates and is none of ours."""
    return (
        f"the key {decode_id(key)!r} lies within election {election!r}: native tools take it for a "
        "candidate of this election, electctl does not"
    )


def own_prefix(election: str) -> bytes:
    """What our own keys of an election begin with."""
    return f"{ROOT}/{quote(election, safe='')}/".encode()


def own_election(key: bytes) -> str | None:
    """The election that one of our own keys belongs to."""
    root, _, rest = key.decode(errors="replace").partition("/")
    name, slash, _ = rest.partition("/")
    return unquote(name) if root == ROOT and slash else None


def checkpoints(election: str) -> bytes:
    """What the keys of all its checkpoints begin with."""
    return own_prefix(election) + b"checkpoint/"


def used_key(election: str) -> bytes:
    """Where it is noted when the election was used last, if it has a checkpoint."""
    return own_prefix(election) + b"used"


def eviction_key(election: str) -> bytes:
    """Where the request to stop is left. It names one term."""
    return f"{ROOT}/{quote(election, safe='')}/evict".encode()


def checkpoint_key(election: str, slot: str) -> bytes:
    """Where the guarded checkpoint of a slot is."""
    name = quote(election, safe="")
    return f"{ROOT}/{name}/checkpoint/{quote(slot, safe='')}".encode()


def term_mark(key: bytes, revision: int) -> bytes:
    """What an eviction mark says: the holder's key and create revision."""
    return key + b" %d" % revision


def decode_id(value: bytes) -> str:
    """A candidate's id as text; a foreign tool may have written any bytes."""
    return value.decode(errors="backslashreplace")
