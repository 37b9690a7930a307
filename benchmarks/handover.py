"""How soon the next leads, beside the native tools on the same servers, in the same run.

- after SIGTERM to the leader: until the next says that it leads, and until its command runs;
- after SIGKILL of all of the leader's processes: in units of the TTL.

Tools take turns, so that they meet the same machine. ``etcdctl lock`` does not pass SIGTERM on to
its command, so its command is told directly. redis-py's ``Lock`` polls every 100 ms and does not
renew. What this does not show: a network's round trips; all is on one machine.

    python -m benchmarks.handover --schemes redis etcd zk --rounds 20
    python -m benchmarks.handover --schemes redis --steps      what happens when, with a command
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import electctl
from benchmarks.outside.campaign import until
from benchmarks.stores import cluster_of
from electctl.base.clock import now
from electctl.core.elector import LeaderElector
from electctl.faults.processes import send
from electctl.lab.cluster import Cluster
from electctl.lab.server import tree
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster

NATIVE = Path(__file__).with_name("native.py")
COMMAND = ("sh", "-c", "echo held; exec sleep 1000")
DEADLINE = 60.0
#: A fail-over is measured at the default TTL of most tools.
TTL = 10.0
AT_ONCE = 5


class Process:
    """A tool that stands in an election; says when a line with ``mark`` came."""

    def __init__(self, argv: list[str], mark: str) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._mark = mark.encode()
        self._held = threading.Event()
        self.held_at = 0.0
        self.waiting = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                if b"waiting" in line:
                    self.waiting.set()
                if self._mark in line and not self._held.is_set():
                    self.held_at = now()
                    self._held.set()

    def wait_held(self) -> float:
        """When it said that it leads. Raises TimeoutError."""
        if not self._held.wait(DEADLINE):
            raise TimeoutError(f"{self.process.args!r} does not lead")
        return self.held_at

    def tree(self) -> list[int]:
        """It and all that it started."""
        return tree(self.process.pid)

    def kill(self) -> None:
        """SIGKILL of all at once: stopped first, so that none can react to another's end."""
        pids = self.tree()
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            send(pids, signum)
        self.process.wait()


class Tool:
    """How one tool is started on a cluster, and told to stop."""

    def __init__(self, name: str, start: Callable[[str, str], Process], *, tell_all: bool = False):
        self.name = name
        self.start = start
        self._tell_all = tell_all

    def stop(self, leader: Process) -> None:
        """SIGTERM."""
        send(leader.tree() if self._tell_all else [leader.process.pid], signal.SIGTERM)


def tools(cluster: Cluster, ttl: float) -> list[Tool]:
    """electctl without and with a command, and the native tools of that store."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.entrances)

    def campaign(election: str, name: str, *command: str) -> list[str]:
        argv = [sys.executable, "-m", "electctl", "campaign", election, "-b", cluster.url]
        argv += ["--id", name, "--ttl", f"{ttl:g}s"]
        return [*argv, "-q", "--", *command] if command else [*argv, "--json"]

    found = [
        Tool("electctl", lambda e, n: Process(campaign(e, n), '"elected"')),
        Tool("electctl -- command", lambda e, n: Process(campaign(e, n, *COMMAND), "held")),
    ]
    if isinstance(cluster, EtcdCluster):
        lock = [*cluster.etcdctl_command(), "lock"]
        lock.append(f"--ttl={ttl:g}")
        found += [
            Tool("etcdctl lock", lambda e, n: Process([*lock, e], f"{e}/")),
            Tool(
                "etcdctl lock -- command",
                lambda e, n: Process([*lock, e, "--", *COMMAND], "held"),
                tell_all=True,
            ),
        ]
    elif not isinstance(cluster, RaftCluster):  # which has no other client
        client = "redis-py" if "redis" in cluster.url else "kazoo"
        argv = [sys.executable, str(NATIVE), client, hosts]
        found.append(Tool(client, lambda e, n: Process([*argv, e, f"{ttl:g}"], "held")))
    return found


def wait_queued(elector: LeaderElector, election: str, follower: Process) -> None:
    """Until the follower waits: it says so, or the store lists it."""
    deadline = now() + DEADLINE
    while not follower.waiting.is_set() and not elector.candidates(election):
        if now() > deadline:
            raise TimeoutError(f"nobody waits in {election}")
        time.sleep(0.01)
    # Who says so has still to ask.
    time.sleep(0.3)


class Chain:
    """Leaders that follow each other in one election."""

    def __init__(self, tool: Tool, elector: LeaderElector) -> None:
        self._tool = tool
        self._elector = elector
        self._election = f"chain-{os.urandom(4).hex()}"
        self._number = 0
        self._leader = self._start()
        self._leader.wait_held()

    def _start(self) -> Process:
        self._number += 1
        return self._tool.start(self._election, f"c{self._number}")

    def hand_over(self) -> float:
        """Seconds from SIGTERM to the next leader's word."""
        follower = self._start()
        wait_queued(self._elector, self._election, follower)
        told = now()
        self._tool.stop(self._leader)
        took = follower.wait_held() - told
        self._leader.process.wait(DEADLINE)
        self._leader = follower
        return took

    def close(self) -> None:
        """Leave nothing behind."""
        self._leader.kill()


#: What happens in a hand-over, in order: the leader's events, then the next one's.
LEADERS = ("command_exited", "command_gone", "released")
STEPS = (*LEADERS, "elected", "command_started")


def steps(cluster: Cluster, rounds: int) -> dict[str, list[float]]:
    """Milliseconds from SIGTERM to each of STEPS, from the events of electctl's campaigns."""
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        elector = stack.enter_context(electctl.connect(cluster.url))

        def start(number: int) -> tuple[Process, Path]:
            events = home / f"{number}.jsonl"
            argv = [sys.executable, "-m", "electctl", "-q", "campaign", "steps", "-b", cluster.url]
            argv += ["--ttl", f"{TTL:g}s", "--events", str(events), "--", *COMMAND]
            campaign = Process(argv, "held")
            stack.callback(campaign.kill)
            return campaign, events

        leader, earlier = start(0)
        leader.wait_held()
        for number in range(1, rounds + 1):
            follower, events = start(number)
            wait_queued(elector, "steps", follower)
            told = now()
            send([leader.process.pid], signal.SIGTERM)
            follower.wait_held()
            leader.process.wait(DEADLINE)
            until(partial(told_of_start, events), "no word of its command's start")
            happened = {**seen(events), **{name: seen(earlier)[name] for name in LEADERS}}
            for name in STEPS:
                times[name].append((happened[name] - told) * 1e3)
            leader, earlier = follower, events
    return times


def told_of_start(events: Path) -> bool:
    """Whether the command's start is among the events; it may have said so itself before."""
    return "command_started" in seen(events)


def seen(events: Path) -> dict[str, float]:
    """When each event happened, on electctl's clock; the last of each kind."""
    lines = [json.loads(line) for line in events.read_text().rpartition("\n")[0].splitlines()]
    return {line["event"]: line["boottime_ns"] / 1e9 for line in lines}


def fail_over(tool: Tool, elector: LeaderElector, ttl: float) -> float:
    """Seconds from SIGKILL to the next leader's word."""
    election = f"fail-{os.urandom(4).hex()}"
    leader = tool.start(election, "first")
    leader.wait_held()
    follower = tool.start(election, "second")
    wait_queued(elector, election, follower)
    # At any moment between two renewals.
    time.sleep(int.from_bytes(os.urandom(1)) / 256 * ttl / 3)
    leader.kill()
    killed = now()
    took = follower.wait_held() - killed
    follower.kill()
    return took


def measure(cluster: Cluster, scheme: str, rounds: int, failures: int) -> None:
    """Measure and print one store."""
    some = tools(cluster, TTL)
    with electctl.connect(cluster.url) as elector:
        chains = [Chain(tool, elector) for tool in some]
        times: dict[str, list[float]] = {tool.name: [] for tool in some}
        for _ in range(rounds):
            for tool, chain in zip(some, chains, strict=True):
                times[tool.name].append(chain.hand_over() * 1e3)
        for chain in chains:
            chain.close()
        ratios: dict[str, list[float]] = {}
        for tool in some:
            if "command" not in tool.name:
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    jobs = [pool.submit(fail_over, tool, elector, TTL) for _ in range(failures)]
                    ratios[tool.name] = [job.result() / TTL for job in jobs]
    for name, taken in times.items():
        after = ratios.get(name)
        crash = f"{statistics.median(after):6.3f} {max(after):6.3f}" if after else ""
        show(cluster, scheme, name, taken, crash)


def show(cluster: Cluster, scheme: str, name: str, ms: list[float], more: str = "") -> None:
    """One line: median, least and most."""
    print(
        f"{scheme:5} × {cluster.nodes}  {name:24} {statistics.median(ms):7.1f} "
        f"{min(ms):7.1f} {max(ms):7.1f}   {more}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schemes", nargs="+", default=["redis", "etcd", "zk"])
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--failures", type=int, default=10)
    parser.add_argument("--steps", action="store_true", help="what happens when, with a command")
    args = parser.parse_args()
    if args.steps:
        print(f"hand-over after SIGTERM, ms since the signal, {args.rounds} times")
        print("store      step                      median   least    most")
    else:
        print(f"hand-over after SIGTERM, ms, {args.rounds} times; fail-over, × TTL of {TTL:g} s")
        print("store      tool                      median   least    most   median   most")
    for scheme in args.schemes:
        nodes = 1 if scheme == "redis" else args.nodes
        with (
            tempfile.TemporaryDirectory() as home,
            cluster_of(scheme, Path(home, scheme), nodes) as cluster,
        ):
            if args.steps:
                for name, taken in steps(cluster, args.rounds).items():
                    show(cluster, scheme, name, taken)
            else:
                measure(cluster, scheme, args.rounds, args.failures)


if __name__ == "__main__":
    main()
