"""What a campaign was asked to do, and what its command and hooks are told of it.

What this does not guarantee: that the command keeps it to itself; whoever runs as the same user
reads its environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from electctl.campaign import orders
from electctl.core.lease import MARGIN

#: Our password, what is only for one hook, and what a service manager told *this* process.
_NOT_PASSED_ON = frozenset(
    {
        "ELECTCTL_PASSWORD",
        "ELECTCTL_REASON",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a campaign was asked to do. Times in seconds."""

    election: str
    candidate: str
    scheme: str
    #: The backend's URL without its password.
    url: str
    argv: tuple[str, ...] = ()
    ttl: float | None = None
    grace: float | None = None
    margin: float = MARGIN
    on_elected: str | None = None
    on_lost: str | None = None
    once: str | None = None
    #: Where to answer the command; None for a place of our choice.
    socket: Path | None = None
    plan: orders.Plan = field(default_factory=orders.Plan)


def environment(
    job: Job, *, token: int | None, token_kind: str, socket: Path | None, reason: str = ""
) -> dict[str, str]:
    """Ours, without what is not theirs, and what they ask: token, names, socket."""
    env = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    env |= {
        "ELECTCTL_ELECTION": job.election,
        "ELECTCTL_ID": job.candidate,
        "ELECTCTL_BACKEND": job.url,
        "ELECTCTL_TOKEN": "" if token is None else str(token),
        "ELECTCTL_TOKEN_KIND": "none" if token is None else token_kind,
        "ELECTCTL_SOCKET": "" if socket is None else str(socket),
    }
    if reason:
        env["ELECTCTL_REASON"] = reason
    return env
