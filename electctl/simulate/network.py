"""The simulated network: delay, loss, duplication, reordering, partitions in one direction.

What this does not simulate: connections. Every message travels alone, so any order and any loss
that reconnecting could bring can happen.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from electctl.raft.pure.messages import Message
from electctl.raft.pure.requests import Answer, Notice, Request
from electctl.simulate.sights import Sight

#: How much longer a message takes in a slow network.
SLOW = 12.0


class Letter(NamedTuple):
    """A message under way between two addresses. What follows a dot in one is not the machine."""

    sender: str
    receiver: str
    message: Message | Request | Answer | Notice


Deliver = Callable[[float, Letter], None]


class Network:
    """Calls ``deliver(delay, letter)`` for each copy that will arrive.

    ``loss`` is of the weather now; while ``slow`` is above 0, delays are much longer. One that
    straggles takes up to ``latest`` seconds more; the second copy of one that is doubled straggles
    with the chance ``echo``.
    """

    def __init__(
        self,
        draw: random.Random,
        deliver: Deliver,
        *,
        delay: float,
        loss: float,
        double: float,
        straggle: float,
        latest: float,
        echo: float,
        seen: Counter[Sight],
    ) -> None:
        self._random = draw.random
        self._deliver = deliver
        self._delay = delay
        self._double = double
        self._straggle = straggle
        self._latest = latest
        self._echo = echo
        self._seen = seen
        self.loss = loss
        self.slow = 0
        self._blocked: dict[tuple[str, str], int] = {}
        self._lags: dict[tuple[str, str], float] = {}

    def calm_down(self) -> None:
        """From now on nothing is lost, doubled or very late; what is under way may still be."""
        self.loss = self._double = self._straggle = self._echo = 0.0

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing pass in this direction; several blocks add up."""
        pair = sender, receiver
        self._blocked[pair] = self._blocked.get(pair, 0) + 1

    def unblock(self, sender: str, receiver: str) -> None:
        """Take one block away."""
        self._blocked[sender, receiver] -= 1

    def lag(self, sender: str, receiver: str, seconds: float) -> None:
        """Let what is sent in this direction take that much longer; several lags add up."""
        pair = sender, receiver
        self._lags[pair] = self._lags.get(pair, 0.0) + seconds

    def send(self, letter: Letter) -> None:
        """Send, and forget. One machine has one link, whatever its addresses."""
        link = letter.sender.partition(".")[0], letter.receiver.partition(".")[0]
        if self._blocked and self._blocked.get(link):
            self._seen[Sight.CUT] += 1
            return
        if self.loss and self._random() < self.loss:
            self._seen[Sight.LOST] += 1
            return
        lag = 0.0
        if self._lags and (lag := self._lags.get(link, 0.0)):
            self._seen[Sight.LAG] += 1
        self._deliver(lag + self._travel(self._straggle), letter)
        if self._double and self._random() < self._double:
            self._seen[Sight.DOUBLED] += 1
            self._deliver(lag + self._travel(self._echo), letter)

    def _travel(self, straggle: float) -> float:
        random_ = self._random
        time = self._delay * (0.5 + random_()) * (SLOW if self.slow else 1.0)
        if straggle and random_() < straggle:
            self._seen[Sight.LATE] += 1
            time += self._latest * random_() ** 2
        return time
