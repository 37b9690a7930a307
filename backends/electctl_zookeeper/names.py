"""Where an election lives in ZooKeeper's tree, and who contends for it in which order.

What this does not guarantee: an order by name once the sequence counter has come to its end. A
parent znode counts its children in a signed 32-bit number. Beyond 2147483647 ZooKeeper 3.8 gives
that number again and again, and negative ones to requests that come close together
(``PrepRequestProcessor`` counts on, ``DataTree.createNode`` keeps the greater number). From there
on only their czxid tells who came first (:func:`overflowed`).

An election's name is its path, so that kazoo's ``Election(client, "/nightly")`` and our ``nightly``
are one election, and so are ``/jobs/nightly`` and ``jobs/nightly``. A name that is no legal path of
its own, or that begins with ``%``, becomes one segment: ``%`` and the name percent-encoded.

What electctl keeps for itself lies under ``/.electctl``, one folder for each election, because
native tools take children of the election's own znode for candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

LAST_NUMBER = (1 << 31) - 1
OWN_ROOT = ".electctl"
#: Names of the first segment that are ZooKeeper's own where there is no chroot.
_SYSTEM_ROOT = "zookeeper"
#: ZooKeeper's PathUtils.validatePath refuses these characters; those beyond 16 bits, because Java
#: sees them as surrogates.
_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")
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
    """The contenders among a znode's children by sequence number, the leader first."""
    found = (one for one in map(contender, names) if one is not None)
    return sorted(found, key=lambda one: one.sequence)


def overflowed(contenders: Iterable[Contender]) -> bool:
    """Whether the counter has come to its end, so that the numbers say nothing of the order."""
    return any(not 0 <= one.sequence < LAST_NUMBER for one in contenders)


@dataclass(frozen=True, slots=True)
class Paths:
    """The znodes of one election."""

    #: Ours, and shared by all elections and users.
    root: str
    #: The parent of all contenders.
    parent: str
    #: The parent of the marks: one ephemeral znode beside each contender of ours.
    marks: str
    checkpoints: str

    @classmethod
    def of(cls, election: str, chroot: str) -> Paths:
        """The paths for that name in the tree below ``chroot`` ("" or "/some/path")."""
        encoded = quote(election, safe="")
        path = election if _stands_for_itself(election, chroot) else f"%{encoded}"
        root = f"{chroot}/{OWN_ROOT}"
        own = f"{root}/%{encoded}"
        return cls(root, f"{chroot}/{path}", f"{own}/candidates", f"{own}/checkpoints")

    def child(self, name: str) -> str:
        """The path of a contender."""
        return f"{self.parent}/{name}"

    def mark(self, uid: str) -> str:
        """The path of the znode that accompanies a contender of ours."""
        return f"{self.marks}/{uid}"

    def checkpoint(self, slot: str) -> str:
        """The path of a checkpoint."""
        return f"{self.checkpoints}/%{quote(slot, safe='')}"


def is_path(text: str) -> bool:
    """Whether ``text`` is a legal path of ZooKeeper, written without its leading slash."""
    return not _ILLEGAL.search(text) and not {"", ".", ".."} & set(text.split("/"))


def _stands_for_itself(election: str, chroot: str) -> bool:
    first = election.partition("/")[0]
    reserved = {OWN_ROOT} if chroot else {OWN_ROOT, _SYSTEM_ROOT}
    return is_path(election) and not election.startswith("%") and first not in reserved
