"""What tests of the etcd backend share: the harness, native tools, and what the store holds."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

from electctl.testing import Foreign, Harness
from electctl.url import BackendURL
from electctl_etcd.lab import EtcdCluster


class Native:
    """An ``etcdctl`` command that runs until it is ended. Its output is read line by line."""

    def __init__(self, cluster: EtcdCluster, *arguments: str, login: str = "") -> None:
        self._process = subprocess.Popen(
            [*cluster.etcdctl_command(user=login), *arguments],
            env=cluster.etcdctl_environment(),
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def line(self, within: float) -> str | None:
        """The next line that it prints; None if none comes in time, "" at its end."""
        out = self._process.stdout
        assert out is not None
        return out.readline().decode().rstrip("\n") if select([out], [], [], within)[0] else None

    def end(self) -> None:
        """SIGTERM: it gives back what it holds."""
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL: its lease runs out."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        assert self._process.stdout is not None
        self._process.stdout.close()


class EtcdHarness(Harness):
    """A running cluster; ``login`` is "user:password" where it asks for one."""

    ttl = 3.0

    def __init__(self, cluster: EtcdCluster, login: str = "") -> None:
        super().__init__(cluster)
        self.etcd = cluster
        self.login = login

    def keys(self, start: str) -> list[str]:
        """The keys that begin with ``start``, oldest first."""
        query = ["get", "--prefix", start, "--sort-by=CREATE", "--keys-only"]
        return self.etcd.etcdctl(*query, user=self.login).split()

    def leases(self) -> set[str]:
        """The ids of all leases, in hex."""
        listed = self.etcd.etcdctl("lease", "list", user=self.login)
        return set(listed.split()[3:])

    def revoke(self, election: str) -> None:
        leader = self.keys(f"{election}/")[0]
        self.etcd.etcdctl("lease", "revoke", leader.rpartition("/")[2], user=self.login)

    def wrong_credentials(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in BackendURL.parse(self.url).hosts)
        return f"etcd://worker:wrong-secret@{hosts}"

    def foreign(self) -> Foreign:
        @contextmanager
        def hold(election: str, wait: float) -> Iterator[bool]:
            # It prints its key when it has the lock, and keeps it until it is ended.
            with Native(self.etcd, "lock", "--ttl=5", election, login=self.login) as lock:
                yield lock.line(wait) is not None

        return hold

    def counter(self, name: str) -> float:
        """The sum of a metric over all members and labels."""
        total = 0.0
        for server in self.cluster.servers:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.cluster.port(f"{server.name}-status"), timeout=5
            )
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            total += sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith(name) and line[len(name)] in " {"
            )
        return total
