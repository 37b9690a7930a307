"""What several ZooKeeper tests share: the conformance harness, native clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout

from electctl.contract.url import BackendURL
from electctl.testing import Foreign, Harness
from electctl_zookeeper.lab import ZooKeeperCluster

USERS = {"alice": "alice-secret"}


@contextmanager
def kazoo_client(url: str, timeout: float = 10.0, **more: Any) -> Iterator[Any]:
    """A plain kazoo client of the servers in a zk URL."""
    hosts = ",".join(f"{host}:{port}" for host, port in BackendURL.parse(url).hosts)
    client = KazooClient(hosts=hosts, timeout=timeout, **more)
    client.start(timeout=15)
    try:
        yield client
    finally:
        client.stop()
        client.close()


class ZooKeeperHarness(Harness):
    """One ensemble. Its servers know the user alice by SASL, and serve anonymous clients too."""

    ttl = 2.0

    def revoke(self, election: str) -> None:
        with kazoo_client(self.url) as client:
            first = min(client.get_children(f"/{election}"), key=lambda name: name[-10:])
            client.delete(f"/{election}/{first}")

    def wrong_credentials(self) -> str:
        return self.url.replace("zk://", "zk://alice:wrong-secret@") + "&auth=sasl"

    def foreign(self) -> Foreign:
        @contextmanager
        def hold(election: str, wait: float) -> Iterator[bool]:
            with kazoo_client(self.url) as client:
                lock = client.Lock(f"/{election}", "kazoo")
                try:
                    got = lock.acquire(timeout=wait)
                except LockTimeout:
                    got = False
                yield got
                if got:
                    lock.release()

        return hold


def cluster(home: Any, nodes: int) -> ZooKeeperCluster:
    """Not started."""
    return ZooKeeperCluster(home, nodes, scheme="zk", users=USERS)
