"""What each error of kazoo means to us.

What this does not guarantee: that a request which failed did not act. Only an answer of the server
about the znode (:data:`ANSWERS`) says so.
"""

from __future__ import annotations

from kazoo import exceptions as client
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import ForceRetryError

from electctl.errors import (
    ConfigError,
    ElectctlError,
    LeadershipLost,
    Refused,
    Throttled,
    Unreachable,
)

#: Answers to be understood where the question was asked; nothing was changed.
ANSWERS: tuple[type[Exception], ...] = (
    client.NoNodeError,
    client.NodeExistsError,
    client.BadVersionError,
    client.NotEmptyError,
)

#: Everything that kazoo raises on purpose; its time-out does not descend from KazooException.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    client.KazooException,
    KazooTimeoutError,
    ForceRetryError,
    OSError,
)

_DENIED = (
    client.AuthFailedError,
    client.NoAuthError,
    client.SASLException,
    client.SessionClosedRequireSaslError,
    client.InvalidACLError,
)
_WRONG: dict[type[Exception], tuple[str, str]] = {
    client.NoChildrenForEphemeralsError: (
        "the election's path lies under an ephemeral znode, which can have no children",
        "choose another name",
    ),
    client.QuotaExceededError: ("a quota is used up", "raise it with setquota"),
    client.UnimplementedError: ("it does not know this request", "ZooKeeper 3.5 or newer"),
    client.EphemeralOnLocalSessionError: (
        "it allows no ephemeral znode on a local session",
        "set localSessionsUpgradingEnabled=true",
    ),
    client.BadArgumentsError: ("it takes our request for malformed", "is the path legal?"),
    client.MarshallingError: ("it cannot read our request", "ZooKeeper 3.5 or newer"),
    client.ConfigurationError: ("the client library refuses the settings", "check the URL"),
}


class SessionLost(Unreachable):
    """The session is over, and every ephemeral znode with it: a definite no for what it held."""


def translate(error: Exception, peer: str) -> ElectctlError:
    """Our error for one of kazoo's (or the operating system's) about the ensemble at ``peer``."""
    where = f"ZooKeeper at {peer}"
    if isinstance(error, client.SessionExpiredError | client.UnknownSessionError):
        return SessionLost(f"{where} has ended our session")
    if isinstance(error, _DENIED):
        return Refused(
            f"{where} refused us: {_DENIALS.get(type(error), 'our credentials are not accepted')}",
            hint="user:password@ in the URL or ELECTCTL_PASSWORD, and ?auth=digest or ?auth=sasl",
        )
    for kind, (cause, hint) in _WRONG.items():
        if isinstance(error, kind):
            return ConfigError(f"{where}: {cause}", hint=hint)
    if isinstance(error, KazooTimeoutError | client.OperationTimeoutError):
        return Unreachable(f"{where} did not answer in time", hint="is it running, with a quorum?")
    if isinstance(error, client.ConnectionLoss | client.ConnectionDropped):
        return Unreachable(f"{where}: the connection was lost", hint="is it running?")
    if isinstance(error, client.ThrottledOpError):
        return Throttled(f"{where} has more requests than it takes")
    if isinstance(error, client.NotReadOnlyCallError):
        return Unreachable(f"{where} has no quorum and takes no writes")
    if isinstance(error, OSError):
        return Unreachable(f"{where} cannot be reached: {_reason(error)}", hint="is it running?")
    if isinstance(error, ANSWERS):
        return LeadershipLost(f"{where}: a znode of ours was changed", reason="deleted")
    return Unreachable(f"{where}: {type(error).__name__}{_detail(error)}")


_DENIALS: dict[type[Exception], str] = {
    client.NoAuthError: "an ACL does not let us",
    client.InvalidACLError: "it does not take our ACL, which needs a user that it knows",
    client.SessionClosedRequireSaslError: "it demands SASL",
}


def _reason(error: OSError) -> str:
    return " ".join((error.strerror or str(error) or type(error).__name__).split())


def _detail(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f": {text}" if text else ""
