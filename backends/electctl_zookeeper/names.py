"""Where an election lives in ZooKeeper's tree, and who contends for it in which order.

What this does not guarantee: an order after the sequence counter has come to its end. A parent
znode counts its children in a signed 32-bit number; where two of them got the same number their
czxid must decide (:func:`tied`).

An election's name is its path, so that kazoo's ``Election(client, "/nightly")`` and our ``nightly``
are one election. What electctl keeps for itself lies under ``/.electctl``, one folder for each
election, because native tools take children of the election's own znode for candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from electctl.errors import UsageError

OWN_ROOT = ".electctl"
#: Names of the first segment that are ZooKeeper's own where there is no chroot.
_SYSTEM_ROOT = "zookeeper"
#: ZooKeeper's PathUtils.validatePath refuses these characters.
_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")
#: kazoo's Lock, Curator's latch and Curator's lock. Java prints a sequence number with ``%010d``:
#: ten characters, a minus among them, and eleven only below -999,999,999.
_CONTENDER = re.compile(r"(?:__lock__|-latch-|-lock-)(\d{10}|-\d{9,10})\Z")
_UID = re.compile(r"(?:_c_)?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})")

#: Name of a recipe → how a child's name begins, given the uuid's 32 hex digits.
RECIPES = ("kazoo", "curator-latch", "curator-lock")


def prefix(recipe: str, uid: str) -> str:
    """What the server appends the sequence number to."""
    if recipe == "kazoo":
        return f"{uid}__lock__"
    dashed = "-".join((uid[:8], uid[8:12], uid[12:16], uid[16:20], uid[20:]))
    return f"_c_{dashed}-{recipe.removeprefix('curator-')}-"


@dataclass(frozen=True, slots=True)
class Contender:
    """One child that takes part. ``uid`` is "" where the name holds no uuid."""

    name: str
    sequence: int
    uid: str


def contender(name: str) -> Contender | None:
    """Read a child's name; None for a child that is no contender in any of the three shapes."""
    tail = _CONTENDER.search(name)
    if tail is None:
        return None
    uid = _UID.match(name)
    return Contender(name, int(tail[1]), uid[1].replace("-", "") if uid else "")


def in_order(names: Iterable[str]) -> list[Contender]:
    """The contenders among a znode's children, the leader first.

    By sequence number; where they lie more than 2³¹ apart, the counter has overflowed in between
    and the negative ones are the later ones.
    """
    found = [one for one in map(contender, names) if one is not None]
    numbers = [one.sequence for one in found]
    if numbers and max(numbers) - min(numbers) >= 1 << 31:
        return sorted(found, key=lambda one: one.sequence % (1 << 32))
    return sorted(found, key=lambda one: one.sequence)


def tied(contenders: list[Contender]) -> bool:
    """Whether two have the same number: the counter has come to its end."""
    return len({one.sequence for one in contenders}) < len(contenders)


@dataclass(frozen=True, slots=True)
class Paths:
    """The znodes of one election."""

    #: The parent of all contenders.
    parent: str
    #: The parent of the marks: one ephemeral znode beside each contender of ours.
    marks: str
    checkpoints: str

    @classmethod
    def of(cls, election: str, chroot: str) -> Paths:
        """Raises UsageError on a name that is no legal path."""
        path = _checked(election, chroot)
        own = f"{chroot}/{OWN_ROOT}/{quote(election, safe='')}"
        return cls(f"{chroot}/{path}", f"{own}/candidates", f"{own}/checkpoints")

    def child(self, name: str) -> str:
        """The path of a contender."""
        return f"{self.parent}/{name}"

    def mark(self, uid: str) -> str:
        """The path of the znode that accompanies a contender of ours."""
        return f"{self.marks}/{uid}"

    def checkpoint(self, slot: str) -> str:
        """The path of a checkpoint. "=" is no result of quote() and stands for the empty name."""
        return f"{self.checkpoints}/{quote(slot, safe='').replace('.', '%2E') or '='}"


def check_path(text: str, what: str) -> str:
    """Return ``text`` if it is a legal path without its leading slash; raise UsageError if not."""
    if _ILLEGAL.search(text):
        raise UsageError(
            f"the {what} has a character that ZooKeeper does not allow in a path",
            hint="control characters, private-use characters and surrogates are not allowed",
        )
    if any(segment in {"", ".", ".."} for segment in text.split("/")):
        raise UsageError(
            f"the {what} is a path in ZooKeeper, and {text!r} is none",
            hint="no leading, trailing or double slash, no segment . or ..",
        )
    return text


def _checked(election: str, chroot: str) -> str:
    path = check_path(election, "election name")
    first = path.partition("/")[0]
    if first == OWN_ROOT or (not chroot and first == _SYSTEM_ROOT):
        raise UsageError(
            f"an election's name cannot begin with {first!r}", hint="choose another name"
        )
    return path
