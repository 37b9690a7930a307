"""Certificates and passwords that change on disk while a process goes on, on every real store.

The authority itself is changed, so that what was read before is worth nothing any more: nothing
needs to expire.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from kazoo.security import make_digest_acl

from electctl import connect
from electctl.base.fresh import Fresh
from electctl.base.tls import load_tls
from electctl.contract.backend import Bid
from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.cluster import Cluster
from electctl.lab.ports import HOST
from electctl.lab.server import Server
from electctl.raft.io.channel import ConnectionLost
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from electctl_redis.lab import RedisCluster
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.processes import wait_for
from tests.zookeeper import kazoo_client

pytestmark = pytest.mark.server

NAME = "nightly"
FILES = [f"{name}.{kind}" for name in ("ca", "server", "client") for kind in ("crt", "key")]


def replace_all(folder: Path, spare: Path) -> None:
    """Another authority, and certificates of it, under the same names."""
    make_certificates(spare)
    for name in FILES:
        shutil.copy(spare / name, folder / name)
    if (folder / "server.pem").exists():
        join(folder)


def join(folder: Path) -> None:
    """The two files that a lab's ZooKeeper reads."""
    (folder / "server.pem").write_text(
        (folder / "server.key").read_text() + (folder / "server.crt").read_text()
    )
    (folder / "ca.pem").write_text((folder / "ca.crt").read_text())


def hang_up(server: Server) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGHUP)


# What a file says ---------------------------------------------------------------------------------


def test_a_pair_that_does_not_fit_yet_leaves_the_old_one_and_is_tried_again(tmp_path: Path) -> None:
    make_certificates(tmp_path / "one")
    make_certificates(tmp_path / "two")
    ours, new = tmp_path / "one", tmp_path / "two"
    ca, cert, key = (str(ours / name) for name in ("ca.crt", "client.crt", "client.key"))
    said: list[ConfigError | None] = []
    fresh = Fresh(
        (ca, cert, key),
        lambda: load_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca, cert, key),
        said.append,
    )
    old = fresh.get()
    assert fresh.get() is old
    shutil.copy(new / "client.crt", cert)
    assert fresh.get() is old
    assert fresh.get() is old
    assert [error and error.message.partition(" cannot")[0] for error in said] == [
        f"{cert} with {key}"
    ]
    shutil.copy(new / "client.key", key)
    assert fresh.get() is not old
    assert said[1:] == [None]


def test_a_key_with_a_password_is_refused_and_asks_no_terminal(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", locked],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="cannot be used: the key is encrypted"):
        load_tls(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None, f"{tmp_path}/client.crt", str(locked)
        )


def test_our_keys_are_told_to_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSLKEYLOGFILE, which ssl.create_default_context obeys."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    with RedisCluster(tmp_path / "lab", scheme="rediss") as cluster, connect(cluster.url) as one:
        assert one.holder(NAME) is None
    assert not log.exists()


def found_by_hash(authority: Path, folder: Path) -> Path:
    """A directory in which OpenSSL finds that one."""
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(authority)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    folder.mkdir()
    (folder / f"{done.stdout.strip()}.0").symlink_to(authority)
    (folder / "README").write_text("no certificate")
    return folder


@pytest.mark.parametrize("scheme", ["rediss", "etcds"])
def test_the_systems_authorities_are_those_of_openssl_where_the_url_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    kind = {"rediss": RedisCluster, "etcds": EtcdCluster}[scheme]
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    with kind(tmp_path / "lab", scheme=scheme) as cluster:
        port, folder = cluster.servers[0].port, cluster.certificates
        url = f"{scheme}://{HOST}:{port}?cert={folder}/client.crt&key={folder}/client.key"
        # An authority that has signed nothing here.
        make_certificates(tmp_path / "other")
        monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/other/ca.crt")
        with connect(url) as elector, pytest.raises(Unreachable) as caught:
            elector.holder(NAME)
        assert f"{tmp_path}/other/ca.crt and /nowhere (not there)" in (caught.value.hint or "")
        found = found_by_hash(folder / "ca.crt", tmp_path / "found")
        for file, directory in (("/nowhere", found), (folder / "ca.crt", "/nowhere")):
            with monkeypatch.context() as here:
                here.setenv("SSL_CERT_FILE", str(file))
                here.setenv("SSL_CERT_DIR", str(directory))
                with connect(url) as elector:
                    assert elector.holder(NAME) is None
        url += f"&ca={tmp_path}/other/ca.crt"
        monkeypatch.setenv("SSL_CERT_FILE", f"{folder}/ca.crt")
        with connect(url) as elector, pytest.raises(Unreachable) as caught:
            elector.holder(NAME)
        assert f"trusted is ?ca={tmp_path}/other/ca.crt alone" in (caught.value.hint or "")


def test_a_system_without_authorities_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would fall back on a list of its own."""
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    monkeypatch.setenv("SSL_CERT_FILE", "/neither")
    with pytest.raises(ConfigError, match=r"no authorities to trust.*/neither.*/nowhere"):
        connect("etcds://127.0.0.1:1")


# Certificates -------------------------------------------------------------------------------------


def redis_lab(home: Path) -> RedisCluster:
    return RedisCluster(home, scheme="rediss", client_certs=True)


def etcd_lab(home: Path) -> EtcdCluster:
    return EtcdCluster(home, scheme="etcds")


def raft_lab(home: Path) -> RaftCluster:
    return RaftCluster(home, 1, scheme="rafts")


class SecureZooKeeper(ZooKeeperCluster):
    """It asks for our certificate too."""

    def __init__(self, home: Path) -> None:
        self.certificates = home / "tls"
        make_certificates(self.certificates)
        join(self.certificates)
        super().__init__(home, 1, tls=self.certificates)

    def _config(self, number: int, data: Path, port: int) -> list[str]:
        lines = super()._config(number, data, port)
        return [line.replace("clientAuth=none", "clientAuth=need") for line in lines]

    def url_for(self, addresses: Any) -> str:
        folder = self.certificates
        files = f"&ca={folder}/ca.crt&cert={folder}/client.crt&key={folder}/client.key"
        return super().url_for(addresses) + files


@pytest.mark.parametrize(
    "lab", [redis_lab, etcd_lab, raft_lab, SecureZooKeeper], ids=["rediss", "etcds", "rafts", "zk"]
)
def test_a_candidate_and_a_watch_go_on_with_renewed_certificates(
    lab: Callable[[Path], Any], tmp_path: Path
) -> None:
    """One process throughout: it led before, waits through the change, and leads after it."""
    with lab(tmp_path / "lab") as cluster, connect(cluster.url) as elector:
        folder: Path = cluster.certificates
        candidacy = elector.backend.candidacy(Bid(NAME, "a", 60.0, 5.0))
        assert candidacy.acquire(None) is not None
        spare = tmp_path / "spare"
        make_certificates(spare)
        # Half of a pair: new connections go on with the whole one that was there before.
        shutil.copy(spare / "client.crt", folder / "client.crt")
        shutil.copy(folder / "ca.crt", tmp_path / "ca.old")
        with closing(elector.backend.watch(NAME)) as watch:
            view = watch.next(10)
            assert view is not None
            assert view.holder is not None
        replace_all(folder, spare)
        server = cluster.servers[0]
        server.stop()
        server.start()

        def renewed() -> bool:
            try:
                return candidacy.renew().ttl > 0
            except Unreachable:
                return False

        wait_for(renewed, 30, what="it renews over a new connection")
        wait_for(lambda: holder(elector) == "a", 30, what="and the others see it")
        candidacy.release()
        candidacy.close()


def holder(elector: Any) -> str | None:
    try:
        found = elector.holder(NAME)
    except Unreachable:
        return None
    return None if found is None else str(found.id)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RaftCluster]:
    with RaftCluster(tmp_path / "lab", 3, scheme="rafts") as cluster:
        yield cluster


def test_nodes_show_and_take_renewed_certificates_without_a_restart(
    nodes: RaftCluster, tmp_path: Path
) -> None:
    assert nodes.settled()
    pids = [server.pid for server in nodes.servers]
    shutil.copytree(nodes.certificates, tmp_path / "old")
    replace_all(nodes.certificates, tmp_path / "new")
    # Only new connections ask for certificates; the nodes' own to each other live on.
    wait_for(nodes.settled, 20, what="clients with new certificates are let in")
    old = str(tmp_path / "old")
    with (
        connect(nodes.url.replace(str(nodes.certificates), old)) as elector,
        pytest.raises((Unreachable, Refused)) as caught,
    ):
        elector.holder(NAME)
    assert not isinstance(caught.value, ConnectionLost) or caught.value.hint
    # One that is started anew shows the others what they must have read since.
    nodes.servers[0].stop()
    nodes.servers[0].start()
    wait_for(nodes.settled, 30, what="the node is let in again")
    assert [server.pid for server in nodes.servers][1:] == pids[1:]


def test_a_node_tells_of_certificates_when_asked_by_sighup(tmp_path: Path) -> None:
    with RaftCluster(tmp_path / "lab", 1, scheme="rafts") as cluster:
        server = cluster.servers[0]
        folder = cluster.certificates
        make_certificates(tmp_path / "new")
        shutil.copy(tmp_path / "new" / "server.crt", folder / "server.crt")
        hang_up(server)
        wait_for(lambda: "keeps its certificates: " in server.log.read_text())
        assert "server.crt with " in server.log.read_text()
        assert cluster.settled()
        shutil.copy(tmp_path / "new" / "server.key", folder / "server.key")
        hang_up(server)
        wait_for(lambda: "new certificates are in use" in server.log.read_text())
        assert server.alive


def refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except Refused:
        return True
    return False


# Passwords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["password_file={}", "password_command=cat%20{}"])
def test_a_password_is_got_again_for_redis(tmp_path: Path, source: str) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    with RedisCluster(
        tmp_path / "lab", config=["user elect on >first ~* &* +@all"], login=""
    ) as cluster:
        port = cluster.servers[0].port
        url = f"redis://elect@{HOST}:{port}/0?{source.format(secret)}"
        with connect(url) as elector, redis.Redis(port=port) as store:
            candidacy = elector.backend.candidacy(Bid(NAME, "a", 30.0, 2.0))
            assert candidacy.acquire(None) is not None
            store.execute_command("ACL", "SETUSER", "elect", "resetpass", ">second")
            store.execute_command("CLIENT", "KILL", "USER", "elect")
            with pytest.raises(Refused):
                elector.holder(NAME)
            secret.write_text("")  # half-written: the old one stays
            with pytest.raises(Refused):
                elector.holder(NAME)
            secret.write_text("second\n")
            wait_for(lambda: not refused(lambda: elector.holder(NAME)), what="it is asked again")
            assert holder(elector) == "a"
            try:
                candidacy.renew()
            except Unreachable:  # the connection was found to be broken
                candidacy.renew()
            candidacy.release()
            candidacy.close()


def test_a_password_file_is_read_again_when_etcds_token_has_expired(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    login = "worker:first"
    with EtcdCluster(tmp_path / "lab", login=login, extra=["--auth-token-ttl", "1"]) as cluster:
        port = cluster.servers[0].port
        with connect(f"etcd://worker@{HOST}:{port}?password_file={secret}") as elector:
            candidacy = elector.backend.candidacy(Bid(NAME, "a", 60.0, 5.0))
            assert candidacy.acquire(None) is not None
            command = cluster.etcdctl_command(user="root:root")
            subprocess.run(
                [*command, "user", "passwd", "worker", "--interactive=false"],
                input="second\n",
                env=cluster.etcdctl_environment(),
                check=True,
                text=True,
                capture_output=True,
            )
            secret.write_text("second\n")
            # A change of the rules makes every token stale at once (etcd, authRevision).
            assert candidacy.renew().ttl == 60.0
            assert holder(elector) == "a"
            candidacy.release()
            candidacy.close()


def test_a_password_file_is_read_again_for_each_session_of_zookeeper(
    zookeeper: Cluster, tmp_path: Path, election: str
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    url = zookeeper.url.replace("zk://", "zk://alice@") + f"&acl=creator&password_file={secret}"
    with connect(url) as elector, kazoo_client(zookeeper.url) as native:
        elector.campaign(f"{election}/one", "a", ttl=5, wait=10).release()
        secret.write_text("second\n")
        leadership = elector.campaign(f"{election}-two", "a", ttl=5, wait=10)
        native.add_auth("digest", "alice:second")
        acl, _ = native.get_acls(f"/{election}-two")
        assert acl[0].id == make_digest_acl("alice", "second", all=True).id
        leadership.release()


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperCluster]:
    with ZooKeeperCluster(tmp_path_factory.mktemp("zk"), 1) as cluster:
        yield cluster


def test_an_empty_password_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "password").touch()
    with pytest.raises(ElectctlError, match="password is empty"):
        connect(f"redis://u@h?password_file={tmp_path}/password")
