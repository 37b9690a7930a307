"""Real etcd clusters on loopback: 1, 3 or 5 members, with TLS and users where asked for.

What this does not guarantee: that a quorum survives what the machine does not; all members share
one disk and one clock. Timing is etcd's default (heartbeat 100 ms, election 1 s), so the smallest
TTL is 2 s.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote
from urllib.request import urlopen

from electctl.errors import Unreachable
from electctl.lab.certificates import make_certificates
from electctl.lab.cluster import Cluster
from electctl.lab.gate import Gate, Ways
from electctl.lab.ports import HOST
from electctl.lab.ready import http_get
from electctl.lab.server import Server, find_program

_COMMAND_TIMEOUT = 20.0
_PACKAGE_SERVER = "etcd-server"
_PACKAGE_CLIENT = "etcd-client"


class EtcdCluster(Cluster):
    """``nodes`` members; with TLS and client certificates where ``scheme`` is ``etcds``.

    ``login`` is "user:password": authentication is switched on, and that user may use the prefixes
    of ``elections`` and ours and nothing else, or all keys if none is named. ``extra`` holds more
    arguments for every member.
    """

    node_counts: ClassVar[tuple[int, ...]] = (1, 3, 5)
    followers_serve: ClassVar[bool] = True
    votes: ClassVar[bool] = True
    asks_libc: ClassVar[bool] = False  # it is written in Go

    def __init__(
        self,
        home: Path,
        nodes: int | None = None,
        *,
        scheme: str = "etcd",
        login: str = "",
        elections: Sequence[str] = (),
        extra: Sequence[str] = (),
    ) -> None:
        super().__init__(home, nodes, scheme=scheme or "etcd")
        self.login = login
        self.elections = tuple(elections)
        self.extra = tuple(extra)
        self.certificates = home / "tls"
        self.ways = Ways()
        self._gates: dict[int, Gate] = {}

    @property
    def tls(self) -> bool:
        """Whether members speak TLS only, and ask clients for a certificate."""
        return self.scheme == "etcds"

    def configure(self) -> None:
        """Make certificates for TLS; a member's data is made by its first start."""
        if self.tls:
            make_certificates(self.certificates)
        program = find_program("etcd", _PACKAGE_SERVER)
        names = [f"etcd-{index}" for index in range(self.nodes)]
        peers = {
            name: f"http://{HOST}:{self.peer_port(number)}" for number, name in enumerate(names)
        }
        for name in names:
            self.servers.append(self._member(program, name, peers))

    def peer_port(self, number: int) -> int:
        """The port at which the other members reach member ``number``.

        It listens at ``etcd-N-peer``; in a breakable cluster a gate stands before that.
        """
        inside = self.port(f"etcd-{number}-peer")
        if not self.breakable:
            return inside
        port = self.port(f"etcd-{number}-gate")
        if number not in self._gates:
            target = (HOST, inside)
            ways = {caller: self.ways.add(caller, number, target) for caller in range(self.nodes)}
            self._gates[number] = Gate(port, ways, self._pids)
        return port

    def _pids(self) -> dict[int, int]:
        return {number: server.pid for number, server in enumerate(self.servers) if server.pid}

    def _member(self, program: str, name: str, peers: dict[str, str]) -> Server:
        port = self.port(name)
        status = self.port(f"{name}-status")
        client = f"{'https' if self.tls else 'http'}://{HOST}:{port}"
        argv = [program, "--name", name, "--data-dir", str(self.home / name / "data")]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", f"http://{HOST}:{self.port(f'{name}-peer')}"]
        argv += ["--initial-advertise-peer-urls", peers[name]]
        argv += ["--initial-cluster", ",".join(f"{peer}={url}" for peer, url in peers.items())]
        argv += ["--initial-cluster-token", f"electctl-lab-{peers['etcd-0']}"]
        # Health and metrics without TLS and without a user.
        argv += ["--listen-metrics-urls", f"http://{HOST}:{status}"]
        argv += ["--heartbeat-interval", "100", "--election-timeout", "1000", "--logger", "zap"]
        if self.tls:
            folder = self.certificates
            argv += ["--cert-file", f"{folder}/server.crt", "--key-file", f"{folder}/server.key"]
            argv += ["--trusted-ca-file", f"{folder}/ca.crt", "--client-cert-auth"]
        if self.login:
            # The cheapest hash: a login is to cost a lab nothing.
            argv += ["--bcrypt-cost", "4"]
        argv += self.extra
        check = http_get(status, "/health")
        return Server(name, argv, home=self.home / name, port=port, check=check)

    def settle(self) -> None:
        """Make the users, once. A member that is healthy has a leader already."""
        done = self.home / "users"
        if not self.login or done.exists():
            return
        user, _, password = self.login.partition(":")
        prefixes = ["electctl.io/", *(f"{name}/" for name in self.elections)]
        grant = ["role", "grant-permission", "candidates", "--prefix=true", "readwrite"]
        for command in (
            ["user", "add", "root:root"],
            ["user", "grant-role", "root", "root"],
            ["user", "add", f"{user}:{password}"],
            ["role", "add", "candidates"],
            ["user", "grant-role", user, "candidates"],
            *([*grant, prefix] for prefix in (prefixes if self.elections else [""])),
            ["auth", "enable"],
        ):
            self.etcdctl(*command)
        done.touch()

    def etcdctl(self, *arguments: str, user: str = "") -> str:
        """Run etcdctl to its end on this cluster; what it printed. Raises Unreachable if it fails.

        ``user`` is "name:password".
        """
        done = subprocess.run(
            [*self.etcdctl_command(user=user), *arguments],
            env=self.etcdctl_environment(),
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise Unreachable(f"etcdctl {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def etcdctl_command(
        self, *, user: str = "", addresses: Sequence[tuple[str, int]] = ()
    ) -> list[str]:
        """How etcdctl is called on this cluster, without its own command.

        ``addresses`` are those of the members; all of them by default.
        """
        scheme = "https" if self.tls else "http"
        chosen = addresses or [server.address for server in self.servers]
        endpoints = ",".join(f"{scheme}://{host}:{port}" for host, port in chosen)
        command = [find_program("etcdctl", _PACKAGE_CLIENT), f"--endpoints={endpoints}"]
        if user:
            command.append(f"--user={user}")
        if self.tls:
            folder = self.certificates
            command += [f"--cacert={folder}/ca.crt", f"--cert={folder}/client.crt"]
            command.append(f"--key={folder}/client.key")
        return command

    @staticmethod
    def etcdctl_environment() -> dict[str, str]:
        """The environment for it: version 3 of the API, and no settings of the user's own."""
        kept = {name: value for name, value in os.environ.items() if "ETCDCTL" not in name}
        return {**kept, "ETCDCTL_API": "3"}

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL, with the login and the certificates that the members want."""
        login = f"{self.login}@" if self.login else ""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        options = ""
        if self.tls:
            folder = quote(str(self.certificates))
            options = f"?ca={folder}/ca.crt&cert={folder}/client.crt&key={folder}/client.key"
        return f"{self.scheme}://{login}{hosts}" + (f"/{options}" if options else "")

    # For faults ----------------------------------------------------------------------------------

    @property
    def members(self) -> list[Server]:
        """All of them."""
        return self.servers

    def leading(self) -> int:
        """The number of the member that leads the others. Raises LookupError if none does."""
        told = json.loads(self.etcdctl("endpoint", "status", "--write-out=json"))
        for number, status in enumerate(one["Status"] for one in told):
            if status["leader"] == status["header"]["member_id"]:
                return number
        raise LookupError("no member leads")

    def settled(self) -> bool:
        """Whether every member serves."""
        return not any(server.why_silent() for server in self.servers)

    def clock(self, number: int) -> float:
        """What a member puts into the Date of an answer: whole seconds. Raises Unreachable."""
        place = f"http://{HOST}:{self.port(f'etcd-{number}-status')}/health"
        try:
            with urlopen(place, timeout=_COMMAND_TIMEOUT) as answer:
                return parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except OSError as error:
            raise Unreachable(f"etcd-{number} does not tell the time: {error}") from error

    def flush(self) -> int:
        """Delete every key; how many those were. Raises Unreachable."""
        return int(self.etcdctl("del", "", "--prefix"))

    def close(self) -> None:
        """Stop the members, and end what stands between them."""
        super().close()
        for gate in self._gates.values():
            gate.close()
        self.ways.close()
