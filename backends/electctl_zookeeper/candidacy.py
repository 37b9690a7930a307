"""One attempt to lead on ZooKeeper: a place in the queue, held by a session of its own.

What this does not guarantee: that Curator or kazoo do the same. They go by their connection's
state, which changes only after the server has given their place away.

Every contender of ours has a mark: an ephemeral znode of the same session, outside the election's
own path, made in the same transaction and named by the contender's uuid. It serves four ends.

- The transaction cannot act twice: the second time the mark exists. So an unknown outcome of
  entering is settled by entering again.
- The mark's czxid is the contender's, and the transaction itself tells it: the fencing token.
- Renewals write to the mark, not to the contender. A write to the contender would use up the
  watch that the next in the queue has on it, and Curator's LeaderLatch, which looks at deletions
  alone, would never wake again (``LeaderLatch.checkLeadership``).
- Whoever asks us to stop writes to it. It goes with its session, so it can hit no later term.

The wait watches the predecessor alone. Those near the head write to their mark at the interval of
renewals, so that they can lead at once when their turn comes; the others read one znode at a third
of the session's time-out, in place of a ping.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from electctl.base.clock import now
from electctl.base.latency import too_slow
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.errors import ElectctlError, LeadershipLost, Unreachable
from electctl_zookeeper import names
from electctl_zookeeper.checkpoint import Checkpoints
from electctl_zookeeper.chroot import must_exist
from electctl_zookeeper.container import MARK
from electctl_zookeeper.failures import SessionLost
from electctl_zookeeper.sentry import Sentry
from electctl_zookeeper.session import Request, Session, transaction
from electctl_zookeeper.target import Target
from electctl_zookeeper.tidy import leave
from electctl_zookeeper.traits import TRAITS
from electctl_zookeeper.worth import check_timing

#: What the mark of a candidate that is asked to stop holds.
STOP = b"stop"
#: Seconds within which a connection must be made.
CONNECT_LIMIT = 3.0
#: Seconds within which an answer must come while we wait; a renewal interval, if that is between.
PATIENCE = 1.0
MOST_PATIENCE = 3.0
#: How many places before ours may go at once without our being caught unprepared.
NEAR = 8
#: How old, in renewal intervals, the proof of our session may be when we begin to lead.
FRESH = 2.5
#: Writes that may fail to make it so, if each is answered too late, before we say so.
PROOFS = 4


@dataclass(slots=True)
class _Place:
    """Our place in the queue. ``name`` is None until it is known that we entered."""

    uid: str
    name: str | None = None
    token: int | None = None
    #: The mark's version, as we left it; others change it to ask us to stop.
    version: int = 1
    asked: bool = False


class ZooKeeperCandidacy(Candidacy):
    """See :class:`electctl.contract.backend.Candidacy`."""

    def __init__(self, target: Target, bid: Bid, notes: set[str]) -> None:
        self.target = target
        self.bid = bid
        self._notes = notes
        self.paths = names.Paths.of(bid.election, target.chroot)
        self._session: Session | None = None
        self._place: _Place | None = None
        self._cancelled = threading.Event()
        self._wake = threading.Event()
        #: While we lead.
        self._sentry: Sentry | None = None
        #: That the last answer that was timed came too late for our TTL, for people.
        self._slow: str | None = None
        self._checkpoints: Checkpoints | None = None

    @property
    def session(self) -> Session | None:
        """The session that holds our place, if there is one."""
        return self._session

    # Entering and waiting ------------------------------------------------------------------------

    def acquire(self, deadline: float | None) -> Grant | None:
        """See :meth:`electctl.contract.backend.Candidacy.acquire`. The session keeps the place."""
        grant = None
        while not self._cancelled.is_set():
            try:
                grant = self._queue(deadline)
                break
            except SessionLost:
                # The place went with the session: at the end of the queue again.
                self._forget()
                if deadline is not None and now() >= deadline:
                    if self.rival is None:
                        raise
                    break
            except Unreachable as error:
                if self._cancelled.is_set():
                    continue
                if self._slow is None:
                    raise
                raise Unreachable(f"{error.message}; {self._slow}", hint=error.hint) from error
        if grant is None:
            self._withdraw()
        return grant

    def _queue(self, deadline: float | None) -> Grant | None:
        session = self._open(deadline)
        while True:
            self._wake.clear()
            place, children = self._enter(session)
            ahead = self._ahead(session, place, children)
            if self._cancelled.is_set():
                return None
            if ahead is None:
                self._place = None  # somebody deleted our znode
            elif not ahead:
                try:
                    return self._lead(session, place)
                except LeadershipLost:
                    self._place = None
            else:
                self.rival = self.rival or ""
                if deadline is not None and now() >= deadline:
                    self._name_rival(session, ahead[0])
                    return None
                if self._watch(session, ahead[-1]):
                    self._wait(session, place, ahead, deadline)

    def _name_rival(self, session: Session, leader: str) -> None:
        """For people, as we give up: one more read, if it can be had."""
        with suppress(NoNodeError, Unreachable):
            data, _ = session.ask(lambda client: client.get_async(self.paths.child(leader)))
            self.rival = data.decode(errors="backslashreplace")

    def _open(self, deadline: float | None) -> Session:
        if self._session is not None:
            return self._session
        at, for_each = now(), PATIENCE * len(self.target.hosts)
        limit = at + max(CONNECT_LIMIT, for_each)
        if deadline is not None:
            # One try is no try of all servers without the time for each.
            least = self._patience if deadline > at else max(self._patience, for_each)
            limit = min(limit, max(deadline, at + least))
        session = Session(self.target, self.bid.ttl, self._patience, self._on_change)
        try:
            session.open(limit, self._cancelled)
            self.contacted = True
            must_exist(session, self.target)
            check_timing(session, self.bid, self._notes)
            session.create_as_in(self.paths.parent)
        except BaseException:
            session.abandon()
            raise
        self._session = session
        return session

    def _on_change(self) -> None:
        """From kazoo's threads: the state of our connection is another."""
        self._wake.set()
        self._tell_if_over()

    def _tell_if_over(self) -> None:
        session = self._session
        if self._sentry is not None and session is not None and session.ended_there:
            self.bid.superseded("expired")

    def _gone(self) -> None:
        if self._sentry is not None:
            self.bid.superseded("deleted")

    @property
    def _patience(self) -> float:
        # Not more, however long the TTL: who cancels waits for what is under way.
        return min(max(PATIENCE, self.bid.request_timeout), MOST_PATIENCE)

    def _enter(self, session: Session) -> tuple[_Place, Any]:
        """Our place: made now, or found if it is not known whether we made it.

        Where it was made now, also the children as they were just after, asked for together.
        """
        if self._place is None:
            self._place = _Place(uuid.uuid4().hex)
        place = self._place
        begin = names.prefix(self.target.recipe, place.uid)
        children = None
        while place.name is None:
            make = transaction(partial(self._create, place=place, begin=begin))
            sent = now()
            try:
                results, children = session.gather([make, self._children])
                made = session.outcome(results)
            except Unreachable:
                self._measured(session.greeting)
                raise
            except NoNodeError:
                containers = () if self.target.keep_parent else (self.paths.parent,)
                session.ensure_path(self.paths.parent, containers=containers)
                session.ensure_path(self.paths.marks, self.paths.root, self.paths.folders)
            except NodeExistsError:
                place.name = self._find(session, begin)
                if place.name is None:  # we had entered, and somebody deleted our znode
                    self._place = place = _Place(uuid.uuid4().hex)
                    begin = names.prefix(self.target.recipe, place.uid)
                children = None
            else:
                session.committed(sent)
                self._measured(now() - sent)
                _, path, _, mark = made
                place.name = path.rpartition("/")[2]
                place.token = mark.czxid
        return place, children

    def _measured(self, took: float) -> None:
        """One answer took so many seconds."""
        bid, before = self.bid, self._slow
        self._slow = too_slow("ZooKeeper", took, 1, bid.request_timeout, bid.ttl, TRAITS.renewals)
        if self._slow is not None and before is None:
            self._notes.add(self._slow)

    def _children(self, client: Any) -> Any:
        return client.get_children_async(self.paths.parent)

    def _create(self, ops: Any, place: _Place, begin: str) -> None:
        ops.create(self.paths.mark(place.uid), b"", ephemeral=True)
        ops.create(
            self.paths.child(begin), self.bid.candidate.encode(), ephemeral=True, sequence=True
        )
        # Tells a sweep when the election was used last, and that it was since somebody looked.
        ops.set_data(self.paths.own, MARK)
        # For its answer, which has the mark's stat; a creation within a transaction tells none.
        ops.set_data(self.paths.mark(place.uid), b"")

    def _find(self, session: Session, begin: str) -> str | None:
        parent = self.paths.parent
        children = session.gather([lambda client: client.sync_async(parent), self._children])[1]
        if isinstance(children, NoNodeError):
            return None
        return next((name for name in children if name.startswith(begin)), None)

    def _ahead(self, session: Session, place: _Place, children: Any) -> list[str] | None:
        """Those before us, the leader first; None if we are not there any more.

        ``children`` are asked for if they are not given.
        """
        marks: list[Any] = []
        if children is None:
            requests: list[Request] = [self._children]
            if place.token is None:
                requests.append(lambda client: client.exists_async(self.paths.mark(place.uid)))
            children, *marks = session.gather(requests)
        if isinstance(children, NoNodeError) or place.name not in children:
            return None
        for mark in marks:
            if mark is None:
                return None
            place.token = mark.czxid
        contenders = names.in_order(children)
        if names.overflowed(contenders):
            return self._ahead_by_czxid(session, place, contenders)
        return [one.name for one in takewhile(lambda one: one.name != place.name, contenders)]

    def _ahead_by_czxid(
        self, session: Session, place: _Place, contenders: list[names.Contender]
    ) -> list[str]:
        stats = session.gather([partial(self._exists, name=one.name) for one in contenders])
        assert place.token is not None, "asked before we entered"
        earlier = [
            (stat.czxid, one.name)
            for one, stat in zip(contenders, stats, strict=True)
            if stat is not None and stat.czxid < place.token
        ]
        return [name for _, name in sorted(earlier)]

    def _watch(self, session: Session, name: str) -> bool:
        """Be woken when that one changes; False if it is gone already.

        By reading it, because ``exists`` would leave a watch behind on what is gone.
        """
        try:
            session.ask(lambda client: client.get_async(self.paths.child(name), self._woken))
        except NoNodeError:
            return False
        return True

    def _woken(self, _event: object) -> None:
        self._wake.set()

    def _wait(
        self, session: Session, place: _Place, ahead: list[str], deadline: float | None
    ) -> None:
        """Until woken, or until the deadline; keeps ready for leading meanwhile."""
        lookout = ahead[-NEAR] if len(ahead) >= NEAR else None
        while True:
            pause = session.negotiated / 3 if lookout else self.bid.request_timeout
            if deadline is not None:
                pause = min(pause, deadline - now())
            if self._wake.wait(max(0.0, pause)) or (deadline is not None and now() >= deadline):
                return
            if lookout is None:
                try:
                    self._touch(session, place, session.patience)
                except LeadershipLost:
                    return  # the next look shows that our znode is gone
            elif session.ask(partial(self._exists, name=lookout)) is None:
                lookout = None

    def _exists(self, client: Any, name: str) -> Any:
        return client.exists_async(self.paths.child(name))

    # Leading -------------------------------------------------------------------------------------

    def _lead(self, session: Session, place: _Place) -> Grant | None:
        """None if cancelled. Raises LeadershipLost if our znode is gone."""
        oldest = FRESH * self.bid.request_timeout
        granted = session.granted
        tries = 0
        while now() - session.known_since > oldest:
            # Caught unprepared: a write now, and one a ping of the leader later, make it known.
            sent = now()
            self._touch(session, place, session.patience)
            self._measured(now() - sent)
            tries += 1
            if tries >= PROOFS and self._slow is not None:
                raise Unreachable("no proof of our session is fresh when its answer comes")
            if now() - session.known_since > oldest and self._cancelled.wait(session.ping):
                return None
        session.end_with_proof()
        assert place.name is not None, "elected before we entered"
        self._sentry = Sentry(session, self.paths.child(place.name), self._gone)
        self._sentry.post()
        self._tell_if_over()  # it may have ended before there was a sentry
        return Grant(place.token, session.known_since, granted)

    def _touch(self, session: Session, place: _Place, timeout: float) -> None:
        """Write to our mark, if our contender is still there. Raises LeadershipLost if not."""
        limit = now() + timeout
        while True:
            try:
                results, sent = session.transact(
                    lambda ops: self._touch_ops(ops, place), limit - now()
                )
            except BadVersionError:
                self._read_mark(session, place, limit)
            except NoNodeError:
                raise LeadershipLost("our znode was deleted", reason="deleted") from None
            else:
                session.committed(sent)
                place.version = results[1].version
                return

    def _touch_ops(self, ops: Any, place: _Place) -> None:
        assert place.name is not None, "touched before we entered"
        ops.check(self.paths.child(place.name), -1)
        ops.set_data(
            self.paths.mark(place.uid), STOP if place.asked else b"", version=place.version
        )

    def _read_mark(self, session: Session, place: _Place, limit: float) -> None:
        """Somebody asks us to stop, or a write of ours acted whose answer was lost."""
        path = self.paths.mark(place.uid)
        # Our own writes come before this read, another's may be new to our server: hence sync.
        answer = session.gather(
            [lambda client: client.sync_async(path), lambda client: client.get_async(path)],
            limit - now(),
        )[1]
        if isinstance(answer, Exception):
            raise LeadershipLost("our mark was deleted", reason="deleted")
        data, stat = answer
        place.version = stat.version
        place.asked = place.asked or data == STOP

    def renew(self) -> Renewal:
        """One committed write; validity counts from an earlier one (:class:`Proof`)."""
        session, place = self._held()
        try:
            self._touch(session, place, self.bid.request_timeout)
        except SessionLost as error:
            raise LeadershipLost(error.message, reason="expired") from error
        if self._sentry is not None:
            self._sentry.post()
        return Renewal(session.known_since, session.granted, place.asked)

    def _held(self) -> tuple[Session, _Place]:
        session, place = self._session, self._place
        if session is None or place is None or place.name is None:
            raise LeadershipLost("we hold no place in this election", reason="deleted")
        return session, place

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """See :class:`Checkpoints`."""
        session, place = self._held()
        assert place.token is not None, "a checkpoint before we led"
        if self._checkpoints is None:
            own = self.paths.child(place.name or "")
            self._checkpoints = Checkpoints(self.paths, own, place.token, self.bid.request_timeout)
        self._checkpoints.write(session, slot, value, seq)

    # Leaving -------------------------------------------------------------------------------------

    def release(self) -> None:
        """End the session, which removes our place, in one step.

        What it leaves empty is removed before that, if we are the last to leave.
        """
        session, place = self._session, self._place
        self._session = self._place = self._sentry = None
        if session is None:
            return
        limit = now() + session.patience
        if place is not None and place.name is not None and not session.interrupted:
            # Otherwise it is left to the server, and to electctl sweep.
            with suppress(ElectctlError):
                leave(session, self.paths, place.name, place.uid)
        session.end(limit)

    def receipt(self) -> str | None:
        """Our znode and its mark, whose names nobody else's ever have."""
        place = self._place
        if place is None or place.name is None:
            return None
        return names.Claim(self.bid.election, place.name, place.uid).pack()

    def _withdraw(self) -> None:
        with suppress(Unreachable):  # then the session runs out
            self.release()

    def _forget(self) -> None:
        """Leave the session to itself: it is over, or runs out."""
        session, self._session, self._place = self._session, None, None
        self._sentry = None
        if session is not None:
            session.abandon()

    def cancel(self) -> None:
        """Wake :meth:`acquire`; a request that is under way is waited for."""
        self._cancelled.set()
        self._wake.set()

    def close(self) -> None:
        """Drop the connection. The session, if it was not released, runs out by itself."""
        self._forget()
