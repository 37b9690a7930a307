"""The receipt of a grant: what names one leadership, in one cluster and no other.

What this does not guarantee: that a cluster whose store was wiped is told from the one before, if
the same id has since come to lead the same election under the same numbers.

A session's number is the index of a log entry. It is never used again in its cluster, and in every
other one somebody has it, too: so alone it would name a stranger there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from electctl.errors import UsageError
from electctl.raft.pure.requests import ElectionSeen


@dataclass(frozen=True, slots=True)
class Claim:
    """One grant: the election, who leads it, its token, and the session that holds it."""

    election: str
    candidate: str
    token: int
    session: int

    def pack(self) -> str:
        """As a text."""
        return json.dumps([self.election, self.candidate, self.token, self.session])

    @classmethod
    def unpack(cls, text: str) -> Claim:
        """Read what :meth:`pack` made. Raises UsageError."""
        try:
            match json.loads(text):
                case [str(election), str(candidate), int(token), int(session)]:
                    return cls(election, candidate, token, session)
        except ValueError:
            pass
        raise UsageError("this is no receipt of a grant in the built-in Raft")

    def stands(self, seen: ElectionSeen) -> bool:
        """Whether the election is led under this grant."""
        return (seen.holder, seen.token, seen.session) == (
            self.candidate,
            self.token,
            self.session,
        )
