"""Mutual TLS between nodes, and from clients: who shows no certificate of the authority is out.

What this does not show: that a client cannot pass for a node; it can, see electctl.raft.io.tls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.errors import ConfigError, Unreachable
from electctl.lab.certificates import make_certificates
from electctl.raft.io.status import ask_status
from electctl.raft.io.tls import Tls
from electctl_raft.lab import RaftCluster
from tests.processes import DEADLINE, Electctl, wait_for


def tls(folder: Path, name: str = "client") -> Tls:
    return Tls(f"{folder}/ca.crt", f"{folder}/{name}.crt", f"{folder}/{name}.key")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftCluster]:
    with RaftCluster(tmp_path_factory.mktemp("tls"), 3, scheme="rafts") as cluster:
        yield cluster


def test_nodes_and_clients_with_certificates_talk(electctl: Electctl, cluster: RaftCluster) -> None:
    assert cluster.settled()
    status = ask_status(cluster.servers[0].address, DEADLINE, tls(cluster.certificates))
    assert status.voters == (1, 2, 3)
    table = electctl.run("raft", "status", "-b", cluster.url, check=0).stdout
    assert table.count("2 of 2") == 3


def test_others_are_out(cluster: RaftCluster, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    address = cluster.servers[0].address
    ours, theirs = cluster.certificates, tmp_path
    strange = Tls(f"{ours}/ca.crt", f"{theirs}/client.crt", f"{theirs}/client.key")
    for certificates in (None, strange, tls(theirs)):
        with pytest.raises(Unreachable):
            ask_status(address, DEADLINE, certificates)
    assert cluster.settled()


def test_a_node_of_another_authority_is_not_let_in(tmp_path: Path) -> None:
    """Neither when it calls nor when it is called."""
    make_certificates(tmp_path / "theirs")
    cluster = RaftCluster(tmp_path / "lab", 3, scheme="rafts")
    cluster.configure()
    one, two, three = cluster.servers
    ours, theirs = str(cluster.certificates), str(tmp_path / "theirs")
    three.argv = [word.replace(ours, theirs) for word in three.argv]
    try:
        for server in cluster.servers:
            server.spawn()
        for server in (one, two):
            server.wait_ready()
            wait_for(lambda s=server: "cannot reach node 3: " in s.log.read_text())  # type: ignore[misc]
        wait_for(lambda: "cannot reach node 2: " in three.log.read_text())
        wait_for(lambda: any(status.ready for status in cluster.statuses().values()))
        assert "connected to node 3" not in one.log.read_text()
        assert "connected to" not in three.log.read_text()
    finally:
        cluster.close()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "text").write_text("no certificate")
    for ca, cert, named in (
        ("none", "client.crt", "none cannot be used: No such file"),
        ("text", "client.crt", "text cannot be used: "),
        ("ca.crt", "text", "text with .*client.key cannot be used: "),
        ("ca.crt", "server.crt", "server.crt with .*client.key cannot be used: "),
    ):
        files = Tls(f"{tmp_path}/{ca}", f"{tmp_path}/{cert}", f"{tmp_path}/client.key")
        with pytest.raises(ConfigError, match=named):
            files.calling()
