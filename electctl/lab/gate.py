"""Links between the members of a cluster that can be broken one pair at a time.

What this does not guarantee: anything outside Linux, where nobody tells which process holds the far
end of a connection; there to a :class:`Gate` all are others.

Where each member can be told its own address of every other, a plain proxy for each pair is enough
(ZooKeeper). etcd has one address a member, the same for all, because a member's id is made of it:
there a gate stands in front of each member and sorts what it accepts by who calls.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from electctl.lab.ports import HOST
from electctl.lab.proxy import Proxy

_BACKLOG = 128
#: Seconds that a member may take to listen. One that follows a new leader connects to it before it
#: does; refused, it tries again in a second, but reset, it looks for another leader.
_PATIENCE = 2.0


#: In place of the number of a member: all that are none.
OUTSIDERS = -1


class Ways:
    """Proxies by (from, to), the numbers of two members; OUTSIDERS are never cut off."""

    def __init__(self) -> None:
        self._proxies: dict[tuple[int, int], list[Proxy]] = {}

    def add(
        self, caller: int, called: int, target: tuple[str, int], *, patience: float = _PATIENCE
    ) -> Proxy:
        """A new proxy on the way of that pair."""
        proxy = Proxy(target, patience=patience)
        self._proxies.setdefault((caller, called), []).append(proxy)
        return proxy

    def separate(self, member: int) -> None:
        """From now on nothing passes between that member and any other, either way."""
        self.split({member}, {each for way in self._proxies for each in way} - {member, OUTSIDERS})

    def split(self, *groups: Collection[int]) -> None:
        """From now on nothing passes between members of two groups; one that is in none is free."""
        place = {member: number for number, group in enumerate(groups) for member in group}
        for way, proxies in self._proxies.items():
            if len({place[member] for member in way if member in place}) == 2:
                for proxy in proxies:
                    proxy.swallow()

    @property
    def swallowed(self) -> int:
        """Bytes that did not get through, so far."""
        counters = [proxy.counters for proxies in self._proxies.values() for proxy in proxies]
        return sum(each.requests.swallowed + each.replies.swallowed for each in counters)

    def heal(self) -> None:
        """Let everything pass again; connections that lost bytes are reset."""
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.forward()

    def close(self) -> None:
        """Break all connections and end. Idempotent."""
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.close()


class Gate:
    """Accepts at ``port`` of loopback and hands each connection to the proxy of its caller.

    ``ways`` has the proxy of each caller, ``pids`` tells their processes. Who is none of them gets
    the proxy ``others``, or is hung up on where there is none. A member may call itself: etcd does,
    now and then. Raises OSError if the port is taken.
    """

    def __init__(
        self,
        port: int,
        ways: Mapping[int, Proxy],
        pids: Callable[[], Mapping[int, int]],
        others: Proxy | None = None,
    ) -> None:
        self._ways = ways
        self._pids = pids
        self._others = others
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((HOST, port))
        self._listener.listen(_BACKLOG)
        self._thread = threading.Thread(target=self._serve, name=f"gate-{port}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return  # closed
            caller = self._caller(client)
            proxy = self._others if caller is None else self._ways[caller]
            if proxy is None:
                client.close()
            else:
                proxy.adopt(client)

    def _caller(self, client: socket.socket) -> int | None:
        """Which member's process holds the far end."""
        try:
            link = f"socket:[{_inode(client.getpeername(), client.getsockname())}]"
        except OSError:
            return None  # it has hung up already
        for number, pid in self._pids().items():
            if link in _links(pid):
                return number
        return None

    def close(self) -> None:
        """Let nobody in any more. Idempotent."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        except OSError:
            return
        self._thread.join()
        self._listener.close()


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str:
    """The inode of the socket between two loopback addresses (proc(5), /proc/net/tcp)."""
    wanted = [f":{port:04X}" for _, port in (local, remote)]
    with Path("/proc/net/tcp").open() as table:
        for line in table:
            fields = line.split()
            if fields[1].endswith(wanted[0]) and fields[2].endswith(wanted[1]):
                return fields[9]
    return ""


def _links(pid: int) -> set[str]:
    """What the descriptors of a process are; empty if it is gone."""
    found = set()
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry.path))
    return found
