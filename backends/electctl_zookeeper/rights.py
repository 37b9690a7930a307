"""Who may do what: the ACL of what we create, and which right a refused request lacks.

What this does not guarantee: that an ACL which was read is still that of the znode when something
is created in it. Nor that every entry of it is known: the server hides the digests of others from
who may not administer a znode, and what is hidden cannot be passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kazoo.exceptions import NoAuthError
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Delete,
    GetACL,
    GetChildren,
    GetData,
    SetData,
    Transaction,
)
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, make_acl

from electctl.errors import Refused
from electctl_zookeeper.target import Target

#: What stands in place of a digest that is hidden (``GetACLRequest``, ZOOKEEPER-1392).
_HIDDEN = ":x"


def inherited(above: list[Any]) -> list[Any]:
    """The ACL of what a user creates below a znode with that one.

    Open below what is open; else the same as above, and everything for its creator.
    """
    if any(entry in above for entry in OPEN_ACL_UNSAFE):
        return list(OPEN_ACL_UNSAFE)
    return [*CREATOR_ALL_ACL, *(entry for entry in above if not entry.id.id.endswith(_HIDDEN))]


def for_all_to_create(acl: list[Any]) -> list[Any]:
    """That ACL, and whoever comes may look, and make what is their own."""
    if any(entry in acl for entry in OPEN_ACL_UNSAFE):
        return acl
    return [*acl, make_acl("world", "anyone", read=True, create=True)]


def check(request: Any, result: Any, target: Target) -> None:
    """Raise Refused if the server refused ``request``, or a step of it, for want of a right."""
    if isinstance(result, NoAuthError):
        raise _refusal(request, target)
    if isinstance(request, Transaction) and isinstance(result, list):
        for step, outcome in zip(request.operations, result, strict=False):
            check(step, outcome, target)


def _refusal(request: Any, target: Target) -> Refused:
    who = "nobody is logged in" if target.user is None else f"the user is {target.user!r}"
    where = f"ZooKeeper at {target.peer} refused us"
    lacking = next(_lacking(request), None)
    if lacking is None:
        return Refused(f"{where}: an ACL does not let us ({who})", hint="getAcl shows who may")
    right, path = lacking
    digest = target.user is not None and target.auth == "digest"
    return Refused(
        f"{where}: the ACL of {path} gives no right to {right} ({who})",
        hint=f"getAcl {path} shows who may, setAcl changes it; or user:password@ in the URL"
        + ("; with ?auth=digest another password is another user" if digest else ""),
    )


def _lacking(request: Any) -> Iterator[tuple[str, str]]:
    """The right and the znode (ZooKeeper 3.8: PrepRequestProcessor, FinalRequestProcessor)."""
    if isinstance(request, Create | Delete):
        above = request.path.rpartition("/")[0] or "/"
        yield ("create" if isinstance(request, Create) else "delete"), above
    elif isinstance(request, SetData):
        yield "write", request.path
    elif isinstance(request, CheckVersion | GetACL | GetChildren | GetData):
        yield "read", request.path
