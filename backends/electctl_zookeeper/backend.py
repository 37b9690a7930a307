"""The ZooKeeper backend.

What this does not guarantee: that an eviction is heeded at once. The holder sees the mark when its
next renewal is refused because somebody else wrote to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from kazoo.exceptions import BadVersionError, NoNodeError

from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Holder, Leftover, View, Watch
from electctl.errors import Unreachable
from electctl_zookeeper import sweep
from electctl_zookeeper.candidacy import STOP, ZooKeeperCandidacy
from electctl_zookeeper.chroot import must_exist
from electctl_zookeeper.failures import SessionLost
from electctl_zookeeper.names import Claim, Paths
from electctl_zookeeper.record import Record
from electctl_zookeeper.session import Session
from electctl_zookeeper.target import Target
from electctl_zookeeper.traits import TRAITS
from electctl_zookeeper.view import Member, ZooKeeperWatch, contenders, members, sync, view_of

if TYPE_CHECKING:
    from electctl.contract.traits import Traits
    from electctl.contract.url import BackendURL

#: Seconds: for one request that is not part of a candidacy, and for the session that carries it.
REQUEST_TIMEOUT = 3.0
SESSION_TIMEOUT = 10.0


class ZooKeeperBackend(Backend):
    """``zk://``. Looks and evictions share one session; candidacies and watches have their own."""

    def __init__(self, url: BackendURL) -> None:
        super().__init__(url)
        self.target = Target.of(url)
        #: Held by who opens the shared session, which may take as long as a resolver likes.
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._shared: Session | None = None
        self._closed = False

    @property
    def traits(self) -> Traits:
        """What ``zk://`` promises."""
        return TRAITS

    def candidacy(self, bid: Bid) -> Candidacy:
        """Its session, not the process, is what the store knows of it."""
        return ZooKeeperCandidacy(self.target, bid, self.notes)

    def _open(self, on_change: Callable[[], None]) -> Session:
        session = Session(self.target, SESSION_TIMEOUT, REQUEST_TIMEOUT, on_change)
        try:
            session.open(now() + REQUEST_TIMEOUT)
            must_exist(session, self.target)
        except BaseException:
            session.abandon()
            raise
        return session

    def _session(self) -> Session:
        with self._opening:
            shared = self._shared
            if shared is not None:
                if not shared.lost:
                    return shared
                shared.abandon()
            opened = self._open(lambda: None)
            with self._lock:
                self._shared = opened
                if not self._closed:
                    return opened
        self.close()
        raise Unreachable("the connection to ZooKeeper has been closed here")

    def _members(self, session: Session, paths: Paths) -> list[Member]:
        sync(session, paths.parent)
        while True:
            found = contenders(session, paths) or []
            seen = members(session, paths, found)
            # One that left before it was read may have left its place to one that came after.
            if len(seen) == len(found):
                return seen

    def _again(self, ask: Callable[[Session], Any]) -> Any:
        """A shared session may have run out since it was last used."""
        try:
            return ask(self._session())
        except SessionLost:
            return ask(self._session())

    def view(self, election: str) -> View:
        """Who stands in the queue, as of a moment after the call."""
        paths = Paths.of(election, self.target.chroot)
        found: View = self._again(lambda session: view_of(self._members(session, paths)))
        return found

    def watch(self, election: str) -> Watch:
        """Follow an election."""
        return ZooKeeperWatch(self._open, Paths.of(election, self.target.chroot))

    def evict(self, election: str, *, force: bool) -> Holder | None:
        """Write to the holder's mark, or delete its znode; both names belong to one term alone."""
        paths = Paths.of(election, self.target.chroot)
        found: Holder | None = self._again(lambda session: self._evict(session, paths, force))
        return found

    def _evict(self, session: Session, paths: Paths, force: bool) -> Holder | None:
        while True:
            found = self._members(session, paths)
            if not found:
                return None
            leader = min(found, key=lambda member: member.czxid)
            try:
                if force:
                    session.ask(partial(_delete, path=paths.child(leader.name), of=leader))
                elif leader.marked:
                    session.ask(partial(_ask_to_stop, mark=paths.mark(leader.uid)))
            except (NoNodeError, BadVersionError):
                continue  # it has gone, or changed, since we looked
            return leader.holder

    def give_back(self, receipt: str) -> None:
        """Delete the contender and its mark, past the session that made them.

        That session is left to run out with nothing in it: to take it up in order to close it
        would give it its full time-out again first, should the second step not come about.
        """
        claim = Claim.unpack(receipt)
        paths = Paths.of(claim.election, self.target.chroot)
        # The contender first: its deletion is what the next one waits for.
        gone = [paths.child(claim.name), paths.mark(claim.uid)]
        deletions = [partial(_remove, path=path) for path in gone]
        self._again(lambda session: session.gather(deletions))

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value committed before the call."""
        path = Paths.of(election, self.target.chroot).checkpoint(slot)

        def read(session: Session) -> bytes | None:
            sync(session, path)
            try:
                data, _ = session.ask(lambda client: client.get_async(path))
            except NoNodeError:
                return None
            return Record.unpack(data, path).value

        found: bytes | None = self._again(read)
        return found

    def leftovers(self) -> Iterator[Leftover]:
        """See :mod:`electctl_zookeeper.sweep`."""
        return sweep.leftovers(self._session(), self.target.chroot)

    def sweep(self, leftover: Leftover) -> bool:
        """One transaction: folders that are not empty, or were changed, stay."""
        return bool(self._again(lambda session: sweep.sweep(session, leftover)))

    def close(self) -> None:
        """Close the shared session; candidacies and watches have their own."""
        with self._lock:
            self._closed = True
            shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()


def _delete(client: Any, path: str, of: Member) -> Any:
    return client.delete_async(path, version=of.version)


def _remove(client: Any, path: str) -> Any:
    return client.delete_async(path)


def _ask_to_stop(client: Any, mark: str) -> Any:
    return client.set_async(mark, STOP)
