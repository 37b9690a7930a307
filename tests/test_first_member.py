"""A member that takes connections and is silent is not the only one: one try asks the next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.core.elector import connect
from electctl.lab.ports import HOST
from electctl_raft.lab import RaftCluster
from electctl_zookeeper import candidacy
from electctl_zookeeper.lab import ZooKeeperCluster

pytestmark = pytest.mark.server

NAME = "nightly"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that is stopped: the kernel takes connections, nobody answers."""
    with socket.create_server((HOST, 0)) as server:
        yield f"{HOST}:{server.getsockname()[1]}"


def test_one_try_on_zookeeper(tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # kazoo asks in an order of its own; and a busy host may need more than a second to answer.
    monkeypatch.setattr("random.shuffle", lambda hosts: None)
    monkeypatch.setattr(candidacy, "PATIENCE", 4.5)
    with ZooKeeperCluster(tmp_path, 1) as cluster:
        port = cluster.servers[0].port
        with (
            connect(f"zk://{silent},{HOST}:{port}?tick=200ms") as elector,
            elector.campaign(NAME, ttl=10, wait=0) as led,
        ):
            assert led.remaining() > 0


def test_one_try_on_raft(tmp_path: Path, silent: str) -> None:
    with RaftCluster(tmp_path, 1) as cluster:
        port = cluster.servers[0].port
        with (
            connect(f"raft://{silent},{HOST}:{port}") as elector,
            elector.campaign(NAME, ttl=5, wait=0) as led,
        ):
            assert led.remaining() > 0
