"""The guarded checkpoint: a value with the term and sequence that wrote it, and its transaction.

What this does not guarantee: that a value outlives a backup that is restored.

The value in the store is one line, ``<token> <seq>`` in twenty digits each, and then the bytes
given. Of fixed width, the lines sort as the pairs do, so that one comparison of values tells an
older write from a newer one.
"""

from __future__ import annotations

from typing import Any

from electctl_etcd import requests


def _stamp(token: int, seq: int) -> bytes:
    return b"%020d %020d\n" % (token, seq)


def write(holder: bytes, token: int, target: bytes, seq: int, value: bytes, *also: Any) -> Any:
    """A transaction: if ``holder`` was created at ``token``, and ``target`` is not newer than
    (``token``, ``seq``), write ``value`` there and do what ``also`` says; else change nothing.
    Bears repeating.
    """
    put = [requests.put(target, _stamp(token, seq) + value)]
    replace = requests.nested([requests.value_below(target, _stamp(token, seq + 1))], put, [])
    return requests.txn(
        [requests.created_at(holder, token)],
        [requests.nested([requests.created_at(target, 0)], put, [replace]), *also],
    )


def read(stored: bytes) -> bytes:
    """The bytes that were given."""
    return stored.partition(b"\n")[2]
