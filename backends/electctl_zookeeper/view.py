"""Views of an election on ZooKeeper, and the stream of them.

What this does not guarantee: that a candidate is seen which came, led and went between two looks.
ZooKeeper's watches fire once, and what has gone cannot be read. A candidate that was seen waiting
is followed to its end: each has a watch of its own, and the server tells of deletions in the order
in which they happened, so no leader among those seen is missed and none is made up. A moment
without a leader may be passed over.

One id may stand twice: a place that was not given back (a crash, a release that was not answered)
lives on until its session has run out, beside a later one of the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType

from electctl.base.clock import now
from electctl.contract.backend import Holder, View, Watch
from electctl.errors import Unreachable
from electctl_zookeeper import names
from electctl_zookeeper.session import Session, transaction


@dataclass(frozen=True, slots=True)
class Member:
    """One contender as it stands in the store."""

    name: str
    #: The uuid in its name; "" where there is none.
    uid: str
    id: str
    czxid: int
    version: int
    #: Whether it has a mark, which is how ours can be asked to stop.
    marked: bool

    @property
    def holder(self) -> Holder:
        """It, leading. A znode's ctime is candidacy, so since when is unknown."""
        return Holder(self.id, self.czxid, self.name, can_be_asked=self.marked)


def view_of(members: Iterable[Member]) -> View:
    """In the order in which they entered: by czxid, which no overflow of the sequence disturbs."""
    queue = sorted(members, key=lambda member: member.czxid)
    if not queue:
        return View(None)
    return View(queue[0].holder, tuple(member.id for member in queue[1:]))


def sync(session: Session, path: str) -> None:
    """Have our server catch up with the ensemble: all that was committed before is then seen.

    By a transaction that changes nothing, and is committed whatever comes of it. ZooKeeper's own
    sync asks no majority: a leader that is cut off answers it for ``syncLimit`` ticks
    (ZOOKEEPER-2136).
    """
    session.gather([transaction(lambda ops: ops.check(path, -1))])


def contenders(
    session: Session, paths: names.Paths, watch: Any = None
) -> list[names.Contender] | None:
    """The contenders as our server has them, in order; None if there is no parent."""
    try:
        found = session.ask(lambda client: client.get_children_async(paths.parent, watch))
    except NoNodeError:
        return None
    return names.in_order(found)


def members(
    session: Session, paths: names.Paths, wanted: Sequence[names.Contender], watch: Any = None
) -> list[Member]:
    """Those contenders, read; what has gone meanwhile is left out."""
    reads = [partial(_get, path=paths.child(one.name), watch=watch) for one in wanted]
    looks = [partial(_exists, path=paths.mark(one.uid or "-")) for one in wanted]
    answers = session.gather([*reads, *looks])
    found = []
    for one, read, mark in zip(wanted, answers, answers[len(wanted) :], strict=False):
        if not isinstance(read, Exception):
            data, stat = read
            who = data.decode(errors="replace")
            found.append(Member(one.name, one.uid, who, stat.czxid, stat.version, bool(mark)))
    return found


def _get(client: Any, path: str, watch: Any) -> Any:
    return client.get_async(path, watch)


def _exists(client: Any, path: str) -> Any:
    return client.exists_async(path)


#: What kazoo's thread tells the watch: the kind of event and the path.
_Event = tuple[str, str]


class ZooKeeperWatch(Watch):
    """See :class:`electctl.contract.backend.Watch`. It has a session of its own."""

    def __init__(self, open_session: Callable[[Callable[[], None]], Session], paths: names.Paths):
        self.paths = paths
        self._events: SimpleQueue[_Event | None] = SimpleQueue()
        self._open_session = open_session
        self._session: Session | None = None
        self._members: dict[str, Member] = {}
        #: Who was seen to be gone, though the word of it, with its place in the order, is to come;
        #: and who has entered, perhaps after that.
        self._leaving: set[str] = set()
        self._entered: dict[str, Member] = {}
        self._shown: View | None = None
        self._stale = True
        self._closed = False

    def next(self, timeout: float) -> View | None:
        """The current view first, then each change; None after ``timeout`` seconds without one."""
        deadline = now() + timeout
        while not self._closed:
            if self._session is None:
                self._session = self._open_session(lambda: self._events.put(None))
                sync(self._session, self.paths.parent)
            while self._stale:
                self._refresh(self._session)
            view = view_of(self._members.values())
            if view != self._shown:
                self._shown = view
                return view
            if not self._take(self._session, deadline):
                return None
        self.close()
        return None

    def _refresh(self, session: Session) -> None:
        """Take in who has come. Who has gone is learnt from their own watches alone, in order."""
        self._stale = False
        found = contenders(session, self.paths, self._changed)
        if found is None:
            # Nobody has ever entered. If the parent comes up right now, look again.
            parent = session.ask(
                lambda client: client.exists_async(self.paths.parent, self._changed)
            )
            self._stale = parent is not None
            return
        new = [one for one in found if one.name not in self._members | self._entered]
        for member in members(session, self.paths, new, self._changed):
            self._entered[member.name] = member
        self._leaving |= self._members.keys() - {one.name for one in found}
        self._admit()

    def _admit(self) -> None:
        """Never show who has entered beside who was gone by then: it may be the same id again."""
        if not self._leaving:
            self._members |= self._entered
            self._entered = {}

    def _changed(self, event: Any) -> None:
        """Called by kazoo's thread."""
        self._events.put((event.type, event.path or ""))

    def _take(self, session: Session, deadline: float) -> bool:
        """Take in one event; False if none came in time."""
        try:
            kind, path = self._events.get(timeout=max(0.0, deadline - now())) or (None, "")
        except Empty:
            return False
        if session.interrupted or kind == EventType.NONE:
            raise Unreachable("the connection to ZooKeeper was lost", hint="is it running?")
        if path.startswith(f"{self.paths.parent}/"):
            self._member_changed(session, path.rpartition("/")[2], gone=kind == EventType.DELETED)
        elif path:
            self._stale = True
        return True

    def _member_changed(self, session: Session, name: str, *, gone: bool) -> None:
        # If somebody wrote to it, its watch is used up; if it has gone since, none was left.
        wanted = [] if gone else names.in_order([name])
        for member in members(session, self.paths, wanted, self._changed):
            (self._members if name in self._members else self._entered)[name] = member
            return
        self._members.pop(name, None)
        self._entered.pop(name, None)
        self._leaving.discard(name)
        self._admit()

    def close(self) -> None:
        """A blocked :meth:`next` returns None or raises soon."""
        self._closed = True
        self._events.put(None)
        if self._session is not None:
            self._session.close()
