"""etcdctl as a candidate of a drill: ``etcdctl lock`` and ``etcdctl elect``, as people run them.

What this does not guarantee: that the command ends with the lease. ``lock`` lets it run on, which
is what the drill is to show; ``elect`` runs no command, so a shell around it does, and ends it when
``elect`` ends.
"""

from __future__ import annotations

from electctl.contract.backend import Native, NativeRun
from electctl.errors import UsageError
from electctl.lab.server import find_program

#: Seconds; ``etcdctl elect`` has no option for it (clientv3/concurrency, NewSession).
ELECT_TTL = 60.0
_ENVIRONMENT = {"ETCDCTL_API": "3"}
_LOCK = 'ELECTCTL_TOKEN=$ETCD_LOCK_REV exec "$@"'
#: It prints its key once it is elected, and ends when it is not any more.
_ELECT = """
elect=$1; shift
sh -c "$elect" | {
    read -r key || exit 75
    "$@" & command=$!
    cat > /dev/null
    kill $command
}
"""


def lock(asked: Native) -> NativeRun:
    """``etcdctl lock NAME COMMAND``; it tells its command a revision, which grows."""
    shell = ("sh", "-c", _LOCK, "sh")
    argv = [*_etcdctl(asked), "lock", f"--ttl={asked.ttl:g}", asked.election, "--"]
    return NativeRun([*argv, *shell, *asked.command], _ENVIRONMENT, token=True)


def elect(asked: Native) -> NativeRun:
    """``etcdctl elect NAME ID`` in a shell that runs the command while it does; no token."""
    words = " ".join([*_etcdctl(asked), "elect", asked.election, asked.candidate])
    argv = ["/bin/sh", "-c", _ELECT, "sh", f"exec {words}", *asked.command]
    return NativeRun(argv, _ENVIRONMENT, ttl=ELECT_TTL)


def _etcdctl(asked: Native) -> list[str]:
    url = asked.url
    if url.scheme != "etcd" or url.user:
        raise UsageError(
            "the drill of a native tool takes an etcd:// URL without a login", hint="etcd://host"
        )
    endpoints = ",".join(f"http://{host}:{port or 2379}" for host, port in url.hosts)
    return [find_program("etcdctl", "etcd-client"), f"--endpoints={endpoints}"]
