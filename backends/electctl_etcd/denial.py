"""Which keys a request wanted that etcd denied: its own words name none.

What this does not guarantee: that all of them are denied; etcd says only that one of them is.
"""

from __future__ import annotations

from typing import Any

from electctl.errors import ElectctlError, Refused
from electctl_etcd.keys import decode_id
from electctl_etcd.rpc import pb


def explained(error: ElectctlError, request: Any, user: str | None) -> ElectctlError:
    """The same error, with the keys, the right and the user where a permission is missing."""
    keys = list(dict.fromkeys(map(decode_id, _keys(request))))
    if not (isinstance(error, Refused) and "permission denied" in error.message and keys):
        return error
    right = "read" if isinstance(request, pb.RangeRequest) else "readwrite"
    return Refused(
        f"{error.message} (the user {user!r} needs {right} on {', '.join(keys)})", hint=error.hint
    )


def _keys(request: Any) -> list[bytes]:
    if isinstance(request, pb.RangeRequest):
        return [request.key]
    if not isinstance(request, pb.TxnRequest):
        return []
    steps = (*request.success, *request.failure)
    acts = [getattr(step, step.WhichOneof("request")) for step in steps]
    return [one.key for one in (*request.compare, *acts) if hasattr(one, "key")]
