"""The simulated network: delay, loss, duplication, reordering, partitions in one direction.

What this does not simulate: connections. Every message travels alone, so any order and any loss
that reconnecting could bring can happen.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from electctl.raft.messages import Message
from electctl.raft.requests import Answer, Notice, Request

#: How much longer a message takes in a slow network, and how long one that straggles, at most.
SLOW = 12.0
STRAGGLE = 5.0


class Letter(NamedTuple):
    """A message under way between two addresses. What follows a dot in one is not the machine."""

    sender: str
    receiver: str
    message: Message | Request | Answer | Notice


Deliver = Callable[[float, Letter], None]


class Network:
    """Calls ``deliver(delay, letter)`` for each copy that will arrive.

    ``loss`` is of the weather now; while ``slow`` is above 0, delays are much longer.
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
    ) -> None:
        self._random = draw.random
        self._deliver = deliver
        self._delay = delay
        self._double = double
        self._straggle = straggle
        self.loss = loss
        self.slow = 0
        self._blocked: dict[tuple[str, str], int] = {}

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing pass in this direction; several blocks add up."""
        pair = sender, receiver
        self._blocked[pair] = self._blocked.get(pair, 0) + 1

    def unblock(self, sender: str, receiver: str) -> None:
        """Take one block away."""
        self._blocked[sender, receiver] -= 1

    def send(self, letter: Letter) -> None:
        """Send, and forget. One machine has one link, whatever its addresses."""
        link = letter.sender.partition(".")[0], letter.receiver.partition(".")[0]
        if self._blocked.get(link) or self._random() < self.loss:
            return
        self._deliver(self._travel(), letter)
        if self._double and self._random() < self._double:
            self._deliver(self._travel(), letter)

    def _travel(self) -> float:
        random_ = self._random
        time = self._delay * (0.5 + random_()) * (SLOW if self.slow else 1.0)
        if self._straggle and random_() < self._straggle:
            time += STRAGGLE * random_() ** 2
        return time
