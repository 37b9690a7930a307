"""Connections to one target: to the server that has the key, as many as threads need.

What this does not guarantee: that a request which brought no answer did not act.

A node of a Redis Cluster that does not have a key says which one does. That is followed, and
remembered (:mod:`electctl_redis.slots`). A request is only sent again after an answer which says
that nothing was done; an unanswered one is the core's to judge, and all that follows here is that
the next request asks anew where the key is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis.exceptions

from electctl.base.clock import now
from electctl.errors import ElectctlError, Refused, Unreachable
from electctl_redis.failures import Elsewhere, serves_nobody
from electctl_redis.reach import connect, primary, share, summed_up
from electctl_redis.slots import Slots

if TYPE_CHECKING:
    from electctl_redis.link import Interrupt, Link
    from electctl_redis.scripts import Script
    from electctl_redis.target import Address, Target

#: How often one request is sent on: by a node that has yet to hear of a fail-over to the one that
#: was demoted, by this to the new one, and by this to where the slot is moving.
_HOPS = 3

#: Seconds that one of several nodes may take to say who has a key, if that is less than half of the
#: time left: a slow way takes several round trips, and an equal part for each may be too little.
_A_WORD = 1.5


class _Declined(Exception):
    """Nothing was done: there is no connection, or the server says that it serves nobody now."""

    def __init__(self, error: Unreachable) -> None:
        super().__init__(error.message)
        self.error = error


class Links:
    """Connections to one target, opened as needed; threads never wait for one another's answers."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._slots = Slots(target.hosts)
        self._idle: dict[Address | None, list[Link]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def open(self, key: bytes, deadline: float) -> Link:
        """A new connection to the server that has ``key``, which is the caller's to close."""
        if self.target.service is not None:
            return self._reach(None, deadline)
        place = self._slots.owner(key)
        if place is None:
            self.call("PTTL", key, key=key, timeout=max(0.001, deadline - now()))
            place = self._slots.owner(key) or self._slots.seeds[0]
        try:
            return self._reach(place, deadline)
        except Unreachable:
            self._slots.forget(place)
            raise

    def strayed(self, link: Link, key: bytes) -> bool:
        """Whether another server than the one at the far end is known to have ``key``."""
        return self._slots.owner(key) not in (None, link.address)

    def call(
        self,
        *args: object,
        key: bytes | None = None,
        at: Address | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One command and its answer, within ``timeout`` seconds, or those of all requests.

        It goes to the server that has ``key``, or to the one ``at`` that address, or to any.
        """
        deadline = now() + (timeout or self.timeout)

        def run(link: Link, asking: bool) -> Any:
            return link.call(*args, deadline=deadline, asking=asking)

        if key is not None:
            return self._follow(key, run, deadline)
        anywhere = self._slots.seeds[0] if self.target.service is None else None
        try:
            with self._lent(at or anywhere, deadline) as link:
                return run(link, False)
        except _Declined as declined:
            raise declined.error from None

    def script(
        self,
        script: Script,
        keys: tuple[bytes, ...],
        *args: bytes | str | int,
        interrupt: Interrupt | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a script by its digest; its text is sent only to a server that does not know it.

        Raises Interrupted as well as ours.
        """
        return self.timed(script, keys, *args, interrupt=interrupt, timeout=timeout)[1]

    def timed(
        self,
        script: Script,
        keys: tuple[bytes, ...],
        *args: bytes | str | int,
        interrupt: Interrupt | None = None,
        timeout: float | None = None,
    ) -> tuple[float, Any]:
        """As :meth:`script`: just before what was answered was sent, and the answer.

        Nothing that was sent before that has acted, and no time is in it for finding the server:
        one that is silent, a connection, a node that has the key no more.
        """
        deadline = now() + (timeout or self.timeout)
        rest = (len(keys), *keys, *args)

        def run(link: Link, asking: bool) -> tuple[float, Any]:
            how: dict[str, Any] = {"deadline": deadline, "interrupt": interrupt, "asking": asking}
            try:
                return now(), link.call("EVALSHA", script.sha, *rest, **how)
            except redis.exceptions.NoScriptError:
                return now(), link.call("EVAL", script.text, *rest, **how)

        found: tuple[float, Any] = self._follow(keys[0], run, deadline)
        return found

    # Which server --------------------------------------------------------------------------------

    def _follow(self, key: bytes, run: Callable[[Link, bool], Any], deadline: float) -> Any:
        """What ``run`` returns at the server that has ``key``."""
        place, asking = self._owner(key, deadline), False
        for hop in range(_HOPS + 1):
            try:
                with self._lent(place, deadline) as link:
                    answer = run(link, asking)
            except Elsewhere as found:
                if place is None:
                    raise found.error from None
                if hop == _HOPS:
                    raise Unreachable(
                        f"the nodes of the Redis Cluster send us on and on, {link.peer} at last",
                        hint="do they agree who has the key? redis-cli --cluster check",
                    ) from None
                place, asking = found.place, found.asking
                if not asking:
                    self._slots.learn(key, place)
            except _Declined as declined:
                self._forget(place)
                if hop == _HOPS or (another := self._owner(key, deadline)) == place:
                    raise declined.error from None
                place, asking = another, False
            except Unreachable:
                self._forget(place)
                raise
            else:
                if place is not None and not asking:
                    self._slots.learn(key, place)
                return answer
        raise AssertionError("the last hop returns or raises")

    def _owner(self, key: bytes, deadline: float) -> Address | None:
        """Who has ``key``, as far as is known; of several who may know, one that answers."""
        if self.target.service is not None:
            return None
        seeds = self._slots.seeds
        if (known := self._slots.owner(key)) is not None or len(seeds) == 1:
            return known or seeds[0]
        troubles: list[ElectctlError] = []
        for index, seed in enumerate(seeds):
            # Some is left for the request. Who was silent is asked last the next time.
            enough = now() + min(_A_WORD, (deadline - now()) / 2)
            limit = max(enough, share(deadline, len(seeds) - index + 1))
            try:
                with self._lent(seed, limit) as link:
                    link.call("PTTL", key, deadline=limit)
            except Elsewhere as found:
                if not found.asking:
                    seed = found.place
            except (_Declined, Unreachable, Refused) as error:
                self._forget(seed)
                troubles.append(error.error if isinstance(error, _Declined) else error)
                continue
            self._slots.learn(key, seed)
            return seed
        raise summed_up(troubles, "is the Redis Cluster up, and are these its nodes?")

    def _forget(self, place: Address | None) -> None:
        if place is not None:
            self._slots.forget(place)

    def _reach(self, place: Address | None, deadline: float) -> Link:
        if place is None:
            return primary(self.target, deadline)
        # Half of the time is for asking others, where there are any.
        alone = self._slots.seeds == (place,)
        return connect(self.target, place, deadline if alone else share(deadline, 2))

    # Idle ones -----------------------------------------------------------------------------------

    @contextmanager
    def _lent(self, place: Address | None, deadline: float) -> Iterator[Link]:
        """A connection for one request. Raises _Declined and Elsewhere as well as ours."""
        link = self._take(place)
        if link is None:
            try:
                link = self._reach(place, deadline)
            except Unreachable as error:
                raise _Declined(error) from error
        try:
            with link.translated():
                yield link
        except BaseException as error:
            link.close()
            if isinstance(error, Unreachable) and serves_nobody(error.__cause__):
                raise _Declined(error) from error
            raise
        with self._lock:
            if not self._closed:
                self._idle.setdefault(place, []).append(link)
                return
        link.close()

    def _take(self, place: Address | None) -> Link | None:
        while True:
            with self._lock:
                if self._closed:
                    raise Unreachable("the connection to Redis has been closed here")
                idle = self._idle.get(place)
                if not idle:
                    return None
                link = idle.pop()
            if link.idle_and_sound():
                return link
            link.close()

    def close(self) -> None:
        """Close the idle connections now and those in use when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for links in idle.values():
            for link in links:
                link.close()


class Subscription:
    """A connection that receives what is published on its channels, in order."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._early: deque[tuple[bytes, bytes]] = deque()

    def subscribe(self, channel: bytes, deadline: float, *, optional: bool = False) -> None:
        """Return when the server has it. Raises Refused without the right, unless ``optional``."""
        with self.link.translated():
            try:
                self.link.send("SUBSCRIBE", channel)
                while (found := self.link.read(deadline))[0] != b"subscribe":
                    self._keep(found)
            except redis.exceptions.NoPermissionError:
                if not optional:
                    raise

    def next(
        self, deadline: float, interrupt: Interrupt | None = None
    ) -> tuple[bytes, bytes] | None:
        """The next (channel, message); None once ``deadline`` has passed. Raises Interrupted."""
        with self.link.translated():
            while not self._early:
                if not self.link.ready(deadline, interrupt):
                    return None
                self._keep(self.link.read(deadline + 1.0))
            return self._early.popleft()

    def _keep(self, found: Any) -> None:
        if found[0] == b"message":
            self._early.append((found[1], found[2]))

    def close(self) -> None:
        """Close the connection."""
        self.link.close()
