"""Looking again and again, for stores that tell nobody anything: when, until when, and no longer.

What this does not guarantee: that what lasts less than one interval is seen.

:class:`Pace` decides and is pure; :class:`Poll` waits. A candidacy and a watch that are made of
looks are here too, so that a backend of such a store writes the look alone.
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from electctl.base.clock import now
from electctl.contract.backend import Candidacy, Grant, View, Watch
from electctl.errors import ElectctlError, Throttled

T = TypeVar("T")

#: By which part of the interval a pause may be shorter, so that those who began together part.
JITTER = 0.2
#: Seconds: an event does not count time spent in suspend, so nobody waits for it longer at once.
_LONGEST_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``until`` then (on :func:`electctl.base.clock.now`), and look once more, or give up."""

    until: float
    then_look: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look: every ``interval`` seconds, or by up to ``jitter`` of it sooner."""

    interval: float
    jitter: float = JITTER

    def after_a_look(
        self, at: float, chance: float, *, deadline: float | None = None, retry_after: float = 0.0
    ) -> Pause:
        """What to do after a look in vain that ended ``at``; ``chance`` is from 0 to 1.

        The last look is at the deadline, and not sooner than a server allows that asked to be left
        alone for ``retry_after`` seconds: if that is beyond the deadline, there is no other look.
        """
        pause = self.interval * (1 - self.jitter * chance)
        due = at + max(pause, retry_after)
        if deadline is None or due <= deadline:
            return Pause(due, then_look=True)
        late = at >= deadline or at + retry_after > deadline
        return Pause(max(at, deadline), then_look=not late)


class Poll:
    """Looks at a pace, in one thread at a time; :meth:`cancel` from any other ends it for good."""

    def __init__(
        self,
        interval: float,
        *,
        jitter: float = JITTER,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pace = Pace(interval, jitter)
        self._chance = chance
        self._cancelled = threading.Event()
        #: When :meth:`when_due` looks next.
        self._due = 0.0

    def until(self, look: Callable[[], T | None], deadline: float | None) -> T | None:
        """What the first look brings that brings something.

        None once ``deadline`` has passed, after one look at least, or cancelled. Raises what
        ``look`` raises; but Throttled only if the deadline comes before the server would answer.
        """
        while not self._cancelled.is_set():
            found, throttled = _looked(look)
            if found is not None:
                return found
            pause = self._pause_after(throttled, deadline)
            self._wait(pause.until)
            if not pause.then_look:
                if throttled is not None and not self._cancelled.is_set():
                    raise throttled
                return None
        return None

    def when_due(self, look: Callable[[], T | None], deadline: float) -> T | None:
        """What a look brings that is due by ``deadline``; the first one is due at once.

        As :meth:`until`, but at one pace through all calls, however short: no look is sooner after
        the one before, and none is made because a deadline has come.
        """
        throttled = None
        while True:
            self._wait(min(self._due, deadline))
            if self._cancelled.is_set():
                return None
            if self._due > deadline:
                if throttled is not None:
                    raise throttled
                return None
            found, throttled = _looked(look)
            self._due = self._pause_after(throttled).until
            if found is not None:
                return found

    def _pause_after(self, throttled: Throttled | None, deadline: float | None = None) -> Pause:
        patience = 0.0 if throttled is None else throttled.retry_after
        return self._pace.after_a_look(
            now(), self._chance(), deadline=deadline, retry_after=patience
        )

    def _wait(self, until: float) -> None:
        while (left := until - now()) > 0 and not self._cancelled.is_set():
            self._cancelled.wait(min(left, _LONGEST_WAIT))

    def cancel(self) -> None:
        """Make both return None soon, now and whenever they are called again."""
        self._cancelled.set()


def _looked(look: Callable[[], T | None]) -> tuple[T | None, Throttled | None]:
    try:
        return look(), None
    except Throttled as error:
        return None, error


class PollingCandidacy(Candidacy):
    """A candidacy that looks every ``interval`` seconds until a look wins: see :meth:`look`."""

    def __init__(self, interval: float) -> None:
        self._poll = Poll(interval)

    @abstractmethod
    def look(self) -> Grant | None:
        """Take the election if it is free, in one atomic step; None if somebody else leads.

        Finds a write of ours again whose outcome was unknown. Sets ``contacted`` and ``rival``.
        """

    def acquire(self, deadline: float | None) -> Grant | None:
        """See :meth:`Candidacy.acquire`."""
        grant = self._poll.until(self.look, deadline)
        if grant is None:
            with suppress(ElectctlError):  # what cannot be withdrawn runs out by itself
                self.release()
        return grant

    def cancel(self) -> None:
        """See :meth:`Candidacy.cancel`."""
        self._poll.cancel()


class PollingWatch(Watch):
    """A stream of what ``view`` shows, by a look every ``interval`` seconds."""

    def __init__(self, view: Callable[[], View], interval: float) -> None:
        self._view = view
        self._shown: View | None = None
        self._poll = Poll(interval)

    def next(self, timeout: float) -> View | None:
        """The current view first, then each that differs from the one before."""
        return self._poll.when_due(self._news, now() + timeout)

    def _news(self) -> View | None:
        view = self._view()
        if self._shown is not None and view.state == self._shown.state:
            return None
        self._shown = view
        return view

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._poll.cancel()
