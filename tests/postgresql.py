"""A real PostgreSQL server on loopback, for what is written under a fencing token.

What this does not guarantee: durability (``fsync`` is off), nor that others on this machine are
kept out: it trusts everybody who can reach the loopback port.

PostgreSQL refuses to run as root. Where we are root its programs run as Debian's user
``postgres``, who keeps the one capability to enter directories that are root's, so that its data
can lie under ``home`` like everybody's.
"""

from __future__ import annotations

import os
import pwd
import signal
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from electctl.errors import Unreachable
from electctl.lab.cluster import Cluster
from electctl.lab.ports import HOST
from electctl.lab.ready import exchange
from electctl.lab.server import Server, find_program

USER = "electctl"
DATABASE = "postgres"
PACKAGE = "postgresql"
#: The user that the package makes.
UNPRIVILEGED = "postgres"
_VERSION_3_0 = 196608


class PostgresCluster(Cluster):
    """One server, with a superuser :data:`USER` who needs no password."""

    def configure(self) -> None:
        """Make the data directory, unless it is there."""
        port = self.port("postgres")
        home = self.home / "postgres"
        data = home / "data"
        if not (data / "PG_VERSION").exists():
            self._initialize(data)
        # "off" and an empty directory: TCP on loopback is the only way in.
        settings = {
            "port": port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        argv = [*as_unprivileged(), find_program("postgres", PACKAGE), "-D", str(data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        self.servers = [
            Server(
                "postgres",
                argv,
                home=home,
                port=port,
                check=exchange(port, _startup(), b"R"),
                stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for clients
            )
        ]

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL of the database, as libpq reads it."""
        hosts = ",".join(f"{host}:{port}" for host, port in addresses)
        return f"postgresql://{USER}@{hosts}/{DATABASE}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which psql finds it."""
        return {
            "PGHOST": HOST,
            "PGPORT": str(self.port("postgres")),
            "PGUSER": USER,
            "PGDATABASE": DATABASE,
        }

    def _initialize(self, data: Path) -> None:
        program = find_program("initdb", PACKAGE)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.getuid() == 0:
            owner = pwd.getpwnam(UNPRIVILEGED)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", f"--user={USER}"]
        made = subprocess.run(
            [*as_unprivileged(), program, *options, "-D", str(data)],
            cwd=data,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise Unreachable(f"initdb failed: {made.stderr.strip()}")


def as_unprivileged() -> list[str]:
    """What to put before a program that refuses to be root's; nothing where we are not."""
    if os.getuid() != 0:
        return []
    return [
        find_program("setpriv", "util-linux"),
        f"--reuid={UNPRIVILEGED}",
        f"--regid={UNPRIVILEGED}",
        "--clear-groups",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
        # Changing the user takes away what electctl.lab.tether has asked for.
        "--pdeathsig=KILL",
        "--",
    ]


def _startup() -> bytes:
    """The first packet of a client (protocol 3.0); the answer R means that it may come in."""
    words = ("user", USER, "database", DATABASE, "")
    body = struct.pack("!i", _VERSION_3_0) + b"".join(w.encode() + b"\0" for w in words)
    return struct.pack("!i", len(body) + 4) + body
