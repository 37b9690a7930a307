"""A real ZooKeeper, alone or as an ensemble of three, for tests, drills and ``electctl lab``.

What this does not guarantee: timing as in production. The tick is short, so that sessions of about
a second are possible.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError, NotEmptyError

from electctl.base.clock import now
from electctl.errors import MissingDependency, Unreachable
from electctl.lab.cluster import Cluster
from electctl.lab.gate import Ways
from electctl.lab.ports import HOST
from electctl.lab.ready import exchange
from electctl.lab.server import POLL, START_TIMEOUT, Server, find_program

#: The servers' tickTime in milliseconds.
TICK_MS = 200
#: Ticks that a follower may lag or be silent, and that it may take to catch up when it joins.
SYNC_LIMIT = 15
INIT_LIMIT = 50
JAVA = Path("/usr/share/java")
#: ZooKeeper's own jar names most others in its manifest.
JARS = ("zookeeper.jar", "slf4j-simple.jar", "netty-codec.jar", "netty-resolver.jar")
#: The tree of ZooKeeper itself.
_OWN = "zookeeper"
_LEADING = {"leader", "standalone"}
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_SASL = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"


class ZooKeeperCluster(Cluster):
    """``nodes`` servers; ``users`` (name → password) can log in by SASL DIGEST-MD5.

    ``tls`` is a directory with ``server.pem`` (key and certificate) and ``ca.pem``; clients then
    speak TLS and need the ``ca`` in their URL.
    """

    node_counts: ClassVar[tuple[int, ...]] = (1, 3)
    followers_serve: ClassVar[bool] = True
    votes: ClassVar[bool] = True

    def __init__(
        self,
        home: Path,
        nodes: int | None = None,
        *,
        scheme: str = "",
        users: Mapping[str, str] | None = None,
        tls: Path | None = None,
    ) -> None:
        super().__init__(home, nodes, scheme=scheme)
        self.users = dict(users or {})
        self.tls = tls
        self.ways = Ways()

    def configure(self) -> None:
        """Raises MissingDependency without Debian's packages."""
        java = find_program("java", "default-jre-headless")
        for jar in JARS:
            if not (JAVA / jar).exists():
                raise MissingDependency(
                    f"{JAVA / jar} is missing", hint="apt-get install zookeeper libnetty-java"
                )
        for number in range(1, self.nodes + 1):
            self.servers.append(self._server(java, number))

    def version(self) -> str:
        """What the first server says of itself."""
        found = re.search(r"version: (\d+(\.\d+)+)", self.word(1, b"srvr"))
        return f"zookeeper {found[1]}" if found else "zookeeper"

    def peer_address(self, number: int, other: int) -> tuple[int, int]:
        """The quorum and election ports at which server ``number`` reaches server ``other``.

        In a breakable cluster these are of proxies.
        """
        real = self.port(f"quorum{other}"), self.port(f"election{other}")
        if not self.breakable or number == other:
            return real
        made = [self.ways.add(number - 1, other - 1, (HOST, port)) for port in real]
        return made[0].port, made[1].port

    def _server(self, java: str, number: int) -> Server:
        home = self.home / f"server{number}"
        data = home / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{number}\n")
        port = self.port(f"client{number}")
        config = home / "zoo.cfg"
        config.write_text("".join(f"{line}\n" for line in self._config(number, data, port)))
        return Server(
            f"server{number}",
            [
                java,
                *self._flags(home),
                "-cp",
                ":".join(str(JAVA / jar) for jar in JARS),
                _MAIN,
                str(config),
            ],
            home=home,
            port=port,
            check=exchange(self._word_port(number), b"ruok", b"imok"),
        )

    def _word_port(self, number: int) -> int:
        """Where four-letter words are answered in plain text."""
        return self.port(f"{'plain' if self.tls else 'client'}{number}")

    def _config(self, number: int, data: Path, port: int) -> list[str]:
        lines = [
            f"tickTime={TICK_MS}",
            f"initLimit={INIT_LIMIT}",
            f"syncLimit={SYNC_LIMIT}",
            "minSessionTimeout=400",
            "maxSessionTimeout=120000",
            f"dataDir={data}",
            f"clientPortAddress={HOST}",
            f"clientPort={self._word_port(number)}",
            "maxClientCnxns=0",
            "admin.enableServer=false",
            "4lw.commands.whitelist=*",
        ]
        if self.nodes > 1:
            for other in range(1, self.nodes + 1):
                quorum, election = self.peer_address(number, other)
                lines.append(f"server.{other}={HOST}:{quorum}:{election}")
        if self.users:
            lines.append(f"authProvider.sasl={_SASL}")
        if self.tls is not None:
            lines += [
                f"secureClientPort={port}",
                f"secureClientPortAddress={HOST}",
                "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
                f"ssl.keyStore.location={self.tls / 'server.pem'}",
                f"ssl.trustStore.location={self.tls / 'ca.pem'}",
                "ssl.clientAuth=none",
            ]
        return lines

    def _flags(self, home: Path) -> list[str]:
        flags = [
            "-Xmx128m",
            # Servers of a lab share few cores: start quickly, and collect with one thread.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dzookeeper.jmx.log4j.disable=true",
            # A lab outlives no crash of the machine; a slow disk would stall every test.
            "-Dzookeeper.forceSync=no",
        ]
        if self.users:
            jaas = home / "jaas.conf"
            known = "".join(f' user_{name}="{word}"' for name, word in self.users.items())
            jaas.write_text(
                "Server { org.apache.zookeeper.server.auth.DigestLoginModule required"
                f"{known}; }};\n"
            )
            jaas.chmod(0o600)
            flags.append(f"-Djava.security.auth.login.config={jaas}")
        return flags

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """With the tick that the servers really have."""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        return f"zk://{hosts}?tick={TICK_MS}ms"

    def settle(self) -> None:
        """Wait until every member serves and one leads."""
        deadline = now() + START_TIMEOUT
        while len(modes := self.modes()) < self.nodes or not set(modes.values()) & _LEADING:
            if now() >= deadline:
                raise Unreachable(f"the ensemble has no leader after {START_TIMEOUT:g} s: {modes}")
            time.sleep(POLL)

    def modes(self) -> dict[int, str]:
        """Server number → leader, follower or standalone, of those that serve now."""
        found = {}
        for number in range(1, self.nodes + 1):
            answer = self.word(number, b"srvr")
            _, mode, rest = answer.partition("Mode: ")
            if mode:
                found[number] = rest.split()[0]
        return found

    def word(self, number: int, word: bytes) -> str:
        """What a server answers to a four-letter word; "" if it does not answer."""
        try:
            with socket.create_connection((HOST, self._word_port(number)), 1.0) as sock:
                sock.sendall(word)
                chunks = []
                while chunk := sock.recv(65536):
                    chunks.append(chunk)
        except OSError:
            return ""
        return b"".join(chunks).decode(errors="replace")

    # For faults: a member's number is its place in ``servers``, from 0; its myid is one more ------

    @property
    def members(self) -> list[Server]:
        """All of them."""
        return self.servers

    def leading(self) -> int:
        """The number of the member that leads the others. Raises LookupError if none does."""
        for number, mode in self.modes().items():
            if mode in _LEADING:
                return number - 1
        raise LookupError("no member leads")

    def settled(self) -> bool:
        """Whether every member serves."""
        return len(self.modes()) == self.nodes

    def flush(self) -> int:
        """Delete every znode but ZooKeeper's own; how many those were. Raises Unreachable."""
        hosts = ",".join(f"{HOST}:{server.port}" for server in self.servers)
        client = KazooClient(hosts, timeout=START_TIMEOUT)
        try:
            client.start(START_TIMEOUT)
            return sum(
                _delete(client, f"/{name}") for name in client.get_children("/") if name != _OWN
            )
        except (KazooException, client.handler.timeout_exception) as error:
            raise Unreachable(f"the znodes cannot be deleted: {error!r}") from error
        finally:
            client.stop()
            client.close()

    def close(self) -> None:
        """Stop the members, and end what stands between them."""
        super().close()
        self.ways.close()


def _delete(client: KazooClient, path: str) -> int:
    """A znode and all below it, also what comes meanwhile."""
    count = 0
    while True:
        try:
            for name in client.get_children(path):
                count += _delete(client, f"{path}/{name}")
            client.delete(path)
        except NotEmptyError:
            continue
        except NoNodeError:
            return count
        return count + 1
