"""A gate sorts connections by the process at their far end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from electctl.lab.gate import Gate, Ways
from electctl.lab.ports import HOST, HeldPort
from tests.processes import wait_for

#: Connects when it is told the first word, and prints what comes back for each.
CALLER = """
import socket, sys
sys.stdin.readline()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    for line in sys.stdin:
        sock.sendall(line.encode())
        print(sock.recv(100).decode().strip(), flush=True)
"""


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""
    listener = socket.create_server((HOST, 0))
    threads = []

    def serve(client: socket.socket) -> None:
        with client, suppress(ConnectionResetError):
            while got := client.recv(100):
                client.sendall(got)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=[client]))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    listener.close()
    for thread in threads:
        thread.join()


class Caller:
    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", CALLER, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.heard: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append(line.strip())

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def callers() -> Iterator[list[Caller]]:
    found: list[Caller] = []
    yield found
    for caller in found:
        caller.close()


def test_one_member_is_separated_and_the_others_are_not(
    echo: tuple[str, int], callers: list[Caller]
) -> None:
    held, ways = HeldPort(), Ways()
    # The server behind the gate is member 2; it may call itself.
    proxies = {number: ways.add(number, 2, echo) for number in range(3)}
    pids: dict[int, int] = {}
    gate = Gate(held.number, proxies, lambda: pids)
    callers += [Caller(held.number) for _ in range(3)]
    pids |= {number: caller.process.pid for number, caller in enumerate(callers)}
    try:
        for number, caller in enumerate(callers):
            caller.say("connect")
            caller.say("one")
            wait_for(lambda c=caller: c.heard == ["one"], what=f"an answer to {number}")  # type: ignore[misc]
        ways.separate(0)
        for caller in callers:
            caller.say("two")
        for caller in callers[1:]:
            wait_for(lambda c=caller: c.heard == ["one", "two"], what="an answer")  # type: ignore[misc]
        wait_for(lambda: proxies[0].counters.requests.swallowed == 4, what="swallowed")
        assert callers[0].heard == ["one"]
        ways.heal()
        wait_for(lambda: callers[0].process.poll() is not None, what="the end of what lost bytes")
    finally:
        gate.close()
        ways.close()
        held.release()


def test_a_stranger_is_hung_up_on(echo: tuple[str, int]) -> None:
    held, ways = HeldPort(), Ways()
    gate = Gate(held.number, {0: ways.add(0, 1, echo)}, dict)
    try:
        with socket.create_connection((HOST, held.number), timeout=10) as stranger:
            assert stranger.recv(1) == b""
    finally:
        gate.close()
        ways.close()
        held.release()
