"""Views of an election on Redis, and the stream of them.

What this does not guarantee: that a leadership of a foreign tool which lasted less than a second is
seen where the server sends no keyspace notifications. Every change by electctl itself is published
by the script that makes it, with its content, so none is missed and none made up.

All that a watch shows comes down one subscribed connection, in the order in which the server did
it: a look at the present state is published to the watcher too, instead of being answered.
"""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import Any

from electctl.base.clock import now
from electctl.contract.backend import Holder, View, Watch
from electctl.errors import Unreachable
from electctl_redis import scripts
from electctl_redis.connect import Links, Subscription
from electctl_redis.link import Interrupt, Interrupted
from electctl_redis.names import Keys, new_nonce, owner

#: Seconds between looks at what nobody publishes: expiry, foreign tools, the queue.
LOOK_INTERVAL = 1.0
#: Seconds after the end of a lock's time at which it is gone for certain.
_AFTER_EXPIRY = 0.005
#: Seconds after a published change at which the queue has settled.
_SETTLED = 0.05


def _since(milliseconds: int) -> str:
    stamp = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def _holder(value: bytes, left_ms: int, token: int | None, since: int, ttl_ms: int) -> Holder:
    who = owner(value)
    left = left_ms / 1000 if left_ms >= 0 else None
    if not who.ours:
        return Holder(who.id, key=who.id, expires_in=left, can_be_asked=False)
    if token is None:  # the hash that knows this term has been lost
        return Holder(who.id, key=who.nonce, expires_in=left)
    return Holder(who.id, token, who.nonce, _since(since), ttl_ms / 1000, left)


def view_of(answer: list[Any]) -> View:
    """Read what the script LOOK answers."""
    value, left, term, token, since, ttl, members = answer
    waiting = tuple(owner(member[17:]).id for member in members)
    if not value:
        return View(None, waiting)
    if term != value:
        return View(_holder(value, left, None, 0, 0), waiting)
    return View(_holder(value, left, int(token), int(since), int(ttl)), waiting)


def _aloud(message: bytes) -> View:
    # Lua's JSON carries bytes as they are, also those that are no UTF-8; its empty list is {}.
    answer = json.loads(message.decode("utf-8", "surrogateescape"))
    plain = [_bytes(item) for item in answer[:-1]]
    return view_of([*plain, [_bytes(item) for item in answer[-1] or []]])


def _bytes(item: object) -> object:
    return item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item


class RedisWatch(Watch):
    """See :class:`electctl.contract.backend.Watch`. Unreachable when the connection is lost."""

    def __init__(self, links: Links, election: str) -> None:
        self.keys = Keys.of(election, links.target.db)
        self._links = links
        self._own = self.keys.wake(new_nonce())
        self._interrupt = Interrupt()
        self._subscription: Subscription | None = None
        self._shown: View | None = None
        self._look_at = 0.0
        #: When an answer to the look under way is overdue.
        self._overdue: float | None = None
        #: Held by the thread in ``next``: a connection is never closed under another's hands.
        self._in_use = threading.Lock()

    def next(self, timeout: float) -> View | None:
        """The current view first, then each change; None after ``timeout`` seconds without one."""
        deadline = now() + timeout
        with self._in_use, contextlib.suppress(Interrupted):
            while not self._interrupt.is_set:
                view = self._advance(deadline)
                if view is not None and self._is_news(view):
                    self._shown = view
                    return view
                if now() >= deadline and self._shown is not None:
                    return None
        return None

    def _is_news(self, view: View) -> bool:
        return self._shown is None or self._shown.state != view.state

    def _advance(self, deadline: float) -> View | None:
        """One message or one look."""
        if self._subscription is None or self._strayed(self._subscription):
            self._unsubscribe()
            self._subscription = self._subscribe()
            self._look_at = now()
        if now() >= self._look_at:
            self._look(self._subscription)
        # The first view is waited for, however short the caller's time is.
        limit = deadline if self._shown is not None else self._look_at
        found = self._subscription.next(min(limit, self._look_at), self._interrupt)
        if found is None:
            if self._overdue is not None and now() >= self._overdue:
                raise Unreachable("Redis publishes nothing to us any more")
            return None
        channel, message = found
        if channel == self._own:
            self._overdue = None
            return self._plan(_aloud(message))
        if channel == self.keys.changes:
            self._look_at = min(self._look_at, now() + _SETTLED)
            return self._changed(message)
        if message not in (b"expire", b"set") or not self._held_by_us():
            self._look_at = now()
        return None

    def _held_by_us(self) -> bool:
        shown = self._shown
        return shown is not None and shown.holder is not None and shown.holder.can_be_asked

    def _subscribe(self) -> Subscription:
        limit = now() + self._links.timeout
        subscription = Subscription(self._links.open(self.keys.lock, limit))
        try:
            subscription.subscribe(self._own, limit)
            subscription.subscribe(self.keys.changes, limit)
            subscription.subscribe(self.keys.keyspace, limit, optional=True)
        except BaseException:
            subscription.close()
            raise
        return subscription

    def _strayed(self, subscription: Subscription) -> bool:
        return self._links.strayed(subscription.link, self.keys.lock)

    def _look(self, subscription: Subscription) -> None:
        """Have the present state published to us."""
        self._look_at = now() + LOOK_INTERVAL
        self._overdue = self._overdue or now() + self._links.timeout
        heard = self._links.script(
            scripts.LOOK_ALOUD, self.keys.queue, self._own, interrupt=self._interrupt
        )
        if heard == 0 and not self._strayed(subscription):
            raise Unreachable("the connection that Redis publishes to us on is lost")

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _plan(self, view: View) -> View:
        if view.holder is not None and view.holder.expires_in is not None:
            self._look_at = min(self._look_at, now() + view.holder.expires_in + _AFTER_EXPIRY)
        return view

    def _changed(self, message: bytes) -> View | None:
        if self._shown is None:
            return None  # the look that is under way comes after it, and knows more
        waiting = self._shown.waiting
        if message == b"free":
            return View(None, waiting)
        _, token, ttl, since, value = message.split(b" ", 4)
        holder = _holder(value, int(ttl), int(token), int(since), int(ttl))
        queue = list(waiting)
        if holder.id in queue:
            queue.remove(holder.id)
        return View(holder, tuple(queue))

    def close(self) -> None:
        """A blocked :meth:`next` in another thread returns None soon."""
        self._interrupt.set()
        with self._in_use:
            self._unsubscribe()
            self._interrupt.close()
