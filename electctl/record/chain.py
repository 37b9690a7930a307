"""The hash chain of a record: what makes a line that is missing, changed or moved visible.

Each line that an observer writes ends with four fields: ``observer``, ``n`` (0, 1, 2 … within the
run), ``prev`` and ``hash``. ``hash`` is the SHA-256 of the line's bytes before ``, "hash"``, and so
of ``prev``, which is the ``hash`` of the line before it in the same run. The first line of a run
has in ``prev`` the SHA-256 of the last whole line that stood in the file when the run began.

What this does not guarantee: anything against somebody who writes the whole chain anew, because no
key is in it: keep the last ``hash`` elsewhere if that matters. Nor that a cut-off tail is seen as
one: it looks like an observer that was killed.

Source: Haber and Stornetta, "How to Time-Stamp a Digital Document" (1991).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

_TAIL = re.compile(
    rb', "observer": "([^"\\]{1,64})", "n": (0|[1-9][0-9]{0,17}), "prev": "([0-9a-f]{64}|)"'
    rb', "hash": "([0-9a-f]{64})"}\n\Z'
)
_HASH_FIELD = len(', "hash": ""}\n') + 64


@dataclass(frozen=True, slots=True)
class Link:
    """What a line says of its place in the chain. ``sound``: its hash is that of its bytes."""

    observer: str
    n: int
    prev: str
    hash: str
    sound: bool


def digest(line: bytes) -> str:
    """The SHA-256 of a whole line, its newline left out."""
    return sha256(line.removesuffix(b"\n")).hexdigest()


def seal(fields: Mapping[str, object], observer: str, n: int, prev: str) -> tuple[bytes, str]:
    """A line with its link, newline included, and the ``prev`` of the next one."""
    body = json.dumps({**fields, "observer": observer, "n": n, "prev": prev})[:-1]
    own = sha256(body.encode()).hexdigest()
    return f'{body}, "hash": "{own}"}}\n'.encode(), own


def link(raw: bytes) -> Link | None:
    """The link of a line as it stands in a file; None if it has none."""
    found = _TAIL.search(raw, max(0, len(raw) - 400))
    if found is None:
        return None
    observer, n, prev, own = (group.decode(errors="replace") for group in found.groups())
    sound = sha256(raw[:-_HASH_FIELD]).hexdigest() == own
    return Link(observer, int(n), prev, own, sound)
