"""Whether ``--keep`` campaigns again after a term, and after what pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from electctl.campaign.orders import Again

#: The pause in seconds after the first short term; it doubles with every further one.
FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0
#: A term of this many seconds was a long one: the pause starts again from the first.
LONG_TERM = 30.0


@dataclass(slots=True)
class Keep:
    """Counts terms. ``rand`` gives a number from 0 to 1; it spreads the pauses of many hosts."""

    enabled: bool
    max_terms: int | None
    rand: Callable[[], float]
    #: How often we have led.
    terms: int = 0
    _pause: float = FIRST_PAUSE

    def after(self, again: Again, led_for: float | None, *, told_to_stop: bool) -> float | None:
        """The pause in seconds before the next campaign; None to end.

        ``led_for`` is how many seconds the term lasted, None if it never began. An outage, or a
        host that lacks something for a moment, is a reason to try again once we have led
        (``again``: ``once_led``); before that it is the user's to know.
        """
        if led_for is not None:
            self.terms += 1
        worth_it = again == "yes" or (again == "once_led" and self.terms > 0)
        if not self.enabled or told_to_stop or not worth_it:
            return None
        if self.max_terms is not None and self.terms >= self.max_terms:
            return None
        if led_for is not None and led_for >= LONG_TERM:
            self._pause = FIRST_PAUSE
        pause = self._pause * (0.5 + 0.5 * self.rand())
        self._pause = min(2 * self._pause, MAX_PAUSE)
        return pause
