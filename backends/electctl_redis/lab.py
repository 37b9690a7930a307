"""Real Redis servers on loopback: one server, one with TLS, or a Sentinel set.

What this does not guarantee: durability beyond ``appendfsync everysec``; that is what people run.

A configuration is written once: Redis and Sentinel rewrite theirs when they change roles, and a
cluster made again on the same directory goes on with the roles that it had.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.errors import ElectctlError, Refused, Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.cluster import Cluster
from electctl.lab.gate import OUTSIDERS, Gate, Ways
from electctl.lab.ports import HOST
from electctl.lab.proxy import Proxy
from electctl.lab.ready import Check
from electctl.lab.server import Server, find_program
from electctl_redis.connect import Links
from electctl_redis.names import Keys, slot_of, slot_tag
from electctl_redis.target import Target

#: The service name of the Sentinel set.
SERVICE = "mymaster"
SENTINELS = 3
SETTLE_TIMEOUT = 30.0
_POLL = 0.05
_TIMEOUT = 2.0
#: Bytes that the store may still take before it evicts, and of one entry that fills it.
_ROOM = 1 << 20
_FILLER_BYTES = 1 << 16
_CONFIG = ("CONFIG", "SET")
_EVICTING = ("maxmemory-policy", "allkeys-lru", "maxmemory-samples", 64)
_FILL = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('EXISTS', KEYS[2])"


def _info(links: Links, section: str, name: str) -> int:
    """One figure of INFO."""
    told = links.call("INFO", section).decode()
    return int(told.partition(f"{name}:")[2].split()[0])


class RedisCluster(Cluster):
    """One redis-server; with TLS and an authority of its own where ``scheme`` is ``rediss``.

    ``config`` holds lines of redis.conf to add, such as ``user`` lines (ACL). ``login`` is the
    "user:password" of the URL. ``client_certs`` makes the server ask for our certificate, which the
    URL then names.
    """

    followers_serve: ClassVar[bool] = False
    votes: ClassVar[bool] = False
    asks_libc: ClassVar[bool] = True

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
        listen = self.listen(name)
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

    def listen(self, name: str) -> list[str]:
        """How a server without TLS listens, as lines of redis.conf."""
        return [f"port {self.port(name)}"]

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

    # For faults ----------------------------------------------------------------------------------

    @property
    def members(self) -> list[Server]:
        """Those that keep the data."""
        return self.servers

    def leading(self) -> int:
        """The number of the primary."""
        return 0

    def settled(self) -> bool:
        """Whether every server answers."""
        return not any(server.why_silent() for server in self.servers)

    def clock(self, number: int) -> float:
        """TIME, as a member says it. Raises Unreachable."""
        with self._links(number) as links:
            seconds, micros = links.call("TIME")
        return int(seconds) + int(micros) / 1e6

    def forget(self, number: int) -> None:
        """Remove the append-only file and the dump of a member that does not run."""
        for path in self.members[number].home.glob("appendonlydir"):
            shutil.rmtree(path)
        for path in self.members[number].home.glob("*.rdb"):
            path.unlink()

    def role(self, number: int) -> str:
        """What a member says that it is: ``primary`` or ``replica``. Raises Unreachable."""
        with self._links(number) as links:
            return "primary" if links.call("ROLE")[0] == b"master" else "replica"

    def flush(self) -> int:
        """FLUSHALL at the primary; how many keys its first database had. Raises Unreachable."""
        with self._links(self.leading()) as links:
            keys = int(links.call("DBSIZE"))
            links.call("FLUSHALL")
        return keys

    @contextmanager
    def crowd_out(self, election: str, seconds: float) -> Iterator[str]:
        """Have the primary evict by allkeys-lru until the lock is gone; raises Unreachable."""
        lock = Keys.of(election, 0).lock
        tag = slot_tag(slot_of(lock))
        with self._links(self.leading()) as links, ExitStack() as stack:
            evicted = _info(links, "stats", "evicted_keys")
            limit = _info(links, "memory", "used_memory") + _ROOM
            kept = links.call("CONFIG", "GET", "maxmemory*")
            stack.callback(links.call, *_CONFIG, *kept)
            links.call(*_CONFIG, "maxmemory", limit, *_EVICTING)
            deadline = now() + seconds
            for number in count():
                filler = b"electctl-filler-%d{%s}" % (number, tag)
                stack.callback(links.call, "DEL", filler)
                # In one step with the eviction, so that nobody can have taken the lock meanwhile.
                if not links.call("EVAL", _FILL, 2, filler, lock, bytes(_FILLER_BYTES)):
                    break
                if now() > deadline:
                    raise Unreachable(f"{lock!r} was not evicted in {seconds:g} s")
            links.call(*_CONFIG, *kept)
            evicted = _info(links, "stats", "evicted_keys") - evicted
            yield f"it was out of memory and evicted {evicted} keys, the lock among them"

    @contextmanager
    def _links(self, number: int) -> Iterator[Links]:
        scheme = "rediss" if self.tls else "redis"
        address = self.members[number].address
        links = Links(Target.of(BackendURL.parse(self._url(scheme, [address]))), _TIMEOUT)
        try:
            yield links
        finally:
            links.close()


class GatedCluster(RedisCluster):
    """Servers that meet through gates where the cluster is breakable; clients come past proxies."""

    proxyable: ClassVar[bool] = False
    #: Servers beside the ``nodes``, which the gates tell apart too.
    others: ClassVar[int] = 0

    def __init__(self, home: Path, nodes: int | None = None, **more: Any) -> None:
        super().__init__(home, nodes, **more)
        self.ways = Ways()
        self._gates: dict[str, Gate] = {}

    def gate(self, name: str) -> dict[int, Proxy]:
        """Have one stand before the port ``name`` of the server that is about to be configured.

        The server is to listen at the port ``<name>-inside``. Returns the proxies by caller.
        """
        number = len(self.servers)
        target = (HOST, self.port(f"{name}-inside"))
        callers = [OUTSIDERS, *range(self.nodes + self.others)]
        ways = {each: self.ways.add(each, number, target, patience=0) for each in callers}
        self._gates[name] = Gate(self.port(name), ways, self._pids, ways[OUTSIDERS])
        return ways

    def _pids(self) -> dict[int, int]:
        return {number: server.pid for number, server in enumerate(self.servers) if server.pid}

    def close(self) -> None:
        """Stop the servers, and end what stands between them."""
        super().close()
        for gate in self._gates.values():
            gate.close()
        self.ways.close()


class SentinelCluster(GatedCluster):
    """A primary, its replicas (``nodes`` − 1) and three Sentinels, which agree by two."""

    node_counts: ClassVar[tuple[int, ...]] = (2, 3)
    others: ClassVar[int] = SENTINELS

    def listen(self, name: str) -> list[str]:
        """In a breakable cluster a gate stands before it, whose port everybody is told."""
        if not self.breakable:
            return super().listen(name)
        self.gate(name)
        return [
            f"port {self.port(f'{name}-inside')}",
            f"replica-announce-ip {HOST}",
            f"replica-announce-port {self.port(name)}",
        ]

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
                # Who has to wait for one of few cores must not be taken for dead.
                f"sentinel down-after-milliseconds {SERVICE} 1000",
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

    # For faults ----------------------------------------------------------------------------------

    @property
    def members(self) -> list[Server]:
        """The primary and its replicas, in no order."""
        return self.servers[: self.nodes]

    def leading(self) -> int:
        """The number of the primary, as Sentinels name it. Raises Unreachable."""
        return self.servers.index(self.primary())

    def settled(self) -> bool:
        """Whether every server answers, and each Sentinel sees the whole set."""
        try:
            return super().settled() and all(map(self._sees_all, self.entrances))
        except ElectctlError:
            return False

    def part_replicas(self) -> None:
        """From now on the members do not hear of each other; Sentinels and clients see them all."""
        self.ways.split(*({number} for number in range(self.nodes)))


def write_once(path: Path, lines: Sequence[str]) -> Path:
    """Write a configuration unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return path


def _ask(server: Server, *command: object) -> object:
    target = Target.of(BackendURL("redis", (server.address,)))
    links = Links(target, _TIMEOUT)
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
