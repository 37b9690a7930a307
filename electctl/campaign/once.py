"""Done marks of ``--once``: which keys a command has already succeeded under.

What this does not guarantee: that the command's own effects happened once. A leader that crashes
after the command and before the mark leaves none, and the command runs again.

The marks are one JSON object in the checkpoint slot ``once``, from key to token, time and id, the
newest :data:`KEPT` of them. It is written under the guarded checkpoint: a stale leader's mark is
refused by the store, so reading and writing it back under one grant loses none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from electctl.base.clock import timestamp
from electctl.errors import Inconclusive, LeadershipLost, OutcomeUnknown, Unreachable

if TYPE_CHECKING:
    from electctl.core.leadership import Leadership

SLOT = "once"
KEPT = 1000


def find(leadership: Leadership, key: str) -> str:
    """A sentence on when ``key`` was done; "" if it was not.

    A read that brings no answer is tried again for as long as we lead. Raises LeadershipLost,
    Refused, Inconclusive (the marks cannot be read as such).
    """
    mark = _load(leadership).get(key)
    if mark is None:
        return ""
    return f"{key!r} was done already, at {mark['at']} by {mark['id']!r}: nothing was run"


def write(leadership: Leadership, key: str) -> None:
    """Record that ``key`` is done.

    Raises LeadershipLost (nothing was written), OutcomeUnknown, Inconclusive.
    """
    marks = _load(leadership)
    marks.pop(key, None)
    marks[key] = {"token": leadership.token, "at": timestamp(), "id": leadership.candidate}
    newest = dict(list(marks.items())[-KEPT:])
    leadership.checkpoint.set(json.dumps(newest).encode(), SLOT)


def _load(leadership: Leadership) -> dict[str, Any]:
    while True:
        leadership.check()
        try:
            raw = leadership.checkpoint.get(SLOT)
            break
        except (Unreachable, OutcomeUnknown) as error:
            if leadership.lost.wait(leadership.timing.retry_interval):
                raise LeadershipLost(
                    f"leadership was lost before the done mark could be read: {error.message}"
                ) from error
    try:
        marks = json.loads(raw or b"{}")
    except ValueError:
        marks = None
    if not isinstance(marks, dict):
        raise Inconclusive(
            f"the done marks in checkpoint slot {SLOT!r} are not the JSON that --once writes",
            hint="what else writes to that slot?",
        )
    return marks
