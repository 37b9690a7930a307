"""Drives a sans-I/O client of a cluster over real connections; any number of threads wait on it.

What this does not guarantee: an answer. Time passes for the client only while somebody waits.

The nodes are known to the client by their place in the list of addresses. Which number a node has
is learnt from its greeting, so that the word of one node on who leads can be followed to another.
A leader that is not in the list cannot be followed: then no answer comes, and the error says so.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from electctl.base.clock import now
from electctl.errors import ElectctlError, Refused, Unreachable, UsageError
from electctl.raft.io.channel import (
    CONNECT_TIMEOUT,
    Address,
    Channel,
    ConnectionLost,
    name_of,
)
from electctl.raft.io.tls import FreshTls
from electctl.raft.pure.courier import Answered, Courier, FromServer, SendTo, WayLost, Woken
from electctl.raft.pure.requests import Answer, Ask, Retry, Told
from electctl.raft.pure.wire import CLIENT_LIMIT, ClientHello, Welcome, frame

#: Seconds for one question where no candidate's timing says otherwise.
REQUEST_TIMEOUT = 5.0
#: Seconds without an answer before another node is asked.
PATIENCE = 1.0
#: Bytes that a question may have, encoded. A node takes more; its peers get several at a time.
_LARGEST = CLIENT_LIMIT // 4
#: A condition does not count time spent in suspend.
_LONGEST_WAIT = 0.5


class Machine(Protocol):
    """A sans-I/O client: events in, instructions out."""

    def handle(self, event: Woken | FromServer | WayLost, now: float, /) -> Sequence[object]:
        """Take in one event."""

    def wake_at(self) -> float | None:
        """When :class:`Woken` is due."""


class Link:
    """The connections of one ``machine``, whose instructions but SendTo are given to ``said``.

    ``said`` is called with the lock of :attr:`changed` held, like the machine itself.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        tls: FreshTls | None,
        machine: Machine,
        said: Callable[[object], None],
        patience: float = PATIENCE,
    ) -> None:
        #: Notified whenever something has happened.
        self.changed = threading.Condition()
        self._addresses = tuple(addresses)
        self._tls = tls
        self._machine = machine
        self._said = said
        self._patience = patience
        self._hello = ClientHello(uuid.uuid4().hex)
        self._channels: dict[int, Channel] = {}
        #: The place of each node that has greeted, by its number.
        self._places: dict[int, int] = {}
        #: What is wrong with the nodes that could not be reached since the last :meth:`begin`.
        self._troubles: dict[int, ElectctlError] = {}
        self._turned_away = False
        self._stranger: int | None = None
        self._closed = False
        #: Seconds that the last greeting of a node took: one answer, which asks no other node.
        self.greeting = 0.0
        #: Whether a node has served us, other than by sending us elsewhere.
        self.served = False
        #: When the first thing was asked after which nobody has.
        self.unserved_since: float | None = None

    # For those who wait --------------------------------------------------------------------------

    def begin(self) -> None:
        """A new try: what went wrong before counts no more."""
        with self.changed:
            self._troubles = {}
            self._turned_away = False
            self._stranger = None

    def do(self, act: Callable[[float], Sequence[object]]) -> None:
        """Have the machine do something at the present time, and carry out what it says."""
        with self.changed:
            self._carry_out(act(now()))

    def wait(self, holds: Callable[[], object], deadline: float) -> bool:
        """Wait until ``holds()``; time passes for the machine. False once ``deadline`` has passed.

        ``holds`` is called with the lock held, and may raise to end the wait.
        """
        with self.changed:
            while not holds():
                at = now()
                due = self._machine.wake_at()
                if due is not None and at >= due:
                    self._carry_out(self._machine.handle(Woken(), at))
                    if holds():
                        break
                    due = self._machine.wake_at()
                if at >= deadline:
                    return False
                until = min(deadline, at + _LONGEST_WAIT, deadline if due is None else due)
                self.changed.wait(until - at)
            return True

    @property
    def down(self) -> bool:
        """Whether no node at all could be reached since :meth:`begin`."""
        return len(self._troubles) == len(self._addresses)

    def silent_for(self, seconds: float, since: float) -> bool:
        """Whether nobody has served us for so long, counted from ``since`` at the earliest."""
        unserved = self.unserved_since
        return unserved is not None and now() - max(unserved, since) >= seconds

    def trouble(self) -> ElectctlError:
        """Why no answer has come, as far as that is known."""
        for error in self._troubles.values():
            if isinstance(error, Refused):
                return error
        if self._stranger is not None:
            return Unreachable(
                f"node {self._stranger} leads the cluster, and the URL does not name it",
                hint="name all nodes: raft://host:port,host:port,host:port",
            )
        if self._turned_away:
            return Unreachable(
                "no node leads the cluster", hint="a majority must run and reach each other"
            )
        for error in self._troubles.values():
            return error
        names = ", ".join(map(name_of, self._addresses))
        return Unreachable(f"no answer from {names}", hint="is it running, and reachable?")

    def close(self) -> None:
        """End every connection. Sends nothing."""
        with self.changed:
            self._closed = True
            for channel in self._channels.values():
                channel.close()
            self.changed.notify_all()

    # Connections ---------------------------------------------------------------------------------

    def _carry_out(self, instructions: Sequence[object]) -> None:
        for instruction in instructions:
            if isinstance(instruction, SendTo):
                self._send(instruction)
            else:
                self._said(instruction)
        self.changed.notify_all()

    def _send(self, send: SendTo) -> None:
        if self._closed:
            return
        if self.unserved_since is None:
            self.unserved_since = now()
        data = frame(send.request)
        place = send.server
        channel = self._channels.get(place)
        if channel is not None:
            since = channel.unanswered_since
            # A slow way takes several round trips to connect.
            patience = self._patience if channel.greeted else max(self._patience, CONNECT_TIMEOUT)
            if since is not None and now() - since >= patience:
                # Nobody knows what is left of a connection on which nothing comes back.
                channel.close()
                channel = None
        if channel is None:
            channel = self._open(place)
        if channel is not None:
            channel.send(data)

    def _open(self, place: int) -> Channel | None:
        """None if that takes more than this machine has; the request is then sent again."""
        address = self._addresses[place]
        try:
            channel = Channel(address, self._tls, self._hello, self._heard, self._ended)
        except Unreachable as error:
            self._channels.pop(place, None)
            self._troubles[place] = error
            return None
        self._channels[place] = channel
        return channel

    def _place(self, channel: Channel) -> int | None:
        return next((place for place, one in self._channels.items() if one is channel), None)

    def _heard(self, channel: Channel, message: Welcome | Told) -> None:
        with self.changed:
            place = self._place(channel)
            if place is None or self._closed:
                return
            self._troubles.pop(place, None)
            if isinstance(message, Welcome):
                self.greeting = channel.greeting
                self._places[message.number] = place
                return
            if isinstance(message, Answer):
                message = self._answer(place, message)
            self._carry_out(self._machine.handle(FromServer(place, message), now()))

    def _answer(self, place: int, answer: Answer) -> Answer:
        """The answer with places for numbers; one that was served ends all other connections."""
        if not isinstance(answer.reply, Retry):
            self.served = True
            self.unserved_since = None
            self._troubles = {}
            for other in [other for other in self._channels if other != place]:
                self._channels.pop(other).close()
                self._carry_out(self._machine.handle(WayLost(other), now()))
            return answer
        number = answer.reply.leader
        self._turned_away = True
        if number is not None and len(self._places) == len(self._addresses):
            self._stranger = None if number in self._places else number
        leader = None if number is None else self._places.get(number)
        return replace(answer, reply=Retry(leader))

    def _ended(self, channel: Channel, error: ElectctlError) -> None:
        with self.changed:
            place = self._place(channel)
            if place is None or self._closed:
                return
            del self._channels[place]
            lost = isinstance(error, ConnectionLost)
            started_by_us = not isinstance(self._addresses[place], tuple | Path)
            if not lost or not (channel.greeted or started_by_us):
                self._troubles[place] = error
            elif channel.greeted and started_by_us:
                # It is started again at once: our lease does not wait.
                self._open(place)
            # A connection that breaks is no trouble yet: it is made again first.
            self._carry_out(self._machine.handle(WayLost(place), now()))


class Desk:
    """Asks single questions, from any thread."""

    def __init__(self, addresses: Sequence[Address], tls: FreshTls | None) -> None:
        self._courier = Courier(tuple(range(len(addresses))), PATIENCE)
        self._link = Link(addresses, tls, self._courier, self._said)
        self._answers: dict[int, Answered] = {}

    def ask(self, ask: Ask) -> Answered:
        """The answer, with a reply. Raises Unreachable, Refused, UsageError (it is too large)."""
        check_size(ask)
        link = self._link
        link.begin()
        numbers: list[int] = []

        def send(at: float) -> list[SendTo]:
            number, first = self._courier.send(ask, at, at + REQUEST_TIMEOUT)
            numbers.append(number)
            return [first]

        link.do(send)
        (number,) = numbers
        link.wait(lambda: number in self._answers or link.down, now() + REQUEST_TIMEOUT)
        with link.changed:
            answered = self._answers.pop(number, None)
            self._courier.drop(number)
        if answered is None or answered.reply is None:
            raise link.trouble()
        return answered

    def _said(self, instruction: object) -> None:
        if isinstance(instruction, Answered):
            self._answers[instruction.exchange.request.id] = instruction

    def close(self) -> None:
        """End every connection."""
        self._link.close()


def check_size(ask: Ask) -> None:
    """Raise UsageError if a node would not take the question: it has a limit for a frame."""
    size = len(frame(ask))
    if size > _LARGEST:
        raise UsageError(
            f"this is too large for the built-in Raft: {size} bytes once encoded; "
            f"{_LARGEST} are allowed",
            hint="a checkpoint of up to 380 kB fits; keep more elsewhere, and its name here",
        )
