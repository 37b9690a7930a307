"""What each kind of line must hold, so that the checker can take it as it is.

What this does not guarantee: that an event is known; a later version may have more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from electctl.errors import UsageError
from electctl.record.history import Entry

_HINT = "docs/verify.md describes the lines of a history"


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_views(value: Any) -> bool:
    return type(value) is list and set(map(str, value)) <= {"store", "belief", "effect"}


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in allowed and _is_text(value)), "one of " + ", ".join(allowed)


_INT = (_is_int, "a whole number")
_NUMBER = (_is_number, "a number")
_TEXT = (_is_text, "a text")
_TEXT_OR_NULL = (lambda value: value is None or _is_text(value), "a text or null")
_VIEWS = (_is_views, "a list of store, belief, effect")
_VIEW = _one_of("store", "belief", "effect")

_Field = tuple[Callable[[Any], bool], str]
#: event → field → what it must be; a name that ends with "?" may be missing.
_FIELDS: dict[str, dict[str, _Field]] = {
    "recording": {"observer": _TEXT, "url?": _TEXT, "views?": _VIEWS},
    **{
        event: {"observer": _TEXT, "url?": _TEXT}
        for event in ("recorded", "holder", "vacant", "unreachable", "recovered")
    },
    "elected": {"candidate": _TEXT, "remaining?": _NUMBER},
    "renewed": {"candidate": _TEXT},
    "renewal_failed": {"candidate": _TEXT, "remaining": _NUMBER},
    "command_started": {"candidate": _TEXT},
    "command_exited": {"candidate": _TEXT},
    "command_gone": {"candidate": _TEXT, "margin_ms": _INT},
    "lost": {"candidate": _TEXT, "reason": _TEXT, "led_until_ns?": _INT},
    "released": {"candidate": _TEXT, "led_until_ns?": _INT},
    "finished": {"candidate": _TEXT},
    "checkpoint_set": {
        "candidate": _TEXT,
        "outcome": _one_of("accepted", "refused", "unknown"),
        "value": _TEXT,
        "version?": _INT,
        "began_ns": _INT,
    },
    "checkpoint_got": {"candidate": _TEXT, "value": _TEXT_OR_NULL, "began_ns": _INT},
    "begin": {"view": _VIEW},
    "still": {"view": _VIEW},
    "end": {"view": _VIEW},
    "write": {
        "resource": _TEXT,
        "outcome": _one_of("accepted", "refused", "unknown"),
        "version?": _INT,
        "value?": _TEXT,
        "began_ns?": _INT,
    },
    "read": {"resource": _TEXT, "version?": _INT, "value?": _TEXT, "began_ns?": _INT},
}
#: Lines that say who leads.
_NAMED = frozenset(("begin", "still", "end"))
_PLAIN = {
    event: tuple(
        (name.removesuffix("?"), name.endswith("?"), test, what)
        for name, (test, what) in fields.items()
    )
    for event, fields in _FIELDS.items()
}


def check(entry: Entry, where: str) -> None:
    """Raise UsageError, with ``where``, if a field that the checker uses is not what it must be."""
    data = entry.data
    for name, optional, test, what in _PLAIN.get(entry.event, ()):
        if name not in data:
            if optional:
                continue
            raise UsageError(f"{where}: {entry.event!r} needs {name!r}", hint=_HINT)
        if not test(data[name]):
            raise UsageError(f"{where}: {name!r} must be {what}", hint=_HINT)
    if entry.event in _NAMED and entry.holder is None:
        raise UsageError(f"{where}: {entry.event!r} needs a holder", hint=_HINT)
