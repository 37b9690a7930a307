"""Real Redis servers on loopback: one server, one with TLS, or a Sentinel set.

What this does not guarantee: durability beyond ``appendfsync everysec``; that is what people run.

A configuration is written once: Redis and Sentinel rewrite theirs when they change roles, and a
cluster made again on the same directory goes on with the roles that it had.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from electctl.clock import now
from electctl.errors import ElectctlError, Refused, Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.cluster import Cluster
from electctl.lab.ports import HOST
from electctl.lab.ready import Check
from electctl.lab.server import Server, find_program
from electctl.url import BackendURL
from electctl_redis.connect import Links
from electctl_redis.target import Target

#: The service name of the Sentinel set.
SERVICE = "mymaster"
SENTINELS = 3
SETTLE_TIMEOUT = 30.0
_POLL = 0.05


def cluster(home: Path, nodes: int | None = None, *, scheme: str = "redis") -> Cluster:
    """The cluster of one of our URL schemes."""
    kind = SentinelCluster if scheme == "redis+sentinel" else RedisCluster
    return kind(home, nodes, scheme=scheme)


class RedisCluster(Cluster):
    """One redis-server; with TLS and an authority of its own where ``scheme`` is ``rediss``.

    ``config`` holds lines of redis.conf to add, such as ``user`` lines (ACL). ``login`` is the
    "user:password" of the URL. ``client_certs`` makes the server ask for our certificate, which the
    URL then names.
    """

    def __init__(
        self,
        home: Path,
        nodes: int | None = None,
        *,
        scheme: str = "redis",
        config: Sequence[str] = (),
        login: str = "",
        client_certs: bool = False,
    ) -> None:
        super().__init__(home, nodes, scheme=scheme or "redis")
        self.config = tuple(config)
        self.login = login
        self.client_certs = client_certs
        self.certificates = home / "tls"

    @property
    def tls(self) -> bool:
        """Whether the server speaks TLS only."""
        return self.scheme == "rediss"

    def configure(self) -> None:
        """Write redis.conf and, for TLS, certificates."""
        if self.tls:
            make_certificates(self.certificates)
        self.servers = [self.redis_server("redis", self.config)]

    def redis_server(self, name: str, extra: Sequence[str] = ()) -> Server:
        """A server under ``home/name``."""
        port = self.port(name)
        folder = self.home / name
        listen = [f"port {port}"]
        if self.tls:
            listen = [
                "port 0",
                f"tls-port {port}",
                f"tls-ca-cert-file {self.certificates}/ca.crt",
                f"tls-cert-file {self.certificates}/server.crt",
                f"tls-key-file {self.certificates}/server.key",
                f"tls-auth-clients {'yes' if self.client_certs else 'no'}",
            ]
        lines = [*listen, f"bind {HOST}", "protected-mode no", f"dir {folder}", "daemonize no"]
        lines += ['save ""', "appendonly yes", "appendfsync everysec", *extra]
        program = find_program("redis-server", "redis-server")
        return self.server(name, [program, str(write_once(folder / "redis.conf", lines))], port)

    def server(self, name: str, argv: Sequence[str], port: int) -> Server:
        """The process of a server, which is asked with PING whether it answers."""
        scheme = "rediss" if self.tls else "redis"
        check = _ping(BackendURL.parse(self._url(scheme, [(HOST, port)])))
        return Server(name, argv, home=self.home / name, port=port, check=check)

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL, with the login and the certificates that the server wants."""
        return self._url(self.scheme, addresses)

    def _url(self, scheme: str, addresses: Sequence[tuple[str, int]], path: str = "0") -> str:
        login = f"{self.login}@" if self.login else ""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        options = ""
        if self.tls:
            folder = quote(str(self.certificates))
            options = f"?ca={folder}/ca.crt"
            if self.client_certs:
                options += f"&cert={folder}/client.crt&key={folder}/client.key"
        return f"{scheme}://{login}{hosts}/{path}{options}"


class SentinelCluster(RedisCluster):
    """A primary, its replicas (``nodes`` − 1) and three Sentinels, which agree by two."""

    node_counts: ClassVar[tuple[int, ...]] = (2, 3)
    proxyable: ClassVar[bool] = False

    def configure(self) -> None:
        """Write the configurations; the first server begins as the primary."""
        first = f"{HOST} {self.port('redis-0')}"
        for index in range(self.nodes):
            role = [f"replicaof {first}"] if index else []
            self.servers.append(self.redis_server(f"redis-{index}", [*self.config, *role]))
        program = find_program("redis-sentinel", "redis-sentinel")
        for index in range(SENTINELS):
            name = f"sentinel-{index}"
            port = self.port(name)
            lines = [
                f"port {port}",
                f"bind {HOST}",
                "protected-mode no",
                f"dir {self.home / name}",
                f"sentinel monitor {SERVICE} {first} 2",
                f"sentinel down-after-milliseconds {SERVICE} 500",
                f"sentinel failover-timeout {SERVICE} 5000",
                f"sentinel parallel-syncs {SERVICE} 1",
            ]
            path = write_once(self.home / name / "sentinel.conf", lines)
            self.servers.append(self.server(name, [program, str(path)], port))

    @property
    def entrances(self) -> list[Server]:
        """The Sentinels."""
        return self.servers[self.nodes :]

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL of the service, by way of its Sentinels."""
        return self._url(self.scheme, addresses, f"{SERVICE}/0")

    def primary(self) -> Server:
        """The server that the first Sentinel to answer calls the primary. Raises Unreachable."""
        trouble = ""
        for sentinel in self.entrances:
            try:
                found = _ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            except ElectctlError as error:
                trouble = error.message
                continue
            for server in self.servers[: self.nodes]:
                if isinstance(found, list) and int(found[1]) == server.port:
                    return server
        raise Unreachable(f"no Sentinel names a primary: {trouble}")

    def settle(self) -> None:
        """Wait until each Sentinel sees the primary up, every replica, and the other Sentinels."""
        deadline = now() + SETTLE_TIMEOUT
        while unsettled := [s.name for s in self.entrances if not self._sees_all(s)]:
            if now() >= deadline:
                raise Unreachable(f"{', '.join(unsettled)} do not see the whole set")
            time.sleep(_POLL)

    def _sees_all(self, sentinel: Server) -> bool:
        flat = _ask(sentinel, "SENTINEL", "MASTER", SERVICE)
        replicas = _ask(sentinel, "SENTINEL", "REPLICAS", SERVICE)
        assert isinstance(flat, list)
        assert isinstance(replicas, list)
        seen = dict(zip(flat[::2], flat[1::2], strict=True))
        linked = [
            one
            for one in (dict(zip(each[::2], each[1::2], strict=True)) for each in replicas)
            if one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok"
        ]
        return (
            seen[b"flags"] == b"master"
            and len(linked) == self.nodes - 1
            and int(seen[b"num-other-sentinels"]) == SENTINELS - 1
        )


def write_once(path: Path, lines: Sequence[str]) -> Path:
    """Write a configuration unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return path


def _ask(server: Server, *command: object) -> object:
    target = Target.of(BackendURL("redis", (server.address,)))
    links = Links(target, 2.0)
    try:
        return links.call(*command)
    finally:
        links.close()


def _ping(url: BackendURL) -> Check:
    def check(timeout: float) -> str:
        links = Links(Target.of(url), timeout)
        try:
            links.call("PING")
        except Refused:
            return ""  # it answers, if only that we may not
        except ElectctlError as error:
            return error.message
        finally:
            links.close()
        return ""

    return check
