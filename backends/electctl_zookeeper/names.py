"""Where an election lives in ZooKeeper's tree, and who contends for it in which order.

What this does not guarantee: an order by name once the sequence counter has come to its end. A
parent znode counts its children in a signed 32-bit number. Beyond 2147483647 ZooKeeper 3.8 gives
that number again and again, and negative ones to requests that come close together
(``PrepRequestProcessor`` counts on, ``DataTree.createNode`` keeps the greater number). From there
on only their czxid tells who came first (:func:`overflowed`).

An election's canonical name is its path without the leading slash. So kazoo's
``Election(client, "/jobs/nightly")``, in each of the spellings that kazoo takes for that path, and
our ``jobs/nightly`` are one election; what is no path of the store is no name (:data:`NAMING`).

What electctl keeps for itself lies under ``/.electctl``, one folder for each election, because
native tools take children of the election's own znode for candidates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from electctl.contract.naming import Naming
from electctl.errors import UsageError

LAST_NUMBER = (1 << 31) - 1
OWN_ROOT = ".electctl"
#: kazoo drops empty segments (``kazoo.protocol.paths.normpath``); it and the server refuse "." and
#: "..". ZooKeeper's PathUtils.validatePath refuses these characters; those beyond 16 bits because
#: Java sees them as surrogates. ``/zookeeper`` is the server's own.
NAMING = Naming(
    path=True,
    reserved=(f"{OWN_ROOT}/", "zookeeper/"),
    illegal=r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]",
)
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
    #: Ours, of this election; around marks and checkpoints.
    own: str
    #: The parent of all contenders.
    parent: str
    #: The parent of the marks: one ephemeral znode beside each contender of ours.
    marks: str
    checkpoints: str

    @classmethod
    def of(cls, election: str, chroot: str) -> Paths:
        """The paths for that canonical name in the tree below ``chroot`` ("" or "/some/path")."""
        root = f"{chroot}/{OWN_ROOT}"
        own = f"{root}/%{quote(election, safe='')}"
        return cls(root, own, f"{chroot}/{election}", f"{own}/candidates", f"{own}/checkpoints")

    @property
    def folders(self) -> tuple[str, ...]:
        """Those of this election that are ours."""
        return self.own, self.marks, self.checkpoints

    def child(self, name: str) -> str:
        """The path of a contender."""
        return f"{self.parent}/{name}"

    def mark(self, uid: str) -> str:
        """The path of the znode that accompanies a contender of ours."""
        return f"{self.marks}/{uid}"

    def checkpoint(self, slot: str) -> str:
        """The path of a checkpoint."""
        return f"{self.checkpoints}/%{quote(slot, safe='')}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One grant: the election, our contender's name in it, and the uuid that names its mark."""

    election: str
    name: str
    uid: str

    def pack(self) -> str:
        """As a text."""
        return json.dumps([self.election, self.name, self.uid])

    @classmethod
    def unpack(cls, text: str) -> Claim:
        """Read what :meth:`pack` made. Raises UsageError."""
        try:
            election, name, uid = map(str, json.loads(text))
            found = contender(name)
        except (ValueError, TypeError):
            found = None
        # Neither name may lead anywhere but to that contender and its mark.
        if found is None or not found.uid or found.uid != uid or "/" in name:
            raise UsageError("this is no receipt of a grant on ZooKeeper")
        return cls(election, name, uid)


def is_path(text: str) -> bool:
    """Whether ``text`` is a legal path of ZooKeeper, written without its leading slash."""
    return not re.search(NAMING.illegal, text) and not {"", ".", ".."} & set(text.split("/"))
