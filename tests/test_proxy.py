"""The loopback proxy, against real sockets: each fault is suffered, and seen to be."""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from electctl.base.clock import now
from electctl.lab.cluster import Cluster
from electctl.lab.ports import HeldPort
from electctl.lab.proxy import CHUNK, LIMIT, Proxy
from tests.processes import DEADLINE, wait_for


class Peer:
    """A server whose connections the test holds in its own hands."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.open: list[socket.socket] = [self.listener]

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        return self.keep(sock)

    def keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(DEADLINE)
        self.open.append(sock)
        return sock


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    for sock in found.open:
        sock.close()


@pytest.fixture
def link(peer: Peer) -> Iterator[Proxy]:
    with Proxy(peer.address) as proxy:
        yield proxy


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def connect(peer: Peer, link: Proxy) -> Callable[[], Pair]:
    """A connection through the proxy: the client's end and the server's."""

    def connected() -> Pair:
        client = peer.keep(socket.create_connection(link.address))
        return client, peer.accept()

    return connected


def receive(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (chunk := sock.recv(count - len(got))):
        got += chunk
    return got


def is_silent(sock: socket.socket, seconds: float = 0.1) -> bool:
    """Nothing arrives, not even an end."""
    return not select.select([sock], [], [], seconds)[0]


def is_reset(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_it_forwards_both_ways_and_counts(connect: Callable[[], Pair], link: Proxy) -> None:
    client, server = connect()
    client.sendall(b"question")
    assert receive(server, 8) == b"question"
    server.sendall(b"answers")
    assert receive(client, 7) == b"answers"
    # Counted once it is sent, which may be a moment after it has arrived.
    wait_for(lambda: link.counters.replies.forwarded)
    counted = link.counters
    assert (counted.accepted, counted.open, counted.cut) == (1, 1, 0)
    assert (counted.requests.forwarded, counted.replies.forwarded) == (8, 7)


def test_a_half_closed_connection_still_carries_the_reply(connect: Callable[[], Pair]) -> None:
    client, server = connect()
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    assert receive(server, 100) == b"all I have"
    server.sendall(b"and the reply")
    server.close()
    assert receive(client, 100) == b"and the reply"


def test_a_connection_that_both_ends_leave_is_forgotten(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    client.close()
    assert server.recv(1) == b""
    server.close()
    wait_for(lambda: link.counters.open == 0)


def test_a_large_transfer_arrives_whole_both_ways(connect: Callable[[], Pair]) -> None:
    client, server = connect()
    sent = os.urandom(3 * LIMIT)
    for source, target in ((client, server), (server, client)):
        sender = threading.Thread(target=source.sendall, args=(sent,))
        sender.start()
        assert receive(target, len(sent)) == sent
        sender.join()


def test_a_server_that_is_not_there_resets_the_client() -> None:
    nobody = HeldPort()
    # The reset may come before or after connect(2) has returned.
    with (
        Proxy(("127.0.0.1", nobody.number)) as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(proxy.address, DEADLINE) as client,
    ):
        client.recv(1)
    nobody.release()


def test_with_patience_a_server_may_listen_a_little_later() -> None:
    held = HeldPort()
    with (
        Proxy(("127.0.0.1", held.number), patience=DEADLINE) as proxy,
        socket.create_connection(proxy.address, DEADLINE) as client,
    ):
        client.sendall(b"early")
        wait_for(lambda: proxy.counters.requests.held == 5)
        with socket.create_server(("127.0.0.1", held.number)) as late:
            late.settimeout(DEADLINE)
            server, _ = late.accept()
            with server:
                server.settimeout(DEADLINE)
                assert server.recv(CHUNK) == b"early"
    held.release()


def test_a_client_that_waits_for_a_server_in_vain_is_reset() -> None:
    nobody = HeldPort()
    began = now()
    with (
        Proxy(("127.0.0.1", nobody.number), patience=0.2) as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(proxy.address, DEADLINE) as client,
    ):
        client.recv(1)
    assert now() - began >= 0.2
    nobody.release()


def test_a_servers_reset_reaches_the_client(connect: Callable[[], Pair]) -> None:
    client, server = connect()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    assert is_reset(client)


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_delay_holds_each_byte_for_its_time_in_order(
    connect: Callable[[], Pair], link: Proxy, direction: str
) -> None:
    client, server = connect()
    source, target = (client, server) if direction == "requests" else (server, client)
    link.delay(0.2, jitter=0.05)
    began = now()
    for number in range(50):
        source.sendall(b"%02d" % number)
    assert receive(target, 100) == b"".join(b"%02d" % number for number in range(50))
    assert now() - began >= 0.2
    link.forward()
    source.sendall(b"x")
    assert receive(target, 1) == b"x"


def test_delay_of_one_direction_leaves_the_other_alone(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.delay(60, direction="replies")
    client.sendall(b"q")
    assert receive(server, 1) == b"q"
    server.sendall(b"a")
    wait_for(lambda: link.counters.replies.held == 1)
    assert is_silent(client)
    link.forward()
    assert receive(client, 1) == b"a"


def test_cut_resets_what_is_open_and_refuses_what_is_new(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.cut()
    assert is_reset(client)
    assert is_reset(server)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(link.address)
    assert (link.counters.cut, link.counters.open) == (1, 0)
    link.forward()
    client, server = connect()
    client.sendall(b"again")
    assert receive(server, 5) == b"again"


def test_cut_can_end_connections_in_order_and_accept_new_ones(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.cut(reset=False, refuse=False)
    assert client.recv(1) == b""
    assert server.recv(1) == b""
    connect()


def test_nobody_else_gets_the_port_while_it_refuses(link: Proxy) -> None:
    link.cut()
    with socket.socket() as other, pytest.raises(OSError) as refused:
        other.bind(link.address)
    assert refused.value.errno == errno.EADDRINUSE


def test_swallow_keeps_everything_open_and_drops_what_is_sent(
    connect: Callable[[], Pair], link: Proxy, peer: Peer
) -> None:
    client, server = connect()
    link.swallow()
    client.sendall(b"12345")
    server.sendall(b"123")
    late = peer.keep(socket.create_connection(link.address))
    late.sendall(b"7654321")
    wait_for(lambda: link.counters.requests.swallowed == 12)
    wait_for(lambda: link.counters.replies.swallowed == 3)
    assert is_silent(client)
    assert is_silent(server)
    assert is_silent(late)
    assert (link.counters.open, link.counters.cut) == (2, 0)


def test_a_swallowing_link_does_not_tell_that_an_end_has_gone(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.swallow()
    client.close()
    assert is_silent(server)


def test_a_connection_that_lost_bytes_is_reset_when_the_link_heals(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    unharmed, unharmed_server = connect()
    client, server = connect()
    link.swallow()
    client.sendall(b"lost")
    wait_for(lambda: link.counters.requests.swallowed == 4)
    link.forward()
    assert is_reset(client)
    assert is_reset(server)
    unharmed.sendall(b"whole")
    assert receive(unharmed_server, 5) == b"whole"


def test_swallowed_replies_leave_the_requests_alone(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.swallow("replies")
    client.sendall(b"acted on")
    assert receive(server, 8) == b"acted on"
    server.sendall(b"OK")
    wait_for(lambda: link.counters.replies.swallowed == 2)
    assert is_silent(client)


def test_what_is_held_arrives_in_order_after_release(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.hold("requests")
    client.sendall(b"one ")
    client.sendall(b"two")
    wait_for(lambda: link.counters.requests.held == 7)
    assert is_silent(server)
    link.release()
    assert receive(server, 7) == b"one two"
    assert link.counters.requests.held == 0


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_held_request_arrives_although_its_client_has_gone(
    connect: Callable[[], Pair], link: Proxy, reset: bool
) -> None:
    client, server = connect()
    link.hold("requests")
    client.sendall(b"a late release")
    wait_for(lambda: link.counters.requests.held == 14)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert is_silent(server)
    link.release()
    assert receive(server, 100) == b"a late release"


def test_what_it_keeps_is_bounded(connect: Callable[[], Pair], link: Proxy) -> None:
    client, _ = connect()
    link.hold("requests")
    client.setblocking(False)

    def pour() -> bool:
        while select.select([], [client], [], 0.1)[1]:
            client.send(bytes(CHUNK))
        return link.counters.requests.held >= LIMIT

    # Now neither the proxy nor the kernels' buffers around it take any more.
    wait_for(pour)
    assert link.counters.requests.held < LIMIT + CHUNK


def test_cut_after_passes_so_many_bytes_and_then_resets(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    client, server = connect()
    link.cut_after(10)
    client.sendall(b"12345")
    assert receive(server, 5) == b"12345"
    client.sendall(b"67890abc")
    assert receive(server, 5) == b"67890"
    assert is_reset(server)
    assert is_reset(client)
    assert link.counters.requests.forwarded == 10
    assert link.counters.requests.swallowed == 3
    client, server = connect()
    client.sendall(b"as before, for it happens once")
    assert receive(server, 9) == b"as before"


def test_a_lost_reply_means_that_the_server_has_acted(
    connect: Callable[[], Pair], link: Proxy
) -> None:
    bystander, bystander_server = connect()
    client, server = connect()
    link.lose_reply(b"SET")
    bystander.sendall(b"GET x")
    assert receive(bystander_server, 5) == b"GET x"
    bystander_server.sendall(b"1")
    assert receive(bystander, 1) == b"1"
    client.sendall(b"SET x 2")
    assert receive(server, 7) == b"SET x 2"
    server.sendall(b"OK")
    assert is_reset(client)
    assert link.counters.replies.swallowed == 2
    assert link.counters.cut == 1


def test_many_connections_at_once(connect: Callable[[], Pair], link: Proxy) -> None:
    pairs = [connect() for _ in range(100)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"%03d" % number)
    for number, (_, server) in enumerate(pairs):
        assert receive(server, 3) == b"%03d" % number
    link.cut()
    assert all(is_reset(client) for client, _ in pairs)
    assert link.counters.cut == 100


def test_closing_ends_its_thread_and_frees_the_port(peer: Peer) -> None:
    before = threading.active_count()
    with Proxy(peer.address) as proxy:
        port = proxy.port
        peer.keep(socket.create_connection(proxy.address))
        peer.accept()
        assert threading.active_count() == before + 1
    proxy.close()
    assert threading.active_count() == before
    HeldPort(port).release()


def test_closing_ends_while_delayed_bytes_come_and_go(peer: Peer) -> None:
    """A cancellation that comes with an event is not lost: a lost one would hang here."""
    rng = random.Random(8)
    for _ in range(200):
        with Proxy(peer.address) as proxy:
            proxy.delay(0.001, jitter=0.003)
            clients = [peer.keep(socket.create_connection(proxy.address)) for _ in range(8)]
            for _ in range(5):
                for client in clients:
                    client.sendall(b"0123456789")
                threading.Event().wait(0.001 * rng.random())
            closing = threading.Thread(target=proxy.close, daemon=True)
            closing.start()
            closing.join(DEADLINE)
            assert not closing.is_alive()


def test_it_can_be_told_its_port(peer: Peer) -> None:
    held = HeldPort()
    with pytest.raises(OSError):
        Proxy(peer.address, port=peer.address[1])
    held.release()
    with Proxy(peer.address, port=held.number) as proxy:
        assert proxy.port == held.number


def test_a_real_redis_answers_through_it(redis_cluster: Cluster, proxy: Proxy) -> None:
    with socket.create_connection(proxy.address, DEADLINE) as client:
        client.sendall(b"PING\r\n")
        assert receive(client, 7) == b"+PONG\r\n"
        proxy.lose_reply(b"SET")
        client.sendall(b"SET written-without-an-answer yes\r\n")
        assert is_reset(client)
    with socket.create_connection(redis_cluster.entrances[0].address, DEADLINE) as direct:
        direct.sendall(b"GET written-without-an-answer\r\n")
        assert receive(direct, 9) == b"$3\r\nyes\r\n"
