"""Since when ZooKeeper's leader surely counts our session's time-out.

What this does not guarantee: anything where the leader's ping needs more than half a tick longer
than usual to reach a follower that is cut off at that very moment.

How the server counts (ZooKeeper 3.8: ``LearnerSessionTracker``, ``LearnerHandler.run``,
``Leader.lead``, ``ExpiryQueue``):

- The leader alone expires sessions: never earlier than the time-out after it was last told that
  the session is alive ("touched"); it rounds up to the next tick.
- A follower answers pings and reads by itself. It keeps a table of the sessions it heard from and
  sends it with its answer to the leader's ping, which comes twice a tick. A write that it forwards
  does *not* touch the session at the leader. So a follower that is cut off can answer for
  ``syncLimit`` ticks while the leader expires the session.
- Opening a session, and taking it up again on a new connection, are put before the leader itself
  (``createSession``, ``REVALIDATE``), and touch it there.
- A write is committed only if the leader finds the session alive. Its table-sends and forwarded
  writes come down one stream in order.

So a committed write proves that all that the follower had told the leader before has arrived, and
what was answered at least one ping earlier is among it. It does not prove that it was itself heard.
"""

from __future__ import annotations

from collections import deque


class Proof:
    """Feed it with what happened; :attr:`since` is a time no later than the last known touch.

    Times are readings of :func:`electctl.base.clock.now`; ``tick`` is the server's, in seconds.
    """

    def __init__(self, opened: float, tick: float) -> None:
        self.since = opened
        self.tick = tick
        self._writes: deque[tuple[float, float]] = deque()

    def taken_up(self, sent: float) -> None:
        """A connection request sent at ``sent`` was accepted for this session."""
        self.since = max(self.since, sent)

    def committed(self, sent: float, answered: float) -> None:
        """A write sent at ``sent`` was answered at ``answered``: earlier ones are now known."""
        while self._writes and self._writes[0][1] + self.ping <= sent:
            self.since = max(self.since, self._writes.popleft()[0])
        self._writes.append((sent, answered))

    @property
    def ping(self) -> float:
        """Seconds between two pings of the leader."""
        return self.tick / 2
