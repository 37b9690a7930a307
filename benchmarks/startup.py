"""Start-up: how long a command takes that does next to nothing, beside a bare interpreter.

Every command is run in turn, round after round, and compared with what ran beside it in the same
round, so that all meet the same machine. Shown are medians of the time on the clock and of the
processor time, user and system, of the command and all that it starts: the former says what a user
waits for, the latter says the same on a machine that others use at the same time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from electctl.lab.cluster import make_cluster
from electctl.lab.server import find_program
from electctl_etcd import requests
from electctl_etcd.rpc import pb

ROUNDS = 25

SMALLEST_LOCK_SCRIPT = """
import sys, redis
with redis.Redis(port=int(sys.argv[1])).lock("smallest", timeout=10):
    pass
"""

#: Its arguments are the member, and each call of etcd's API with its request in hex.
SMALLEST_ETCD_SCRIPT = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    for argument in sys.argv[2:]:
        call, _, request = argument.partition("=")
        channel.unary_unary(f"/etcdserverpb.{call}")(bytes.fromhex(request), timeout=5)
"""
LEASE = 0x51A7

#: Runs under a campaign and tells where that answers.
TELL_SOCKET = """
import os, sys
print(os.environ["ELECTCTL_SOCKET"], flush=True)
sys.stdin.read()
"""

BARE = "bare interpreter"
LOCK = "smallest redis-py lock"
ETCD_LOCK = "smallest lock by gRPC"
ON_ETCD = "the same on etcd:"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took, in seconds."""

    wall: float
    cpu: float


def run(argv: list[str], env: Mapping[str, str]) -> Cost:
    """Run a command once. Raises CalledProcessError if it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return Cost(wall, usage.ru_utime + usage.ru_stime)


@contextmanager
def campaigning(electctl: str, url: str, env: Mapping[str, str]) -> Iterator[str]:
    """A campaign that leads as long as the block; gives the socket on which it answers."""
    command = [sys.executable, "-c", TELL_SOCKET]
    with subprocess.Popen(
        [electctl, "-q", "campaign", "Y", "-b", url, "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def smallest_etcd_lock() -> list[str]:
    """The calls of a lock on etcd that nobody else wants: lease, key, release."""
    key = b"smallest/51a7"
    calls = {
        "Lease/LeaseGrant": pb.LeaseGrantRequest(ID=LEASE, TTL=10),
        "KV/Txn": requests.txn([requests.created_at(key, 0)], [requests.put(key, b"", LEASE)]),
        "Lease/LeaseRevoke": pb.LeaseRevokeRequest(ID=LEASE),
    }
    return [f"{call}={request.SerializeToString().hex()}" for call, request in calls.items()]


def main() -> None:
    """Measure and print."""
    electctl = str(Path(sys.executable).with_name("electctl"))
    # Modules are compiled when they are installed; here, by the first round.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with (
        tempfile.TemporaryDirectory() as home,
        make_cluster("redis", Path(home, "redis")) as cluster,
        make_cluster("etcd", Path(home, "etcd")) as etcd,
        campaigning(electctl, cluster.url, env) as socket,
    ):
        url, (_, port) = cluster.url, cluster.entrances[0].address
        env |= {"ELECTCTL_SOCKET": socket, "ETCDCTL_API": "3"}
        # The first round starts the embedded server there, and it ends by itself.
        env["ELECTCTL_STATE"] = str(Path(home, "state"))
        commands = {
            BARE: [sys.executable, "-c", "pass"],
            "electctl --version": [electctl, "--version"],
            "electctl check": [electctl, "check"],
            "electctl --help": [electctl, "--help"],
            "import redis": [sys.executable, "-c", "import redis"],
            LOCK: [sys.executable, "-c", SMALLEST_LOCK_SCRIPT, str(port)],
            "campaign X -- true": [electctl, "-q", "campaign", "X", "-b", url, "--", "true"],
            "the same on local:": [electctl, "-q", "campaign", "X", "-b", "local:", "--", "true"],
            "import grpc": [sys.executable, "-c", "import grpc"],
            ETCD_LOCK: [
                sys.executable,
                "-c",
                SMALLEST_ETCD_SCRIPT,
                f"127.0.0.1:{etcd.entrances[0].port}",
                *smallest_etcd_lock(),
            ],
            "etcdctl lock X true": [
                find_program("etcdctl", "etcd-client"),
                f"--endpoints=127.0.0.1:{etcd.entrances[0].port}",
                *("lock", "Z", "true"),
            ],
            ON_ETCD: [electctl, "-q", "campaign", "X", "-b", etcd.url, "--", "true"],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for number in range(ROUNDS + 1):
            for name, argv in commands.items():
                cost = run(argv, env)
                if number > 0:
                    costs[name].append(cost)
    print(f"start-up, medians of {ROUNDS} rounds; ratios are taken within each round")
    print("                              ms on the clock                  ms of processor time")
    print(
        "                              ms   × bare   × lock script      ms   × bare   × lock script"
    )
    for name in commands:
        print(f"{name:24}{_columns(costs, name, 'wall')}  {_columns(costs, name, 'cpu')}")
    pairs = zip(costs[ON_ETCD], costs[ETCD_LOCK], strict=True)
    ratio = statistics.median(ours.wall / bare.wall for ours, bare in pairs)
    print(f"on etcd, × {ETCD_LOCK}: {ratio:.2f}")


def _columns(costs: dict[str, list[Cost]], name: str, kind: str) -> str:
    values = [getattr(cost, kind) for cost in costs[name]]

    def ratio(other: str) -> float:
        beside = [getattr(cost, kind) for cost in costs[other]]
        return float(statistics.median(a / b for a, b in zip(values, beside, strict=True)))

    return f"{statistics.median(values) * 1e3:8.1f}  {ratio(BARE):7.2f}  {ratio(LOCK):12.2f}"


if __name__ == "__main__":
    main()
