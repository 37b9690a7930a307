"""Events of an election: objects, JSON lines, lines for people.

What this does not guarantee: that wall clocks of two machines agree. ``ts`` is for people; what
must be compared is ``boottime_ns``, and only between records of one ``boot_id``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from electctl.base.clock import boot_id, now_ns, timestamp


@cache
def _boot_id() -> str:
    return boot_id()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in an election.

    ``backend`` is the scheme. ``holder`` is the leader's id, None when vacant or not known, "" for
    an anonymous holder. ``at`` is nanoseconds on :func:`electctl.base.clock.now_ns`. ``details``
    are the fields that only this kind of event has.
    """

    event: str
    election: str
    backend: str
    holder: str | None = None
    token: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    at: int = field(default_factory=now_ns)

    def as_dict(self, *, recorded: bool = False) -> dict[str, Any]:
        """As JSON shows it. ``recorded`` adds what places it in time on this machine."""
        shown: dict[str, Any] = {
            "ts": timestamp(self.at / 1e9),
            "event": self.event,
            "election": self.election,
            "backend": self.backend,
            "holder": self.holder,
            "token": self.token,
            **self.details,
        }
        if recorded:
            shown |= {"boot_id": _boot_id(), "boottime_ns": self.at}
        return shown

    def as_line(self, *, recorded: bool = False) -> str:
        """One line of JSON in plain ASCII, with its newline."""
        return json.dumps(self.as_dict(recorded=recorded)) + "\n"


# For people --------------------------------------------------------------------------------------

#: Events that are told to people only with -v.
DETAILS = frozenset(
    {"renewed", "command_started", "command_exited", "command_gone", "finished"}
    | {"checkpoint_set", "checkpoint_got"}
)


def sentence(event: Event) -> str:
    """A campaign event as engineers say it."""
    return _SENTENCES[event.event](event)


def _token(event: Event) -> str:
    return "" if event.token is None else f" (token {event.token})"


def _waiting(event: Event) -> str:
    if event.holder is None:
        return f"waiting: nobody leads {event.election!r} right now"
    return f"waiting: {event.holder or 'an anonymous holder'!r} leads {event.election!r}" + _token(
        event
    )


def _margin(event: Event) -> str:
    margin = event.details["margin_ms"]
    return f"the last process of the command is gone, {margin} ms before the lease could end"


_SENTENCES: dict[str, Callable[[Event], str]] = {
    "campaigning": lambda e: (
        f"campaigning for {e.election!r} on {e.backend} as {e.details['candidate']!r}"
    ),
    "waiting": _waiting,
    "elected": lambda e: (
        f"acquired the lock on {e.election!r}, so this instance is now the leader{_token(e)}"
    ),
    "renewed": lambda e: "the lease was renewed",
    "renewal_failed": lambda e: (
        f"a renewal was not confirmed ({e.details['cause']}); "
        f"the lease runs out in {e.details['remaining']} s unless one is"
    ),
    "lost": lambda e: f"{e.details['message']} of {e.election!r}{_token(e)}",
    "released": lambda e: f"released the lock on {e.election!r}, so the next candidate may lead",
    "command_started": lambda e: f"the command runs as process {e.details['pid']}",
    "command_exited": lambda e: f"the command ended with exit code {e.details['exit']}",
    "command_gone": _margin,
    "checkpoint_set": lambda e: f"a checkpoint was written: {e.details['outcome']}",
    "checkpoint_got": lambda e: "the checkpoint was read",
    "again": lambda e: f"campaigning again in {e.details['pause']} s",
    "warning": lambda e: f"warning: {e.details['message']}",
    "finished": lambda e: f"finished: {e.details['outcome']}, exit code {e.details['exit_code']}",
}
