"""What a leader knows of one follower's log: probing first, then a pipeline.

What this does not know: whether a message that was sent arrived. A gap shows as a rejection and
leads back to probing (the scheme of etcd's raft library, ``tracker/progress.go``).
"""

from __future__ import annotations


class Progress:
    """``match`` is known to agree, ``next`` is sent next."""

    __slots__ = ("active", "asked", "match", "next", "probing", "round")

    def __init__(self, following: int) -> None:
        self.match = 0
        self.next = following
        #: Probing sends one message at a time; otherwise entries are sent before answers come.
        self.probing = True
        #: While probing: the question is out.
        self.asked = False
        #: Heard from since the last look (check-quorum).
        self.active = False
        #: The latest heartbeat that was answered in this term.
        self.round = 0

    def matched(self, index: int) -> bool:
        """The logs agree up to ``index``. Whether that is news.

        The answer to a question that carried an entry always is. What is not is an old answer, or
        a copy of one: it must not bring about another question, or copies would breed.
        """
        if index <= self.match:
            return False
        self.asked = False
        self.match = index
        self.next = max(self.next, index + 1)
        self.probing = False
        return True

    def rejected(self, index: int, agreement: int) -> bool:
        """The follower has no such entry ``index``; try after ``agreement``. False if old news."""
        if index <= self.match or (self.probing and self.next != index + 1):
            return False
        self.probing = True
        self.asked = False
        self.next = max(self.match, agreement) + 1
        return True

    def room(self, window: int) -> int:
        """How many entries may be sent now; -1 if nothing may, not even an empty message."""
        if self.probing:
            return -1 if self.asked else window
        return max(0, window - (self.next - self.match - 1))

    def sent(self, count: int) -> None:
        """A message with that many entries has been sent."""
        if self.probing:
            self.asked = True
        else:
            self.next += count

    def installing(self, index: int) -> None:
        """A snapshot of the state after ``index`` has been sent."""
        self.probing = True
        self.asked = True
        self.next = index + 1
