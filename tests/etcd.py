"""What tests of the etcd backend share: the harness, native tools, and what the store holds."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

from electctl.contract.url import BackendURL
from electctl.lab.ports import HeldPort
from electctl.lab.proxy import Proxy
from electctl.lab.ready import http_get
from electctl.lab.server import Server, find_program
from electctl.testing import Foreign, Harness
from electctl_etcd.lab import EtcdCluster
from electctl_etcd.rpc import grpc, pb


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


@contextmanager
def grpc_proxy(cluster: EtcdCluster, home: Path) -> Iterator[str]:
    """The URL of etcd's own gRPC proxy before all members, which takes turns with them."""
    port = HeldPort()
    members = ",".join(f"{host}:{number}" for host, number in (s.address for s in cluster.servers))
    argv = [find_program("etcd", "etcd-server"), "grpc-proxy", "start", f"--endpoints={members}"]
    argv.append(f"--listen-addr=127.0.0.1:{port.number}")
    port.release()
    check = http_get(port.number, "/metrics")
    server = Server("grpc-proxy", argv, home=home, port=port.number, check=check)
    server.start()
    try:
        yield f"etcd://127.0.0.1:{port.number}"
    finally:
        server.stop()


class Address:
    """One address before a member. Each connection goes the way that is chosen when it comes, and
    keeps to it: a way that breaks takes those that are on it, and no others."""

    def __init__(self, member: tuple[str, int]) -> None:
        self._member = member
        self._ways = [Proxy(member)]
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        self._thread = threading.Thread(target=self._accept, name="address", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._ways[-1].adopt(client)

    def die_silently(self) -> None:
        """What is connected now gets no answer any more; new connections work."""
        self._ways.append(Proxy(self._member))
        self._ways[-2].swallow()

    @property
    def accepted(self) -> int:
        """Connections since the last silent death."""
        return self._ways[-1].counters.accepted

    def __enter__(self) -> Address:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake who waits in accept().
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for way in self._ways:
            way.close()


#: Of a cluster that asks for one, in the conformance suite.
LOGIN = "worker:the-right-one"


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

    @contextmanager
    def full(self) -> Iterator[None]:
        """The alarm that a member raises when its quota is used up (etcdctl can only disarm it)."""
        (host, port) = BackendURL.parse(self.url).hosts[0]
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            login = pb.AuthenticateRequest(name="root", password="root")
            token = pb.calls(channel, "Auth").Authenticate(login).token if self.login else ""
            pb.calls(channel, "Maintenance").Alarm(
                pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, alarm="NOSPACE"),
                metadata=[("token", token)],
            )
        try:
            yield
        finally:
            self.etcd.etcdctl("alarm", "disarm", user="root:root" if self.login else "")

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
