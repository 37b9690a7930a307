"""kazoo's own Election as a candidate of a drill: ``python -m electctl_zookeeper.native``.

``Election.run(function)`` with a function that runs the command, as kazoo's documentation shows it:
nothing there ends the function when the session is lost. The token is the czxid of our znode.

What this does not guarantee: that everybody uses it so. Who adds a listener can end the command.
"""

from __future__ import annotations

import os
import subprocess
import sys

from electctl.contract.backend import Native, NativeRun
from electctl.errors import UsageError
from electctl_zookeeper.names import Paths


def election(asked: Native) -> NativeRun:
    """A program with that election."""
    url = asked.url
    if url.user:
        raise UsageError(
            "the drill of a native tool takes a zk:// URL without a login", hint="zk://host"
        )
    hosts = ",".join(f"{host}:{port or 2181}" for host, port in url.hosts)
    chroot = f"/{url.path}" if url.path else ""
    path = Paths.of(asked.election, chroot).parent
    argv = [sys.executable, "-P", "-m", "electctl_zookeeper.native", hosts, path]
    return NativeRun([*argv, asked.candidate, f"{asked.ttl:g}", *asked.command], {}, token=True)


def main() -> int:
    """``native.py HOSTS PATH ID TTL COMMAND...``"""
    from kazoo.client import KazooClient

    hosts, path, candidate, ttl, *command = sys.argv[1:]
    client = KazooClient(hosts=hosts, timeout=float(ttl))
    client.start()
    wanted = client.Election(path, candidate)

    def lead() -> None:
        stat = client.exists(f"{path}/{wanted.lock.node}")
        token = "" if stat is None else str(stat.czxid)
        subprocess.run(command, env={**os.environ, "ELECTCTL_TOKEN": token}, check=False)

    wanted.run(lead)
    client.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
