"""Limits of servers: each is named, with the setting that raises it."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis

import electctl
from electctl.contract.backend import Bid
from electctl.errors import Unreachable, UnsafeTiming
from electctl.lab.ports import HOST
from electctl.raft.io.guests import MAX_CLIENTS
from electctl.raft.pure.wire import ClientHello, frame
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from electctl_redis.lab import RedisCluster
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.processes import Electctl, wait_for
from tests.zookeeper import kazoo_client

NAME = "nightly"


class Configured(ZooKeeperCluster):
    """A lab's server with lines of its own."""

    def __init__(self, home: Path, *lines: str, nodes: int = 1) -> None:
        super().__init__(home, nodes)
        self.lines = lines

    def _config(self, number: int, data: Path, port: int) -> list[str]:
        ours = {line.partition("=")[0] for line in self.lines}
        lines = super()._config(number, data, port)
        return [line for line in lines if line.partition("=")[0] not in ours] + list(self.lines)


def test_zookeepers_limit_of_connections_is_named(tmp_path: Path, electctl: Electctl) -> None:
    with (
        Configured(tmp_path / "lab", "maxClientCnxns=2") as cluster,
        kazoo_client(cluster.url),
        kazoo_client(cluster.url),
    ):
        done = electctl.run("campaign", NAME, "-b", cluster.url, "--wait", "3s", "--", "true")
        assert done.returncode == 69
        assert "closes every connection from this host at once" in done.stderr
        assert "hint: maxClientCnxns (60 of a host by default)" in done.stderr


def test_the_limit_is_named_where_another_server_of_the_ensemble_is_down(tmp_path: Path) -> None:
    with Configured(tmp_path / "lab", "maxClientCnxns=2", nodes=3) as cluster, ExitStack() as exits:
        *serving, last = cluster.servers
        last.kill()
        wait_for(lambda: len(cluster.modes()) == 2, what="the others go on")
        for server in serving:
            for _ in range(2):
                exits.enter_context(kazoo_client(cluster.url_for([server.address])))
        with (
            electctl.connect(cluster.url) as elector,
            pytest.raises(Unreachable, match="closes every connection from this host") as caught,
        ):
            elector.campaign(NAME, ttl=5, wait=3)
        assert "maxClientCnxns" in (caught.value.hint or "")


def test_a_zookeeper_without_a_quorum_is_not_taken_for_full(tmp_path: Path) -> None:
    with ZooKeeperCluster(tmp_path, 3) as cluster:
        for server in cluster.servers[1:]:
            server.kill()
        wait_for(lambda: not cluster.modes(), what="the first one notices")
        port = cluster.servers[0].port
        with (
            electctl.connect(f"zk://{HOST}:{port}?tick=200ms") as elector,
            pytest.raises(Unreachable) as caught,
        ):
            elector.campaign(NAME, ttl=5, wait=3)
        assert "closes every connection" not in caught.value.message
        assert "quorum" in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("ttl", "said"),
    [
        (20.0, "shortened the session of 20 s to 15 s, by its maxSessionTimeout"),
        (5.0, "lengthened the session of 5 s to 6 s, by its minSessionTimeout"),
    ],
)
def test_a_session_that_zookeeper_changed_is_said(
    bounded: ZooKeeperCluster, electctl: Electctl, ttl: float, said: str
) -> None:
    options = ("--ttl", f"{ttl:g}s", "--grace", "500ms")
    done = electctl.run("campaign", NAME, "-b", bounded.url, *options, "--", "true", check=0)
    assert f"warning: ZooKeeper {said}" in done.stderr


def test_a_session_that_is_too_short_then_names_the_setting(bounded: ZooKeeperCluster) -> None:
    with electctl.connect(bounded.url) as elector, pytest.raises(UnsafeTiming) as caught:
        elector.campaign(NAME, ttl=60, wait=5)
    assert caught.value.hint is not None
    assert "raise the servers' maxSessionTimeout (20 ticks by default)" in caught.value.hint


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("bounded")
    with Configured(home, "minSessionTimeout=6000", "maxSessionTimeout=15000") as cluster:
        yield cluster


def test_rediss_limit_of_clients_is_named(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster, ExitStack() as stack:
        port = cluster.servers[0].port
        one = stack.enter_context(redis.Redis(port=port))
        one.config_set("maxclients", 2)
        stack.enter_context(redis.Redis(port=port)).ping()
        with electctl.connect(cluster.url) as elector, pytest.raises(Unreachable) as caught:
            elector.campaign(NAME, wait=0)
        assert caught.value.message == f"Redis at {HOST}:{port} takes no more clients"
        assert caught.value.hint is not None
        assert "maxclients" in caught.value.hint


def test_a_ttl_that_etcd_raised_is_said(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster, electctl.connect(cluster.url) as elector:
        with closing(elector.backend.candidacy(Bid(NAME, "a", 1.0, 1.0))) as candidacy:
            grant = candidacy.acquire(None)
            assert grant is not None
            assert grant.ttl == 2.0
            candidacy.release()
        assert [note for note in elector.backend.notes if "--election-timeout" in note]
        elector.backend.notes.clear()
        elector.campaign(NAME, ttl=10, wait=5).release()
        assert not elector.backend.notes


def test_a_nodes_limit_of_clients_is_named(tmp_path: Path) -> None:
    with RaftCluster(tmp_path, 1) as cluster, ExitStack() as stack:
        for number in range(MAX_CLIENTS):
            sock = stack.enter_context(socket.create_connection(cluster.servers[0].address))
            sock.sendall(frame(ClientHello(f"client-{number}")))
            assert sock.recv(1)
        with electctl.connect(cluster.url) as elector, pytest.raises(Unreachable) as caught:
            elector.campaign(NAME, wait=2)
        assert f"it has {MAX_CLIENTS} clients" in caught.value.message
