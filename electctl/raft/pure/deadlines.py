"""When the leader ends a session: volatile, in ticks of the leader's own clock.

What this does not guarantee: that a session ends on time. A leader that ticks late ends it late,
which costs time without a leader, never exclusion: nothing here may end a session sooner than its
TTL after the renewal that the client counts from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from electctl.raft.pure.leases import Session


class Deadlines:
    """One leader's count, thrown away with its leadership. ``tick_ms`` is the length of a tick."""

    def __init__(self, tick_ms: int) -> None:
        self._tick_ms = tick_ms
        self._now = 0
        self._ends: dict[int, int] = {}

    @property
    def now(self) -> int:
        """Ticks so far."""
        return self._now

    def elected(self, sessions: Mapping[int, Session]) -> None:
        """A new leader knows of no renewal, so it gives every session its full TTL from now.

        Any renewal that an earlier leader confirmed arrived there before our election: the majority
        that proved its leadership afterwards shares a node with the majority that elected us.
        """
        self._ends = {}
        for number, session in sessions.items():
            self.renewed(number, session.ttl_ms, self._now)

    def renewed(self, number: int, ttl_ms: int, arrived: int) -> None:
        """The session lives for its TTL from tick ``arrived``, and a tick more.

        The part of a tick that had passed when it arrived is not known, so it is not counted.
        """
        end = arrived + -(-ttl_ms // self._tick_ms) + 1
        self._ends[number] = max(end, self._ends.get(number, 0))

    def ended(self, number: int) -> None:
        """The session is no more."""
        self._ends.pop(number, None)

    def left_ms(self, number: int) -> int:
        """Milliseconds for which the session lives at least, if nothing more is heard of it."""
        # Part of the present tick has passed already.
        return max(0, self._ends.get(number, 0) - self._now - 1) * self._tick_ms

    def tick(self) -> Iterable[int]:
        """A tick has passed; the sessions whose time is up, at each tick until they end.

        Those whose time was up first come first.
        """
        self._now += 1
        over = [(end, number) for number, end in self._ends.items() if end <= self._now]
        return [number for _, number in sorted(over)]
