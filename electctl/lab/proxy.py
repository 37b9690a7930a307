"""A TCP proxy on loopback that delays, cuts, swallows or holds back what passes through it.

What this does not guarantee: anything below TCP. It breaks a stream, not packets: a client sees its
bytes acknowledged by the proxy's kernel although the server never gets them, so a fault here is at
least as unkind as that of a network. Of what it holds or delays it keeps at most ``LIMIT`` bytes a
direction and connection; then it stops reading, as a full network would.

One thread runs an event loop for all connections of one proxy. Every method may be called from any
thread, and has taken effect when it returns: no byte that arrives later is treated by the old rule.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self

from electctl.base.clock import now
from electctl.lab.ports import HOST, HeldPort

Direction = Literal["requests", "replies"]
Directions = Literal["requests", "replies", "both"]
Action = Literal["forward", "swallow", "hold"]
Mode = Literal["forward", "delay", "swallow", "hold", "cut"]

#: Bytes kept back for one direction of one connection.
LIMIT = 1 << 20
CHUNK = 1 << 16
_BACKLOG = 512
#: Seconds between two tries to reach a target that refuses.
_RETRY = 0.02
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the bytes of one direction. Times in seconds."""

    action: Action = "forward"
    delay: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one direction since the proxy began. ``held`` are those it has in hand now."""

    forwarded: int = 0
    swallowed: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """What passed, and what a fault was seen to do. ``cut`` counts connections that we broke."""

    accepted: int
    open: int
    cut: int
    requests: Traffic
    replies: Traffic


class _End(Enum):
    """What a sender's stream ends with."""

    CLOSED = "closed"
    RESET = "reset"


class _Pipe:
    """One direction of one connection: a reader that fills a queue, a writer that empties it."""

    def __init__(self, link: _Link, direction: Direction) -> None:
        self.link = link
        self.direction = direction
        self.proxy = link.proxy
        self.queue: deque[tuple[float, bytes | _End]] = deque()
        self.size = 0
        self.wake = asyncio.Event()
        self.space = asyncio.Event()

    @property
    def rule(self) -> Rule:
        return self.proxy.rules[self.direction]

    async def read(self, source: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        item: bytes | _End = b""
        while not isinstance(item, _End):
            while self.size >= LIMIT:
                self.space.clear()
                await self.space.wait()
            try:
                item = await loop.sock_recv(source, CHUNK) or _End.CLOSED
            except OSError:
                item = _End.RESET
            self._put(item)

    def _put(self, item: bytes | _End) -> None:
        rule = self.rule
        due = now() + rule.delay + random.uniform(0, rule.jitter)
        if self.queue:  # Jitter reorders no stream.
            due = max(due, self.queue[-1][0])
        self.queue.append((due, item))
        if isinstance(item, bytes):
            self.size += len(item)
            self.proxy.count(self.direction, held=len(item))
        self.wake.set()

    def take(self) -> bytes | _End:
        """Remove the oldest item."""
        item = self.queue.popleft()[1]
        if isinstance(item, bytes):
            self.size -= len(item)
            self.proxy.count(self.direction, held=-len(item))
            self.space.set()
        return item

    async def write(self, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        gone = False
        while True:
            await self.due()
            item = self.take()
            if self.rule.action == "swallow":
                self.link.maimed = True
                if isinstance(item, bytes):
                    self.proxy.count(self.direction, swallowed=len(item))
                    continue
                # A dead link does not tell its far end that this one has gone.
                return
            if item is _End.RESET and self.direction == "replies":
                self.link.abort()
                return
            if isinstance(item, _End):
                # A client's reset is passed on as an orderly end: what it sent before arrives.
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            passed, cut = self.proxy.meter(self.link, self.direction, item)
            try:
                # A receiver that has gone gets nothing more, but its sender is read to the end.
                if not gone:
                    await loop.sock_sendall(target, passed)
                    self.proxy.count(self.direction, forwarded=len(passed))
            except OSError:
                gone = True
            if cut:
                self.proxy.count(self.direction, swallowed=len(item) - len(passed))
                self.link.cut(reset=True)
                return

    async def due(self) -> None:
        """Wait until the oldest item may go, under whatever rule holds by then."""
        while True:
            self.wake.clear()
            if self.queue and self.rule.action != "hold":
                left = self.queue[0][0] - now()
                if left <= 0 or not (self.rule.delay or self.rule.jitter):
                    return
                # Not wait_for: until Python 3.12 it loses a cancellation that comes with the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self.wake.wait()
            else:
                await self.wake.wait()


class _Link:
    """One connection: the client's socket, the server's, and a pipe each way."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server: socket.socket | None = None
        #: Bytes of it are lost: it can never carry a sound stream again.
        self.maimed = False
        #: Its next reply is not to arrive.
        self.marked = False
        self.pipes = {name: _Pipe(self, name) for name in proxy.rules}
        self.task = asyncio.get_running_loop().create_task(self._run())
        # Not in _run: a task that is cancelled before its first step runs none of its code.
        self.task.add_done_callback(self._clear)

    async def _run(self) -> None:
        requests, replies = self.pipes["requests"], self.pipes["replies"]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(requests.read(self.client))
            if not await self._connect():
                reading.cancel()
                return
            assert self.server is not None
            group.create_task(requests.write(self.server))
            group.create_task(replies.read(self.server))
            group.create_task(replies.write(self.client))

    def _clear(self, _: asyncio.Task[None]) -> None:
        for pipe in self.pipes.values():
            while pipe.queue:
                pipe.take()
        self.client.close()
        if self.server is not None:
            self.server.close()
        self.proxy.links.discard(self)

    async def _connect(self) -> bool:
        """Connect to the server, as the first request would: not while requests are swallowed."""
        requests = self.pipes["requests"]
        while requests.rule.action == "swallow":
            self.maimed = True
            await requests.due()
            item = requests.take()
            if isinstance(item, _End):
                return False
            self.proxy.count("requests", swallowed=len(item))
        give_up_at = now() + self.proxy.patience
        while not await self._reached():
            if now() >= give_up_at:
                _reset_on_close(self.client)
                return False
            await asyncio.sleep(_RETRY)
        return True

    async def _reached(self) -> bool:
        self.server = socket.socket()
        self.server.setblocking(False)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(self.server, self.proxy.target)
        except OSError:
            self.server.close()
            self.server = None
            return False
        return True

    def abort(self) -> None:
        """End it as the server ended it: with a reset."""
        _reset_on_close(self.client)
        self.task.cancel()

    def cut(self, *, reset: bool) -> None:
        """Break it on both sides."""
        self.proxy.cut_count += 1
        if reset:
            _reset_on_close(self.client)
            if self.server is not None:
                _reset_on_close(self.server)
        self.task.cancel()


class Proxy:
    """Forwards connections from ``port`` on loopback to ``target``, until told otherwise.

    A context manager; usable at once when built. ``target`` is (host, port). The port stays the
    same, and nobody else's, also while connections are refused. Raises OSError if the port asked
    for is taken.

    The target is connected to after a client was accepted; if it refuses for ``patience`` seconds,
    the client is reset. A client that would have tried again is served by a little patience.
    """

    def __init__(self, target: tuple[str, int], *, port: int = 0, patience: float = 0.0) -> None:
        self.target = target
        self.patience = patience
        self.rules: dict[Direction, Rule] = {"requests": Rule(), "replies": Rule()}
        self.links: set[_Link] = set()
        #: The rule that was set last.
        self.mode: Mode = "forward"
        self.accepted = 0
        self.cut_count = 0
        self._traffic: dict[Direction, Traffic] = {"requests": Traffic(), "replies": Traffic()}
        self._cut_after: tuple[Direction, int] | None = None
        self._lose_reply_to: bytes | None = None
        self._listening: socket.socket | None = None
        self._held = HeldPort(port)
        self.port = self._held.number
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"electctl-proxy-{self.port}", daemon=True
        )
        self._thread.start()
        self._do(self._listen())

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return HOST, self.port

    # Rules. Each replaces the rules that held before for the directions it names. ----------------

    def forward(self) -> None:
        """Pass everything on at once, refuse nobody.

        What was held is delivered now. Connections that lost bytes are reset, because a stream with
        a hole in it must not go on. What :meth:`cut_after` or :meth:`lose_reply` wait for is off.
        """
        self._do(self._arm())
        self._do(self._change(Rule(), "both", "forward"))

    #: The same, as one says it after :meth:`hold`.
    release = forward

    def delay(self, seconds: float, *, jitter: float = 0.0, direction: Directions = "both") -> None:
        """Deliver each byte ``seconds`` later, plus up to ``jitter`` at random, in order."""
        self._do(self._change(Rule("forward", seconds, jitter), direction, "delay"))

    def swallow(self, direction: Directions = "both") -> None:
        """Keep connections open, accept new ones, and drop what they carry, ends included."""
        self._do(self._change(Rule("swallow"), direction, "swallow"))

    def hold(self, direction: Directions = "both") -> None:
        """Keep bytes back, to be delivered in order by :meth:`release`.

        Also those of a client that has closed or reset its connection meanwhile.
        """
        self._do(self._change(Rule("hold"), direction, "hold"))

    def cut(self, *, reset: bool = True, refuse: bool = True) -> None:
        """Break every connection, with RST or with FIN, and refuse new ones until healed."""
        self._do(self._cut(reset=reset, refuse=refuse))

    def cut_after(self, count: int, direction: Direction = "requests") -> None:
        """Reset the one connection that carries byte ``count`` + 1 of that direction from now on.

        The bytes before it are passed on, it and the rest are lost; then all is forwarded again.
        """
        self._do(self._arm(cut_after=(direction, count)))

    def lose_reply(self, marker: bytes = b"") -> None:
        """Pass the next request that holds ``marker`` on, and reset its connection on the reply.

        So the server has acted and the client cannot know. ``marker`` must come in one piece, as
        small requests do. Other connections are untouched; it happens once.
        """
        self._do(self._arm(lose_reply_to=marker))

    def adopt(self, client: socket.socket) -> None:
        """Carry a connection that somebody else accepted. Closes it while new ones are refused."""
        self._do(self._adopt(client))

    @property
    def counters(self) -> Counters:
        """What it has done so far; still there when it is closed."""
        requests, replies = self._traffic["requests"], self._traffic["replies"]
        return Counters(self.accepted, len(self.links), self.cut_count, requests, replies)

    def close(self) -> None:
        """Break all connections and end. Idempotent."""
        if not self._loop.is_closed():
            self._do(self._cut(reset=True, refuse=True))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # For pipes and links, on the loop's thread. --------------------------------------------------

    def count(
        self, direction: Direction, *, forwarded: int = 0, swallowed: int = 0, held: int = 0
    ) -> None:
        """Add to what was counted."""
        old = self._traffic[direction]
        self._traffic[direction] = replace(
            old,
            forwarded=old.forwarded + forwarded,
            swallowed=old.swallowed + swallowed,
            held=old.held + held,
        )

    def meter(self, link: _Link, direction: Direction, chunk: bytes) -> tuple[bytes, bool]:
        """How much of ``chunk`` passes, and whether its connection is cut then."""
        if direction == "replies" and link.marked:
            return b"", True
        marker = self._lose_reply_to
        if direction == "requests" and marker is not None and marker in chunk:
            self._lose_reply_to = None
            link.marked = True
        if self._cut_after is not None and self._cut_after[0] == direction:
            left = self._cut_after[1] - len(chunk)
            if left < 0:
                passed = chunk[: self._cut_after[1]]
                self._cut_after = None
                return passed, True
            self._cut_after = (direction, left)
        return chunk, False

    # On the loop's thread, for the methods above. ------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        if self._listening is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
            self._listening = listener

    def _accept(self, listener: socket.socket) -> None:
        # Not a task in sock_accept: cancelled at the wrong moment, it loses what it has accepted.
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._carry(client)

    async def _adopt(self, client: socket.socket) -> None:
        if self._listening is None:
            client.close()
        else:
            self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        self.links.add(_Link(self, client))

    async def _change(self, rule: Rule, directions: Directions, mode: Mode) -> None:
        self.mode = mode
        for direction in self.rules:
            if directions in (direction, "both"):
                self.rules[direction] = rule
        if all(rule.action != "swallow" for rule in self.rules.values()):
            await self._break([link for link in self.links if link.maimed], reset=True)
        for link in self.links:
            for pipe in link.pipes.values():
                pipe.wake.set()
        await self._listen()

    async def _cut(self, *, reset: bool, refuse: bool) -> None:
        if refuse and self._listening is not None:
            self.mode = "cut"
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        await self._break(list(self.links), reset=reset)

    async def _break(self, links: list[_Link], *, reset: bool) -> None:
        for link in links:
            link.cut(reset=reset)
        if links:
            await asyncio.wait([link.task for link in links])

    async def _arm(
        self,
        *,
        cut_after: tuple[Direction, int] | None = None,
        lose_reply_to: bytes | None = None,
    ) -> None:
        self._cut_after = cut_after
        self._lose_reply_to = lose_reply_to


def _reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
