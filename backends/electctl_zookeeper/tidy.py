"""Leaves nothing behind: the folders of an election go with the last who leaves it.

What this does not guarantee: that they go. A crash leaves them; then the server removes those that
are containers. A folder that somebody else made is left alone: kazoo makes the parent of its
contenders once in the life of a Lock, and fails if it is gone later. So the parent is removed only
if we made it, and if every contender that it ever had was one of electctl's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from electctl_zookeeper.container import MARK, is_ours
from electctl_zookeeper.names import Paths
from electctl_zookeeper.session import Request, Session, transaction


def leave(session: Session, paths: Paths, name: str, uid: str) -> None:
    """Remove our own two znodes, which wakes the next, and then what is empty.

    Whoever enters meanwhile finds that a folder is missing, and makes it again. Raises as
    :meth:`Session.gather`; what was not done is done by the end of the session, or not at all.
    """

    def our_own(ops: Any) -> None:
        ops.delete(paths.child(name))
        ops.delete(paths.mark(uid))

    looks = [partial(_exists, path=path) for path in (paths.parent, paths.marks)]
    # The session must still be ended if nothing is answered.
    first = session.patience / 2
    _, parent, marks = session.gather([transaction(our_own), *looks], first)
    deletes: list[Request] = []
    if parent is not None and marks is not None and not parent.numChildren:
        # Each child that comes or goes counts, and each contender of ours has a mark.
        ours_alone = parent.cversion <= marks.cversion
        if is_ours(parent) and ours_alone:
            deletes.append(partial(_delete, path=paths.parent))
    if marks is not None and not marks.numChildren:
        # Where there is a checkpoint the last stays, and tells when the election was used last.
        deletes += [transaction(partial(_delete_marks, paths=paths))]
        deletes += [partial(_delete, path=paths.own)]
    if deletes:
        session.gather(deletes, first / 2)


def _delete_marks(ops: Any, paths: Paths) -> None:
    ops.delete(paths.marks)
    ops.set_data(paths.own, MARK)


def _exists(client: Any, path: str) -> Any:
    return client.exists_async(path)


def _delete(client: Any, path: str) -> Any:
    return client.delete_async(path)
