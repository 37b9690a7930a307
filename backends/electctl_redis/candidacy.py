"""One candidate's attempt to lead an election on Redis.

What this does not guarantee: order. Who has waited longest is woken first, but a newcomer, ours or
a foreign tool, can take a lock in the moment in which it is free. Nor that the grant is ours alone
(see the traits).

Source of the lock: https://redis.io/docs/latest/commands/set/#patterns, with an id, a fencing
counter and a queue added; each step is one script of :mod:`electctl_redis.scripts`.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from electctl.base.clock import now
from electctl.base.latency import too_slow
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.errors import DuplicateId, ElectctlError, LeadershipLost
from electctl_redis import scripts
from electctl_redis.connect import Links, Subscription
from electctl_redis.link import Interrupt, Interrupted
from electctl_redis.names import Claim, Keys, new_nonce, owner
from electctl_redis.target import Target

#: Seconds for the first request, and the connection that it needs.
FIRST_CONTACT = 5.0
#: Seconds between two looks at a foreign holder's key by the first waiter.
FOREIGN_POLL = 0.5
#: What PTTL answers where there is no key.
_FREE = -2
#: Keyspace events after which a lock need not be looked at: it is taken, or lives on.
_STILL_HELD = frozenset({b"set", b"expire"})
#: By how much (s) the end of a rival's time must move for it to be a sign of life: PTTL is whole
#: milliseconds, and clocks run at different rates.
_SIGN_OF_LIFE = 0.25


@dataclass(frozen=True, slots=True)
class _Busy:
    """Somebody leads: who, when to renew our place and when to look whether the lock has run out
    (on our clock), and our place."""

    value: bytes
    look_at: float
    glance_at: float
    rank: int


class RedisCandidacy(Candidacy):
    """Enters, waits, renews, releases. See :class:`electctl.contract.backend.Candidacy`.

    ``notes`` takes remarks for people.
    """

    def __init__(self, target: Target, bid: Bid, notes: set[str]) -> None:
        self.bid = bid
        self._notes = notes
        self.keys = Keys.of(bid.election, target.db)
        self._nonce = new_nonce()
        self.value = bid.candidate.encode() + b":" + self._nonce
        #: Rounded up: the store never grants less than the bid says.
        self._ttl_ms = math.ceil(bid.ttl * 1000)
        self._links = Links(target, bid.request_timeout)
        self._interrupt = Interrupt()
        self._subscription: Subscription | None = None
        #: When we entered, by the server's clock; "" before.
        self._stamp = b""
        #: Whether something of ours may be in the store.
        self._may_remain = False
        #: Others under our id, by value: until when each can live by what was seen last, and how
        #: often that was put off.
        self._rivals: dict[bytes, tuple[float, int]] = {}

    # Entering ------------------------------------------------------------------------------------

    def acquire(self, deadline: float | None) -> Grant | None:
        """Enter, wait and return the grant. The lock is taken by one request where it is free."""
        try:
            while True:
                answer = self._try(deadline)
                if isinstance(answer, Grant):
                    return answer
                if deadline is not None and now() >= deadline:
                    break
                if self._subscription is None or self._strayed(self._subscription):
                    # Only now, and before the place in the queue is taken: no word can be missed.
                    self._unsubscribe()
                    self._subscription = self._subscribe()
                else:
                    self._wait(self._subscription, answer, deadline)
        except Interrupted:
            pass
        finally:
            self._unsubscribe()
        self._withdraw()
        return None

    def _try(self, deadline: float | None) -> Grant | _Busy:
        stamp = b"" if self._subscription is None else self._stamp or b"0"
        remained = self._may_remain
        self._may_remain = True
        since, answer = self._links.timed(
            scripts.ACQUIRE,
            (*self.keys.queue, self.keys.floor),
            self.keys.channels,
            self.value,
            self._ttl_ms,
            stamp,
            interrupt=self._interrupt,
            timeout=None if self.contacted else self._first_contact(deadline),
        )
        if not self.contacted:
            self._measured(now() - since)
        self.contacted = True
        if answer[0] == 1:
            return Grant(token=answer[1], since=since, ttl=self.bid.ttl)
        value, left = answer[1], answer[2] / 1000
        self.rival = owner(value).id
        if owner(value).id == self.bid.candidate and owner(value).ours:
            self._watch_rival(value, since + left, now() + left)
        if stamp == b"":
            self._may_remain = remained  # this request has left nothing
            return _Busy(value, now(), now(), 0)
        _, _, _, look, rank, self._stamp, rival, till = answer
        if rival is not None:
            self._watch_rival(rival, int(till) / 1000, int(till) / 1000)
        return _Busy(value, now() + look / 1000, self._glance_at(rank, left), rank)

    def _glance_at(self, rank: int, left: float) -> float:
        """When to look whether a lock with ``left`` seconds has run out."""
        if rank < scripts.LOOKERS:
            return math.inf
        return now() + scripts.glance_in(rank, left, self.bid.ttl)

    def _first_contact(self, deadline: float | None) -> float:
        """Seconds for the first request.

        Nothing runs out yet, and a slow way takes several round trips to connect. But who waits for
        less time still wants to hear of all the servers that are named.
        """
        left = math.inf if deadline is None or deadline <= now() else deadline - now()
        return max(min(FIRST_CONTACT, left), self.bid.request_timeout)

    def _measured(self, took: float) -> None:
        """The first answer took so many seconds."""
        slow = too_slow("Redis", took, 1, self.bid.request_timeout, self.bid.ttl)
        if slow is not None:
            self._notes.add(slow)

    def _watch_rival(self, value: bytes, earliest: float, latest: float) -> None:
        """A predecessor's remains only run out; what extends its time is another live process.

        It was seen to end between ``earliest`` and ``latest``. Once it may be a request of the
        dead, or of our own last term, that a network gave up late; so it takes two.
        """
        until, signs = self._rivals.get(value, (latest, 0))
        if earliest > until + _SIGN_OF_LIFE:
            until, signs = latest, signs + 1
        self._rivals[value] = until, signs
        if signs >= 2:
            raise DuplicateId(
                f"another process campaigns for {self.bid.election!r} as {self.bid.candidate!r}",
                hint="give each candidate an --id of its own",
            )

    # Waiting -------------------------------------------------------------------------------------

    def _subscribe(self) -> Subscription:
        limit = now() + self.bid.request_timeout
        subscription = Subscription(self._links.open(self.keys.lock, limit))
        try:
            subscription.subscribe(self.keys.wake(self._nonce), limit)
        except BaseException:
            subscription.close()
            raise
        return subscription

    def _strayed(self, subscription: Subscription) -> bool:
        # What is published elsewhere in a cluster does arrive, but counts as heard by nobody.
        return self._links.strayed(subscription.link, self.keys.lock)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _wait(self, subscription: Subscription, busy: _Busy, deadline: float | None) -> None:
        """Return when it is time to try again. Raises Interrupted."""
        look_at, glance_at, rank = busy.look_at, busy.glance_at, busy.rank
        stand_in_at = math.inf
        # Only the first looks at a foreign holder often: its tool tells nobody when it lets go.
        foreign = busy.rank == 0 and not owner(busy.value).ours
        if foreign:
            limit = now() + self.bid.request_timeout
            subscription.subscribe(self.keys.keyspace, limit, optional=True)
        while True:
            until = min(look_at, stand_in_at, math.inf if deadline is None else deadline)
            poll_at = now() + FOREIGN_POLL if foreign else glance_at
            found = subscription.next(min(until, poll_at), self._interrupt)
            if found is None:
                if now() >= until:
                    return
                lock = self.keys.lock
                if foreign:
                    held = self._links.call("GET", lock, key=lock) == busy.value
                    if not held or self._strayed(subscription):
                        return
                    continue
                left = self._links.call("PTTL", lock, key=lock)
                if left == _FREE or self._strayed(subscription):
                    return
                glance_at = self._glance_at(rank, left / 1000)
                continue
            channel, message = found
            if channel == self.keys.keyspace:
                if message not in _STILL_HELD:
                    return
                continue
            match message.split():
                case [b"standby", pause]:
                    stand_in_at = min(stand_in_at, now() + int(pause) / 1000)
                case [b"rank", place, pause]:
                    rank, foreign, stand_in_at = int(place), False, math.inf
                    if rank < scripts.LOOKERS:
                        look_at, glance_at = now() + int(pause) / 1000, math.inf
                    else:
                        glance_at = now() + int(pause) / 1000
                case _:  # b"free"
                    return

    def cancel(self) -> None:
        """Make ``acquire`` return None: it never waits without looking at the interrupt too."""
        self._interrupt.set()

    def _withdraw(self) -> None:
        # What cannot be taken back runs out by itself.
        with contextlib.suppress(ElectctlError):
            self.release()

    # Leading -------------------------------------------------------------------------------------

    def renew(self) -> Renewal:
        """Extend the lock if its value is still ours."""
        since, answer = self._links.timed(
            scripts.RENEW, (self.keys.lock, self.keys.term), self.value, self._ttl_ms
        )
        if answer is None:
            raise LeadershipLost(
                f"the lock {self.bid.election!r} is no longer ours", reason="deleted"
            )
        return Renewal(since=since, ttl=self.bid.ttl, stop_requested=answer == 1)

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """Write if the lock's value is still ours, in one script."""
        written = self._links.script(
            scripts.CHECKPOINT,
            (self.keys.lock, self.keys.checkpoint),
            self.value,
            slot.encode(),
            value,
            seq,
        )
        if written != 1:
            raise LeadershipLost(
                f"the lock {self.bid.election!r} is no longer ours; nothing was written",
                reason="deleted",
            )

    def release(self) -> None:
        """Delete the lock if its value is ours, leave the queue, wake the next; in one script."""
        if not self._may_remain:
            return
        self._links.script(scripts.RELEASE, self.keys.queue, self.keys.channels, self.value)
        self._may_remain = False

    def receipt(self) -> str:
        """The lock's value, which has our nonce in it."""
        return Claim(self.bid.election, self.value).pack()

    def close(self) -> None:
        """Close the connections."""
        self._unsubscribe()
        self._links.close()
        self._interrupt.close()
