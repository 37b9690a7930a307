"""What it costs to acquire and release with nobody else there, beside the bare client.

The bare client sends what cannot be left out: on Redis SET NX PX and a compare-and-delete; on etcd
a lease, a transaction that puts the key, and the revocation; on ZooKeeper a session, a znode, a
look at who is first, and the session's end; on the built-in Raft, to the node that leads, a
session, its place, a renewal and its end. ``requests`` is what the servers were asked for one of
them; on Raft the entries of the log, of which a renewal makes none. On ZooKeeper a second yardstick
keeps its session for all rounds, as a program can that holds one lock after the other; electctl's
candidates have one each, so that each dies with its own.

    python -m benchmarks.cost --schemes redis etcd zk raft
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from kazoo.client import KazooClient

import electctl
from benchmarks.stores import cluster_of, operations
from electctl.lab.cluster import Cluster
from electctl.raft.pure.commands import Close, Enter, Open, Opened
from electctl.raft.pure.requests import Answer, Applied, Ask, Renew, Reply, Request, Submit
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    ClientHello,
    Framer,
    frame,
)
from electctl_etcd import keys, requests
from electctl_etcd.rpc import grpc, pb
from electctl_raft.lab import RaftCluster

ROUNDS = 100
TTL = 10.0
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"

Round = Callable[[], object]


@contextmanager
def ours(cluster: Cluster) -> Iterator[Round]:
    """electctl in one process."""
    with electctl.connect(cluster.url) as elector:
        yield lambda: elector.campaign("cost", "a", ttl=TTL).release()


@contextmanager
def bare_redis(cluster: Cluster) -> Iterator[Round]:
    """redis-py without its ``Lock``."""
    with redis.Redis(port=cluster.entrances[0].port) as client:
        release = client.register_script(RELEASE)

        def one() -> None:
            value = secrets.token_hex(8)
            client.set("bare", value, nx=True, px=int(TTL * 1e3))
            release(keys=["bare"], args=[value])

        yield one


@contextmanager
def bare_etcd(cluster: Cluster) -> Iterator[Round]:
    """The generated stubs, on one member."""
    with grpc.insecure_channel(f"127.0.0.1:{cluster.entrances[0].port}") as channel:
        leases, kv = pb.calls(channel, "Lease"), pb.calls(channel, "KV")

        def one() -> None:
            lease = leases.LeaseGrant(pb.LeaseGrantRequest(TTL=int(TTL))).ID
            key = keys.candidate_key("bare", lease)
            kv.Txn(
                requests.txn(
                    [requests.created_at(key, 0)],
                    [requests.put(key, b"a", lease), requests.newest(b"bare/", 2)],
                )
            )
            leases.LeaseRevoke(pb.LeaseRevokeRequest(ID=lease))

        yield one


def _first(client: Any, ended: bool) -> None:
    own = client.create(
        "/bare/" + secrets.token_hex(16) + "__lock__", b"a", ephemeral=True, sequence=True
    )
    assert own.rpartition("/")[2] in client.get_children("/bare")
    if not ended:
        client.delete(own)


@contextmanager
def bare_zookeeper(cluster: Cluster) -> Iterator[Round]:
    """kazoo without its ``Lock``; a session each time."""
    with bare_zookeeper_session(cluster):

        def one() -> None:
            client = _kazoo(cluster)
            _first(client, ended=True)
            client.stop()
            client.close()

        yield one


@contextmanager
def bare_zookeeper_session(cluster: Cluster) -> Iterator[Round]:
    """kazoo without its ``Lock``, in one session."""
    client = _kazoo(cluster)
    client.ensure_path("/bare")
    yield lambda: _first(client, ended=False)
    client.stop()
    client.close()


def _kazoo(cluster: Cluster) -> Any:
    client = KazooClient(hosts=f"127.0.0.1:{cluster.entrances[0].port}", timeout=TTL)
    client.start(timeout=30)
    return client


class _Frames:
    """A plain socket to one node of the built-in Raft, asked one thing after the other."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._framer = Framer(CLIENT_LIMIT)
        self._bodies: list[bytes] = []
        self._greeting = frame(ClientHello(secrets.token_hex(8)))

    def ask(self, ask: Ask) -> Reply:
        self._sock.sendall(self._greeting + frame(Request(1, ask)))
        if self._greeting:
            REPLY_TO_HELLO.decode(self._body())
            self._greeting = b""
        while not isinstance(told := TO_CLIENT.decode(self._body()), Answer):
            pass  # a notice
        reply: Reply = told.reply
        return reply

    def _body(self) -> bytes:
        while not self._bodies:
            self._bodies = self._framer.feed(self._sock.recv(1 << 16))
        return self._bodies.pop(0)


@contextmanager
def bare_raft(cluster: Cluster) -> Iterator[Round]:
    """Frames to the node that leads, over a connection each time."""
    assert isinstance(cluster, RaftCluster)
    address = cluster.servers[cluster.leading()].address

    def one() -> None:
        with socket.create_connection(address) as sock:
            node = _Frames(sock)
            match node.ask(Submit(Open(int(TTL * 1e3)))):
                case Applied(Opened(session)):
                    node.ask(Submit(Enter(session, 1, "bare", "a")))
                    node.ask(Renew(session))
                    node.ask(Submit(Close(session, 2)))
                case other:
                    raise LookupError(f"another node has come to lead: {other}")

    yield one


YARDSTICKS = {
    "redis": {"bare redis-py": bare_redis},
    "etcd": {"bare gRPC": bare_etcd},
    "zk": {"bare kazoo": bare_zookeeper, "bare kazoo, one session": bare_zookeeper_session},
    "raft": {"bare frames": bare_raft},
}


def measure(cluster: Cluster, scheme: str, rounds: int) -> None:
    """Measure and print one store."""
    times: dict[str, list[float]] = {}
    asked: dict[str, float] = {}
    sides = {**YARDSTICKS[scheme], "electctl": ours}
    for name, side in sides.items():
        with side(cluster) as once:
            once()
            before = operations(cluster)
            for _ in range(rounds):
                once()
            asked[name] = (operations(cluster) - before).total() / rounds
    # Each beside the others, so that they meet the same machine.
    for _ in range(3):
        for name, side in sides.items():
            with side(cluster) as once:
                once()
                for _ in itertools.repeat(None, rounds):
                    began = time.perf_counter()
                    once()
                    times.setdefault(name, []).append(time.perf_counter() - began)
    unit = statistics.median(times[next(iter(sides))])
    for name, some in times.items():
        median = statistics.median(some)
        print(
            f"{scheme:5} × {cluster.nodes}  {name:24} {asked[name]:8.1f} {median * 1e3:8.2f} "
            f"{median / unit:8.2f}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schemes", nargs="+", choices=YARDSTICKS, default=list(YARDSTICKS))
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    print("acquire and release, nobody else there; medians")
    print("store      who                      requests       ms   × bare")
    for scheme in args.schemes:
        nodes = 1 if scheme == "redis" else args.nodes
        with (
            tempfile.TemporaryDirectory() as home,
            cluster_of(scheme, Path(home, scheme), nodes) as cluster,
        ):
            measure(cluster, scheme, args.rounds)


if __name__ == "__main__":
    main()
