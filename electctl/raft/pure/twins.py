"""Two live candidates under one id: seen by when each was heard of.

What this does not show: which of the two should go. The one that came later is told.
"""

from __future__ import annotations

from msgspec import Struct

from electctl.raft.pure.leases import LeaseTable, Standing


class _Heard(Struct, frozen=True):
    """The ticks at which a session was heard of: first, last but one, last."""

    first: int
    before: int
    last: int


class Twins:
    """What one leader has heard of each session; it is thrown away with its leadership."""

    def __init__(self) -> None:
        self._heard: dict[int, _Heard] = {}

    def hear(self, number: int, now: int) -> None:
        """The session has been heard of, at tick ``now``."""
        heard = self._heard.get(number, _Heard(now, now, now))
        self._heard[number] = _Heard(heard.first, heard.last, now)

    def ended(self, number: int) -> None:
        """The session is no more."""
        self._heard.pop(number, None)

    def twin(self, number: int, standing: Standing | None, table: LeaseTable) -> bool:
        """Whether somebody of the same id who comes before it has shown to be alive since it came.

        The remains of a dead predecessor are heard of no more. One sign may have been long under
        way, so it takes two.
        """
        if standing is None or not standing.ahead:
            return False
        own = table.sessions[number]
        assert own.election is not None
        election = table.elections[own.election]
        since = self._heard[number].first
        for other in (election.holder, *election.queue):
            if other is None or other == number:
                continue
            heard = self._heard.get(other)
            same = table.sessions[other].candidate == own.candidate
            if same and other < number and heard is not None and heard.before > since:
                return True
        return False
