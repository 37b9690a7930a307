"""What a node still says to another one that does not read.

What this does not show: that it arrives.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from electctl.raft.io.connection import Connection
from electctl.raft.io.peers import BACKLOG, SMALL_BACKLOG, Peer
from electctl.raft.pure.commands import Save
from electctl.raft.pure.messages import Append, Entry, Heartbeat
from electctl.raft.pure.wire import PeerHello, Welcome, frame

HELLO = PeerHello(1, 2, (1, 2), "s")
LARGE = Append(1, 0, 0, (Entry(1, 1, Save(1, 1, 1, "s", bytes(1 << 20), 1)),), 0)


def test_heartbeats_still_go_to_a_node_that_does_not_read() -> None:
    async def unsent() -> tuple[int, int, int]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            peer = Peer(HELLO, address, None, lambda number, welcome: None, lambda *said: None)
            running = asyncio.create_task(peer.run())
            loop = asyncio.get_running_loop()
            server.setblocking(False)
            far, _ = await loop.sock_accept(server)
            with far:
                await loop.sock_sendall(far, frame(Welcome(2, (1, 2), "t")))
                while not peer.reached:
                    await asyncio.sleep(0)
                connection = cast(Connection, peer._connection)
                for _ in range(100):
                    peer.send(LARGE)
                large = connection.unsent
                peer.send(Heartbeat(1, 0, 1))
                beaten = connection.unsent
                for number in range(100_000):
                    peer.send(Heartbeat(1, 0, number))
                last = connection.unsent
                running.cancel()
                peer.end()
            return large, beaten, last

    large, beaten, last = asyncio.run(unsent())
    assert BACKLOG < large < BACKLOG + (3 << 20)
    assert beaten > large
    assert last <= max(large + 1000, SMALL_BACKLOG + 1000)


def test_a_name_that_does_not_resolve_is_called_so() -> None:
    said: list[str] = []

    async def dial() -> None:
        heard = asyncio.Event()

        def say(event: str, text: str, detail: bool) -> None:
            said.append(text)
            heard.set()

        peer = Peer(HELLO, ("no-such-host.invalid", 1), None, lambda number, welcome: None, say)
        running = asyncio.create_task(peer.run())
        async with asyncio.timeout(20):
            await heard.wait()
        running.cancel()

    asyncio.run(dial())
    assert said[0].startswith("cannot reach node 2: ")
    assert "Unknown error" not in said[0]
