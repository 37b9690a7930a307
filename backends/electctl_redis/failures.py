"""What each error of redis-py means to us.

What this does not guarantee: that a request which failed did not act. Only an answer says so.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from redis import exceptions as client

from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable

if TYPE_CHECKING:
    from electctl_redis.target import Address

#: Everything that redis-py raises on purpose; some of it does not descend from RedisError.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    client.RedisError,
    client.RedisClusterException,
    client.ChildDeadlockedError,
    OSError,
    *((client.IncorrectPolicyType,) if hasattr(client, "IncorrectPolicyType") else ()),
)

#: What an ACL must allow, with ``<election>`` for the names of elections.
NEEDED_RIGHTS = (
    "~<election> ~electctl:{* &electctl:* &__keyspace@* +evalsha +eval +get +set +del +pttl "
    "+pexpire +time +hincrby +hset +hget +hmget +zadd +zrem +zrange +zrangebyscore "
    "+zremrangebyscore +publish +subscribe +select +role +asking +readwrite"
)


class Elsewhere(Exception):
    """Nothing was done: the server names another that has the key.

    ``asking``: for this one request, because the key's slot is moving there. ``error`` is what it
    comes to where nobody follows.
    """

    def __init__(self, place: Address, asking: bool, error: ElectctlError) -> None:
        super().__init__(error.message)
        self.place = place
        self.asking = asking
        self.error = error


#: The server's own error codes: what they mean, and what to do.
_PASSING = {
    "LOADING": "it is loading its data",
    "READONLY": "it is a replica, and a replica takes no writes",
    "MASTERDOWN": "it is a replica without its primary",
    "CLUSTERDOWN": "its cluster is down",
    "TRYAGAIN": "its cluster is moving keys",
    "OOM": "it is out of memory and takes no writes",
    "MISCONF": "it cannot save to disk and takes no writes",
    "NOREPLICAS": "it has too few replicas to take writes",
    "BUSY": "it is busy with a script",
    "UNKILLABLE": "it is busy with a script",
    "UNBLOCKED": "it changed its role",
}
_DENIED = {
    "NOAUTH": "it wants a password",
    "WRONGPASS": "it does not know this user with this password",
    "NOPERM": "the user lacks a permission",
    "DENIED": "it refuses connections from here",
}
_WRONG = {
    "WRONGTYPE": (
        "the election's key holds something that is no string",
        "another program uses this name; choose another name or another database",
    ),
    "MOVED": (
        "it is a node of a Redis Cluster, and another has the election's key",
        "redis+cluster://host:port,… follows it there; Sentinels do not watch over a cluster",
    ),
    "ASK": (
        "it is a node of a Redis Cluster, and the election's key is moving to another",
        "redis+cluster://host:port,… follows it there; Sentinels do not watch over a cluster",
    ),
    "CROSSSLOT": (
        "it takes the election's keys for keys of several slots of its cluster",
        "is something between us and it that renames keys?",
    ),
}
_SERVES_NOBODY = {"LOADING", "MASTERDOWN", "CLUSTERDOWN"}
_CODES = _PASSING.keys() | _DENIED.keys() | _WRONG.keys()
#: A code at the start, or (before Redis 7) inside "Error running script (…): -CODE …".
_CODE = re.compile(rf"(?:^|-|\s)({'|'.join(sorted(_CODES))})\b")
#: Who has not logged in may not even ask with more than ten arguments.
_TOO_LONG_FOR_A_STRANGER = "unauthenticated multibulk length"
_CLASS_CODES: tuple[tuple[type[Exception], str], ...] = (
    (client.BusyLoadingError, "LOADING"),
    (client.ReadOnlyError, "READONLY"),
    (client.MasterDownError, "MASTERDOWN"),
    (client.ClusterDownError, "CLUSTERDOWN"),
    (client.TryAgainError, "TRYAGAIN"),
    (client.OutOfMemoryError, "OOM"),
    (client.NoPermissionError, "NOPERM"),
    (client.MovedError, "MOVED"),
    (client.AskError, "ASK"),
    (client.ClusterCrossSlotError, "CROSSSLOT"),
)
_ACCESS = (
    client.AuthenticationError,
    client.AuthorizationError,
    client.AuthenticationWrongNumberOfArgsError,
)
#: TLS alerts by which a server rejects *our* certificate or the lack of one (RFC 8446, 6.2).
_CLIENT_CERT = re.compile(
    "CERTIFICATE_REQUIRED|ALERT_(BAD|UNKNOWN|EXPIRED|REVOKED|UNSUPPORTED)_?CERT|ALERT_UNKNOWN_CA"
    "|ALERT_CERTIFICATE|ALERT_ACCESS_DENIED|ALERT_HANDSHAKE_FAILURE",
    re.IGNORECASE,
)


def wanted(command: Sequence[object], user: str | None) -> str:
    """What a user asked for, for people: the command, and its keys or its channel; no values."""
    name, *rest = command or ("",)
    if name in ("EVALSHA", "EVAL"):
        places = rest[2 : 2 + int(str(rest[1]))]
    else:
        places = [one for one in rest[:1] if isinstance(one, bytes)]
    shown = ", ".join(
        one.decode("utf-8", "backslashreplace") if isinstance(one, bytes) else str(one)
        for one in places
    )
    who = f"the user {user or 'default'!r}"
    return f"{who} needs {name} on {shown}" if shown else f"{who} needs {name}"


def translate(error: Exception, peer: str, *, whom: str = "", wanted: str = "") -> ElectctlError:
    """Our error for one of redis-py's (or the operating system's) about the server at ``peer``.

    For people, ``whom`` says which authorities we trust, and ``wanted`` what was asked for where a
    permission is missing.
    """
    where = f"Redis at {peer}"
    text = _one_line(str(error))
    tls = _tls_cause(error)
    if tls is not None:
        return _of_tls(tls, where, whom)
    code = _code(error, text)
    if code in _DENIED or isinstance(error, _ACCESS):
        return _denied(code, where, text, wanted)
    if code in _PASSING:
        return Unreachable(f"{where} cannot serve now: {_PASSING[code]}")
    if code in _WRONG:
        cause, hint = _WRONG[code]
        return ConfigError(f"{where}: {cause}", hint=hint)
    if "max number of clients reached" in text:
        return Unreachable(
            f"{where} takes no more clients",
            hint="raise its maxclients (10000 by default, less where its open files are limited)",
        )
    if isinstance(error, client.TimeoutError | TimeoutError):
        return Unreachable(f"{where} did not answer in time", hint="is it running, and reachable?")
    if isinstance(error, client.ConnectionError | OSError):
        system = _system_error(error)
        hint = "is the name right?" if isinstance(system, socket.gaierror) else "is it running?"
        cause = text if system is None else system.strerror or text
        return Unreachable(f"{where} cannot be reached: {cause}", hint=hint)
    if isinstance(error, client.ResponseError):
        return _answered(where, text)
    return Unreachable(f"{where}: {type(error).__name__}: {text}")


def serves_nobody(error: BaseException | None) -> bool:
    """Whether a server has answered that it serves nobody now, whatever is asked."""
    return isinstance(error, Exception) and _code(error, _one_line(str(error))) in _SERVES_NOBODY


def _system_error(error: BaseException) -> OSError | None:
    """The system's own error, which the client wraps into more; None if there is none in it."""
    found = (e for e in _and_its_causes(error) if isinstance(e, OSError) and e.strerror)
    return next(found, None)


def _answered(where: str, text: str) -> ElectctlError:
    lowered = text.lower()
    if "db index" in lowered:
        return ConfigError(f"{where} has no such database", hint="the URL's path is its number")
    if "select is not allowed" in lowered:
        return ConfigError(
            f"{where} is a node of a Redis Cluster, which has no databases but 0",
            hint="leave the number out of the URL's path",
        )
    if "cluster support disabled" in lowered:
        return ConfigError(
            f"{where} is no node of a Redis Cluster", hint="redis:// names a server by itself"
        )
    if "unknown command" in lowered:
        return ConfigError(f"{where}: {text}", hint="Redis 5 or newer is needed, with EVALSHA")
    # A script that was let in, and met a cluster that is down, or keys that had moved on.
    if "script attempted to" in lowered:
        return Unreachable(
            f"{where}: {text}", hint="is a fail-over, or a move of slots, under way?"
        )
    return ConfigError(f"{where} refused a command: {text}")


def _denied(code: str, where: str, text: str, wanted: str) -> Refused:
    if code == "NOPERM":
        return Refused(
            f"{where} refused us: {text or _DENIED[code]}{f' ({wanted})' if wanted else ''}",
            hint=f"ACL SETUSER … {NEEDED_RIGHTS}",
        )
    reason = _DENIED.get(code, text)
    return Refused(
        f"{where} refused us: {reason}",
        hint="name the user and the password in the URL; or the password in ELECTCTL_PASSWORD or "
        "?password_file=",
    )


def _of_tls(error: ssl.SSLError, where: str, whom: str) -> ElectctlError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{where}: its certificate is not accepted: {error.verify_message}",
            hint=whom,
        )
    reason = getattr(error, "reason", None) or _one_line(str(error))
    if _CLIENT_CERT.search(reason):
        return Refused(f"{where} rejects our TLS certificate: {reason}", hint="?cert=FILE&key=FILE")
    return Unreachable(f"{where}: TLS failed: {reason}", hint="does it speak TLS on this port?")


def _tls_cause(error: BaseException) -> ssl.SSLError | None:
    # redis-py raises its ConnectionError while it handles the cause, and keeps only its text.
    causes = _and_its_causes(error)
    found = (e for e in causes if isinstance(e, ssl.SSLError) and not isinstance(e, TimeoutError))
    return next(found, None)


def _and_its_causes(error: BaseException) -> Iterator[BaseException]:
    """Each once: Python lets causes and contexts together make a circle, and one has been seen."""
    known: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in known:
        known.add(id(inner))
        yield inner
        inner = inner.__cause__ or inner.__context__


def _code(error: Exception, text: str) -> str:
    for kind, code in _CLASS_CODES:
        if isinstance(error, kind):
            return code
    if _TOO_LONG_FOR_A_STRANGER in text:
        return "NOAUTH"
    if isinstance(error, client.ResponseError | client.ConnectionError):
        found = _CODE.search(text)
        return found[1] if found else ""
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
