"""``local:``: the embedded server of this machine and user, started when it is needed.

What this does not guarantee: anything between users or machines. See ``local_traits``.
"""

from __future__ import annotations

from collections.abc import Callable

from electctl.base.duration import parse_duration
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.errors import UsageError
from electctl.raft.io.local import IDLE, LocalServer
from electctl_raft.backend import RaftBackend
from electctl_raft.local_traits import LOCAL_TRAITS
from electctl_raft.target import Target

_SHORTEST = 0.1


def server_of(url: BackendURL) -> LocalServer:
    """The server that ``url`` means. Raises UsageError, ConfigError."""
    if url.hosts or url.path or url.user is not None:
        raise UsageError("local: names no host, user or path", hint="as in -b local:")
    idle = url.options.get("idle")
    return LocalServer(idle=IDLE if idle is None else _seconds(idle))


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except UsageError as error:
        raise UsageError(f"local:?idle=: {error.message}", hint=error.hint) from None
    if seconds < _SHORTEST:
        raise UsageError(
            f"local:?idle={text} would end it before anybody has come", hint="100ms at least"
        )
    return seconds


def prepare(url: BackendURL, say: Callable[[str], None]) -> None:
    """Start the server if it does not run, and say so. Raises as :meth:`LocalServer.connect`."""
    server = server_of(url)
    server.connect(
        lambda: say(
            "started the embedded server for local: (elections on this machine, for this user; "
            f"it ends after {server.idle:g} s without use)"
        )
    ).close()


class LocalBackend(RaftBackend):
    """``local:`` and ``local:?idle=TIME``. Raises UsageError, ConfigError (no home directory)."""

    def __init__(self, url: BackendURL) -> None:
        super().__init__(url, Target((server_of(url),), None))

    @property
    def traits(self) -> Traits:
        """See :mod:`electctl_raft.local_traits`."""
        return LOCAL_TRAITS
