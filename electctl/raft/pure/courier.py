"""Carries a client's requests to whichever node leads, sans-I/O.

What this does not guarantee: that a request acts once. It sends again what is not answered; the
session and sequence number inside a command make it act once, renewals and reads may be repeated.
An answer counts from when its request was *first* sent, because any of the copies may have
brought it.

Times are seconds on the caller's clock.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from electctl.raft.pure.requests import Answer, Ask, Follow, Reply, Request, Retry, Told

#: Seconds before a node that could not help is asked again.
PAUSE = 0.1


class Woken(Struct, frozen=True):
    """Time has passed; due at :meth:`Courier.wake_at`."""


class FromServer(Struct, frozen=True):
    """``message`` came from the node ``server``."""

    server: int
    message: Told


class WayLost(Struct, frozen=True):
    """The connection to the node ``server`` is broken, or cannot be made."""

    server: int


class SendTo(Struct, frozen=True):
    """Send ``request`` to the node ``server``; it may be lost."""

    server: int
    request: Request


class Exchange(Struct, frozen=True):
    """One request until its answer. ``since``: when it was first sent, ``until``: given up."""

    request: Request
    since: float
    until: float
    server: int
    again_at: float
    #: Seconds without an answer before another node is asked.
    patience: float
    #: How often it has been passed on without a pause.
    hops: int = 0
    #: How often it has been sent.
    copies: int = 1


class Answered(Struct, frozen=True):
    """The exchange is over, with this reply; None: given up, outcome unknown."""

    exchange: Exchange
    reply: Reply | None


class Courier:
    """One client's way to the cluster. ``patience``: seconds before another node is tried."""

    def __init__(self, servers: tuple[int, ...], patience: float) -> None:
        self._servers = servers
        self._patience = patience
        self._target = servers[0]
        self._last_id = 0
        self._open: dict[int, Exchange] = {}

    def send(self, ask: Ask, now: float, until: float) -> tuple[int, SendTo]:
        """A new request, given up at ``until``. Returns its id.

        A :class:`Follow` is answered again and again, until it is dropped.
        """
        self._last_id += 1
        request = Request(self._last_id, ask)
        # There must be time for another copy.
        patience = min(self._patience, (until - now) / 2)
        exchange = Exchange(request, now, until, self._target, now + patience, patience)
        self._open[request.id] = exchange
        return request.id, SendTo(exchange.server, request)

    def handle(self, event: Woken | FromServer | WayLost, now: float) -> list[Answered | SendTo]:
        """Take in one event at time ``now``; return what must be done, in order."""
        # Time first: an answer that is handled after its deadline is late, however early it came.
        out = self.wake(now)
        match event:
            case FromServer(server=server, message=Answer() as answer):
                item = self.receive(server, answer, now)
                out += [] if item is None else [item]
            case WayLost(server=server):
                out += self.fail(server, now)
        return out

    def drop(self, number: int) -> None:
        """Forget a request; its answer will be ignored, and it may still act."""
        self._open.pop(number, None)

    def receive(self, server: int, answer: Answer, now: float) -> Answered | SendTo | None:
        """An answer came from ``server``. None: nothing to do (now)."""
        exchange = self._open.get(answer.id)
        if exchange is None:
            return None
        if isinstance(answer.reply, Retry):
            return self._turned_away(exchange, server, answer.reply.leader, now)
        if isinstance(exchange.request.ask, Follow):
            if server != exchange.server:
                # From a leader of the past: what it tells is over, and out of order here.
                return None
            self._open[answer.id] = replace(exchange, again_at=float("inf"), hops=0)
        else:
            del self._open[answer.id]
        self._target = server
        return Answered(exchange, answer.reply)

    def fail(self, server: int, now: float) -> list[SendTo]:
        """The way to ``server`` is broken: what it was asked is asked elsewhere, now or soon."""
        self._look_beyond(server)
        broken = [exchange for exchange in self._open.values() if exchange.server == server]
        again = [self._pass_on(exchange, now) for exchange in broken]
        return [send for send in again if send is not None]

    def wake(self, now: float) -> list[Answered | SendTo]:
        """Time has passed: what is given up, and what is sent again."""
        out: list[Answered | SendTo] = []
        for number, exchange in list(self._open.items()):
            if now >= exchange.until:
                del self._open[number]
                out.append(Answered(exchange, None))
            elif now >= exchange.again_at:
                self._look_beyond(exchange.server)
                out.append(self._resend(exchange, now, 0))
        return out

    def wake_at(self) -> float | None:
        """When :meth:`wake` is due."""
        return min((min(e.until, e.again_at) for e in self._open.values()), default=None)

    def _turned_away(
        self, exchange: Exchange, server: int, leader: int | None, now: float
    ) -> SendTo | None:
        if server != exchange.server:
            return None
        if leader in self._servers and leader != server:
            self._target = leader
        else:
            self._look_beyond(server)
        return self._pass_on(exchange, now)

    def _pass_on(self, exchange: Exchange, now: float) -> SendTo | None:
        """Ask the next node; after each has been asked once, only after a pause."""
        if exchange.hops < len(self._servers):
            return self._resend(exchange, now, exchange.hops + 1)
        again_at = min(exchange.again_at, now + PAUSE)
        self._open[exchange.request.id] = replace(exchange, again_at=again_at)
        return None

    def _look_beyond(self, server: int) -> None:
        if self._target == server:
            place = self._servers.index(server) + 1
            self._target = self._servers[place % len(self._servers)]

    def _resend(self, exchange: Exchange, now: float, hops: int) -> SendTo:
        again = replace(
            exchange,
            server=self._target,
            again_at=now + exchange.patience,
            hops=hops,
            copies=exchange.copies + 1,
        )
        self._open[exchange.request.id] = again
        return SendTo(again.server, again.request)
