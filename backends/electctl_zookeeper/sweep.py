"""What elections that are over have left in ZooKeeper, and its removal.

What this does not guarantee: that a name is found which native tools alone have used; what they
leave is theirs. Nor a time of last use that is exact. Who enters or leaves in good order writes to
our folder, whose mtime tells then. After a crash there is only the number (zxid) of the transaction
that removed a znode. It stands between others whose time is known, so an election is never taken
for older than it is, and for younger by as much as lies between two changes.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

from kazoo.exceptions import BadVersionError, NoNodeError, NotEmptyError

from electctl.contract.backend import Leftover
from electctl.errors import UsageError
from electctl_zookeeper import names
from electctl_zookeeper.container import MARK
from electctl_zookeeper.session import Session

#: Elections that one round of requests looks at.
_BATCH = 200


@dataclass(frozen=True, slots=True)
class _Seen:
    """The znodes of one election that are to go, with the versions that they had; leaves first."""

    znodes: tuple[tuple[str, int], ...]
    #: The number of the last change.
    zxid: int


def leftovers(session: Session, chroot: str) -> Iterator[Leftover]:
    """Every election that electctl has a folder of, and that nobody leads or awaits."""
    root = f"{chroot}/{names.OWN_ROOT}"
    try:
        folders = session.ask(lambda client: client.get_children_async(root))
    except NoNodeError:
        return
    found: list[tuple[str, tuple[str, ...], _Seen]] = []
    clock: list[tuple[int, float]] = []
    elections = [unquote(folder[1:]) for folder in folders if folder.startswith("%")]
    # A folder of another name is not ours: nothing of an election lies there.
    elections = [name for name in elections if _is_canonical(name)]
    for start in range(0, len(elections), _BATCH):
        for one in _look(session, elections[start : start + _BATCH], chroot, clock):
            found.append(one)
    clock.sort()
    for election, what, seen in found:
        yield Leftover(election, what, _time_of(seen.zxid, clock), seen)


def _is_canonical(name: str) -> bool:
    try:
        return names.NAMING.canonical(name) == name
    except UsageError:
        return False


def _time_of(zxid: int, clock: Sequence[tuple[int, float]]) -> float:
    """When that transaction was made, at the latest."""
    place = bisect_left(clock, (zxid, 0.0))
    return clock[place][1] if place < len(clock) else time.time()


def _look(
    session: Session, elections: Sequence[str], chroot: str, clock: list[tuple[int, float]]
) -> Iterator[tuple[str, tuple[str, ...], _Seen]]:
    paths = [names.Paths.of(election, chroot) for election in elections]
    flat = [path for one in paths for path in (one.own, one.parent, one.marks, one.checkpoints)]
    stats = dict(zip(flat, session.gather([_exists(path) for path in flat]), strict=True))
    kept = [one.checkpoints for one in paths if stats[one.checkpoints] is not None]
    slots = dict(zip(kept, session.gather([_children(path) for path in kept]), strict=True))
    leaves = [f"{path}/{slot}" for path in kept for slot in _listed(slots[path])]
    stats |= dict(zip(leaves, session.gather([_exists(leaf) for leaf in leaves]), strict=True))
    for stat in stats.values():
        if stat is not None:
            clock += [(stat.czxid, stat.ctime / 1000), (stat.mzxid, stat.mtime / 1000)]
    for election, one in zip(elections, paths, strict=True):
        marks, parent = stats[one.marks], stats[one.parent]
        if marks is not None and marks.numChildren:
            continue
        ours = [f"{one.checkpoints}/{slot}" for slot in _listed(slots.get(one.checkpoints))]
        order = [*ours, one.checkpoints, one.marks, one.own]
        if parent is not None:
            if parent.numChildren and _contended(session, one.parent):
                continue
            # With children it is the path of other elections too, with data somebody else's.
            if not parent.numChildren and parent.dataLength in (0, len(MARK)):
                order.append(one.parent)
        there = [(path, stats[path]) for path in order if stats.get(path) is not None]
        if there:
            zxid = max(max(stat.mzxid, stat.pzxid) for _, stat in there)
            what = ("checkpoint",) * bool(ours) + ("znodes",)
            versions = tuple((path, stat.version) for path, stat in there)
            yield election, what, _Seen(versions, zxid)


def _contended(session: Session, parent: str) -> bool:
    answer = session.gather([_children(parent)])[0]
    return bool(names.in_order(_listed(answer)))


def _listed(answer: Any) -> list[str]:
    return [] if answer is None or isinstance(answer, Exception) else list(answer)


def _exists(path: str) -> Any:
    return partial(_ask_exists, path=path)


def _ask_exists(client: Any, path: str) -> Any:
    return client.exists_async(path)


def _children(path: str) -> Any:
    return partial(_ask_children, path=path)


def _ask_children(client: Any, path: str) -> Any:
    return client.get_children_async(path)


def sweep(session: Session, leftover: Leftover) -> bool:
    """See :meth:`electctl.contract.backend.Backend.sweep`. One transaction.

    A candidate has a znode in one of the folders, and a folder that is not empty is not removed.
    Whoever enters writes to ours, so one that has come and gone is noticed by its version.
    """
    seen = leftover.seen
    assert isinstance(seen, _Seen), "a leftover of another backend"

    def remove(ops: Any) -> None:
        for path, version in seen.znodes:
            ops.delete(path, version=version)

    try:
        session.transact(remove)
    except (NoNodeError, NotEmptyError, BadVersionError):
        return False
    return True
