"""The parts of requests to etcd's key-value API, and what is read out of the answers.

What this does not guarantee: that a request is sensible; it only builds it.
"""

from __future__ import annotations

from typing import Any

from electctl_etcd.keys import prefix_end
from electctl_etcd.rpc import pb


def created_at(key: bytes, revision: int) -> Any:
    """Compare: the key was created at that revision (0: it does not exist)."""
    return pb.Compare(
        key=key,
        target=pb.Compare.CREATE,
        result=pb.Compare.EQUAL,
        create_revision=revision,
    )


def none_under(start: bytes) -> Any:
    """Compare: there is no key under a prefix."""
    return pb.Compare(
        key=start,
        range_end=prefix_end(start),
        target=pb.Compare.CREATE,
        result=pb.Compare.EQUAL,
        create_revision=0,
    )


def some_under(start: bytes) -> Any:
    """Compare: there is a key under a prefix."""
    return pb.Compare(
        key=start,
        range_end=prefix_end(start),
        target=pb.Compare.CREATE,
        result=pb.Compare.GREATER,
        create_revision=0,
    )


def unchanged_under(start: bytes, revision: int) -> Any:
    """Compare: no key under a prefix was written after that revision."""
    return pb.Compare(
        key=start,
        range_end=prefix_end(start),
        target=pb.Compare.MOD,
        result=pb.Compare.LESS,
        mod_revision=revision + 1,
    )


def delete_under(start: bytes) -> Any:
    """Delete all keys under a prefix."""
    return pb.RequestOp(
        request_delete_range=pb.DeleteRangeRequest(key=start, range_end=prefix_end(start))
    )


def value_below(key: bytes, value: bytes) -> Any:
    """Compare: the key exists and its value sorts below ``value``."""
    return pb.Compare(key=key, target=pb.Compare.VALUE, result=pb.Compare.LESS, value=value)


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    """Write a key."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> Any:
    """Read a key."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))


def delete(key: bytes) -> Any:
    """Delete a key."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def newest(start: bytes, limit: int, *, below: int = 0) -> Any:
    """Read the ``limit`` keys under a prefix that were created last, before revision ``below``."""
    return pb.RequestOp(
        request_range=pb.RangeRequest(
            key=start,
            range_end=prefix_end(start),
            limit=limit,
            keys_only=True,
            sort_order=pb.RangeRequest.DESCEND,
            sort_target=pb.RangeRequest.CREATE,
            max_create_revision=below - 1 if below else 0,
        )
    )


def nested(compare: list[Any], success: list[Any], failure: list[Any]) -> Any:
    """A transaction within a transaction (etcd 3.3 and newer)."""
    return pb.RequestOp(request_txn=txn(compare, success, failure))


def txn(
    compare: list[Any] | None = None,
    success: list[Any] | None = None,
    failure: list[Any] | None = None,
) -> Any:
    """All of ``success`` if every comparison holds, else all of ``failure``, in one step."""
    return pb.TxnRequest(compare=compare or [], success=success or [], failure=failure or [])


def everything(start: bytes) -> Any:
    """Read all keys under a prefix."""
    return pb.RangeRequest(key=start, range_end=prefix_end(start))


def watch(key: bytes, revision: int, *, end: bytes = b"", deletes_only: bool = False) -> Any:
    """Follow a key, or the keys from ``key`` up to ``end``, from ``revision`` on."""
    return pb.WatchRequest(
        create_request=pb.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=revision,
            filters=[pb.WatchCreateRequest.NOPUT] if deletes_only else [],
        )
    )


def found(operation: Any) -> list[Any]:
    """The keys that a range within a transaction found."""
    return list(operation.response_range.kvs)
