"""What in a leader's log, not yet applied, could take from a session what it holds.

What this does not know: whether it will. An expiry may find the session gone, and a later leader
may have another log.

It is asked at every renewal and for every session that is overdue, so it counts and does not look
through the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from electctl.raft.pure.commands import Close, Command, Evict, Expire, Leave
from electctl.raft.pure.leases import LeaseTable

_Key = TypeVar("_Key")


class Endings:
    """Of one leadership: what the log held when it began, and what was appended since."""

    def __init__(self, unapplied: Iterable[Command] = ()) -> None:
        self._expiries: Counter[int] = Counter()
        #: Also what a client asked for itself.
        self._sessions: Counter[int] = Counter()
        self._elections: Counter[str] = Counter()
        for command in unapplied:
            self.appended(command)

    def appended(self, command: Command) -> None:
        """It stands in the log."""
        self._count(command, 1)

    def applied(self, command: Command) -> None:
        """It has had its effect."""
        self._count(command, -1)

    def expiring(self, number: int) -> bool:
        """Whether the log holds an expiry of the session."""
        return number in self._expiries

    def threatens(self, number: int, table: LeaseTable) -> bool:
        """Whether the log holds anything that could take from the session what it holds."""
        session = table.sessions.get(number)
        return number in self._sessions or (
            session is not None and session.election in self._elections
        )

    def _count(self, command: Command, by: int) -> None:
        match command:
            case Expire(session=session):
                _add(self._expiries, session, by)
                _add(self._sessions, session, by)
            case Leave(session=session) | Close(session=session):
                _add(self._sessions, session, by)
            case Evict(election=name, force=True):
                _add(self._elections, name, by)


def _add(counter: Counter[_Key], key: _Key, by: int) -> None:
    counter[key] += by
    if not counter[key]:
        del counter[key]
