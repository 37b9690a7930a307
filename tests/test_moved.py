"""A host's name that stands for another address now, and environment that is not ours.

The resolver is the real one: each trial runs in a mount namespace with a hosts file of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from electctl.lab.ports import HOST
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from electctl_redis.lab import RedisCluster, SentinelCluster
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.processes import Electctl

pytestmark = pytest.mark.server

#: Nothing listens there on the port of a lab.
DEAD = "127.0.0.9"
STORE = "store.example"

#: Asks who leads until it has an answer, in one process; its first failure is told on stdout.
ASK = """
import sys, time, electctl
with electctl.connect(sys.argv[1]) as elector:
    told = False
    for _ in range(200):
        try:
            elector.holder("nightly")
        except electctl.errors.Unreachable as error:
            if not told:
                print("unreachable", flush=True)
                told = True
            time.sleep(0.1)
        else:
            print("reached", flush=True)
            break
"""


def one(home: Path) -> RaftCluster:
    return RaftCluster(home, 1)


def alone(home: Path) -> ZooKeeperCluster:
    return ZooKeeperCluster(home, 1)


def watched(home: Path) -> SentinelCluster:
    return SentinelCluster(home, scheme="redis+sentinel")


@pytest.fixture(params=[RedisCluster, watched, EtcdCluster, one, alone])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    make: Callable[[Path], Any] = request.param
    with make(tmp_path / "lab") as cluster:
        yield cluster


def asked(cluster: Any, hosts: Path) -> subprocess.Popen[str]:
    apart = ["unshare", "--mount"]
    if os.geteuid() != 0:
        apart += ["--map-root-user"]
    mount = ["sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    command = [*apart, *mount, sys.executable, "-c", ASK, cluster.url.replace(HOST, STORE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_one_dead_address_of_a_name_keeps_nobody_out(cluster: Any, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{DEAD} {STORE}\n{HOST} {STORE}\n")
    with asked(cluster, hosts) as asking:
        try:
            assert asking.stdout is not None
            assert "reached\n" in (asking.stdout.readline(), asking.stdout.readline())
        finally:
            asking.kill()


def test_a_name_is_resolved_anew_at_each_connection(cluster: Any, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{DEAD} {STORE}\n127.0.0.1 localhost\n")
    with asked(cluster, hosts) as asking:
        try:
            assert asking.stdout is not None
            assert asking.stdout.readline() == "unreachable\n"
            # In place: the file that is mounted there must stay the same one.
            hosts.write_text(f"{HOST} {STORE}\n127.0.0.1 localhost\n")
            assert asking.stdout.readline() == "reached\n"
        finally:
            asking.kill()


@pytest.mark.parametrize("make", [RedisCluster, EtcdCluster, one, alone])
def test_proxies_and_settings_of_others_capture_nothing(
    make: Callable[[Path], Any], electctl: Electctl, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:9"
    names = [f"{kind}_proxy" for kind in ("http", "https", "grpc", "all", "ftp", "socks")]
    foreign: dict[str, str | None] = dict.fromkeys(names, nowhere)
    foreign |= {name.upper(): nowhere for name in names}
    foreign |= {
        "GRPC_PROXY_EXP": nowhere,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/nowhere",
        "REDIS_URL": "redis://127.0.0.1:9",
        "ETCDCTL_ENDPOINTS": nowhere,
        "ZOOKEEPER_HOSTS": "127.0.0.1:9",
        "SSLKEYLOGFILE": str(tmp_path / "keys"),
    }
    with make(tmp_path / "lab") as cluster:
        done = electctl.run(
            "campaign", "j", "-b", cluster.url, "-q", "--wait", "5s", "--", "echo", "led",
            env=foreign, check=0,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("led\n", "")
    assert not (tmp_path / "keys").exists()
