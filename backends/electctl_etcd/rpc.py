"""The only place that imports gRPC, and what each of its errors means to electctl.

What this does not guarantee: that gRPC stays silent where the program has imported it before us.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from electctl.errors import (
    ConfigError,
    ElectctlError,
    Inconclusive,
    LeadershipLost,
    OutcomeUnknown,
    Refused,
    Throttled,
    Unreachable,
    UsageError,
)
from electctl_etcd.protocol import Protocol

#: What gRPC's core takes from the environment when it is imported. It would print its own account
#: of every broken connection on stderr; and it would look names up by itself, past nsswitch.conf,
#: with one address of those that the hosts file has.
_SETTINGS = {"GRPC_VERBOSITY": "NONE", "GRPC_DNS_RESOLVER": "native"}


@contextmanager
def _settings() -> Iterator[None]:
    """These, but for what the user chose; commands that we start must not get them of us."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


with _settings():
    import grpc as grpc

#: etcd's messages and calls.
pb = Protocol()


class Silent(Unreachable):
    """No answer came in time; if nothing else did either, the connection may be dead."""


class Compacted(OutcomeUnknown):
    """The history that a watch was to start from is gone: read again, and watch from there."""


class WatchBroken(Unreachable):
    """The stream of a watch broke off; another member may carry it on."""


class LeaseExists(OutcomeUnknown):
    """A lease of that id was made before."""


#: etcd's ways to say that a request came with no credentials, or with ones that it does not take
#: (etcdserver/api/v3rpc/rpctypes/error.go); most of them come as INVALID_ARGUMENT.
_REFUSALS = (
    "authentication failed",
    "invalid auth token",
    "invalid auth management",
    "permission denied",
    "revision of auth store is old",
    "user name is empty",
    "user name not found",
)
_STALE_TOKEN = ("invalid auth token", "revision of auth store is old")
_TOO_LARGE = ("request is too large", "message larger than max")
_NO_SPACE = "database space exceeded"
#: What gRPC's core puts before the cause of a failed connection.
_PREAMBLE = re.compile(r"\A.*last error: (?:[A-Z_]+: )?(?:ipv[46]:\S+: )?")


def is_stale_token(error: Any) -> bool:
    """Whether the server refused a request because its token has expired or is of older rules."""
    text = error.details() or ""
    return error.code() == grpc.StatusCode.UNAUTHENTICATED or any(
        part in text for part in _STALE_TOKEN
    )


def is_auth_disabled(error: Any) -> bool:
    """Whether a login failed because the cluster asks nobody for credentials."""
    return "authentication is not enabled" in (error.details() or "")


def translate(error: Any, endpoint: str, *, trusted: str = "") -> ElectctlError:
    """What an RpcError means. Every gRPC status has its answer here.

    Unreachable stands for all of those that another member, or the same one later, may answer
    otherwise; it says nothing about whether the request acted.
    """
    return describe(error.code(), error.details() or "", endpoint, trusted=trusted)


def describe(code: Any, details: str, endpoint: str, *, trusted: str = "") -> ElectctlError:
    """The error for a status and its text. Raises nothing."""
    status = grpc.StatusCode
    cause = _PREAMBLE.sub("", " ".join(details.split())) or code.name
    said = f"etcd at {endpoint} says: {cause}"
    if code in (status.UNAUTHENTICATED, status.PERMISSION_DENIED) or any(
        part in details for part in _REFUSALS
    ):
        return Refused(
            said,
            hint="the role needs readwrite on the prefixes <election>/ and electctl.io/"
            if "permission denied" in details
            else "etcd://user:password@host:port, or ELECTCTL_PASSWORD",
        )
    if any(part in details for part in _TOO_LARGE):
        return UsageError(said, hint="etcd takes 1.5 MB at once by default; store less")
    if _NO_SPACE in details:
        return Unreachable(said, hint="compact, defragment, and etcdctl alarm disarm")
    if code == status.INVALID_ARGUMENT:
        return UsageError(said, hint="is it etcd 3.4 or newer?")
    if "lease already exists" in details:
        return LeaseExists(said)
    if code == status.NOT_FOUND:
        return LeadershipLost(said, reason="deleted")
    if code == status.OUT_OF_RANGE:
        return Compacted(said)
    if code == status.UNIMPLEMENTED:
        return ConfigError(said, hint="is it an etcd with the v3 API, and its client port?")
    if code == status.DEADLINE_EXCEEDED:
        return Silent(f"etcd at {endpoint} did not answer in time", hint=_hint(trusted))
    if "too many requests" in details:
        # Said before a request is proposed (v3_server.go, processInternalRaftRequestOnce).
        return Throttled(said, hint="its members cannot keep up; etcdctl endpoint status")
    if code in (status.UNAVAILABLE, status.RESOURCE_EXHAUSTED, status.FAILED_PRECONDITION):
        return Unreachable(f"etcd at {endpoint}: {cause}", hint=_hint(trusted))
    if code in (status.CANCELLED, status.ABORTED, status.INTERNAL, status.UNKNOWN):
        return Unreachable(f"etcd at {endpoint} broke off: {cause}", hint=_hint(trusted))
    if code == status.DATA_LOSS:
        return Inconclusive(said, hint="etcdctl endpoint health and alarm list tell more")
    return OutcomeUnknown(said, hint="the server's log tells more")


def _hint(trusted: str) -> str:
    if trusted:
        return f"is it running, does it ask for ?cert= and ?key=, is it trusted? {trusted}"
    return "is it running, and does it want etcds://?"
