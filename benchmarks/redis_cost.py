"""What an election on Redis costs: round trips, hand-over, and what those who wait cost the server.

Ratios within one run; the bare client and redis-py's own lock are measured beside ours.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import redis

import electctl
from electctl.clock import now
from electctl.lab.cluster import Cluster, make_cluster

ROUNDS = 300
HANDOVERS = 30
#: What happens in a hand-over, in order: the leader's events, then the next one's.
LEADERS = ("command_exited", "command_gone", "released")
STEPS = (*LEADERS, "elected", "command_started")
WAITING = 100
WINDOW = 10.0

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


def until(ready: Any, seconds: float = 30.0) -> None:
    """Wait until ``ready()`` is true."""
    deadline = now() + seconds
    while not ready():
        if now() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def uncontended(cluster: Cluster) -> None:
    """Acquire and release with nobody else there."""
    _, port = cluster.entrances[0].address
    bare = redis.Redis(port=port)
    release = bare.register_script(RELEASE)
    elector = electctl.connect(cluster.url)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        begun = time.perf_counter(), time.process_time()
        bare.set("bare", str(number), nx=True, px=10000)
        release(keys=["bare"], args=[str(number)])
        theirs.append(since(begun))
        begun = time.perf_counter(), time.process_time()
        elector.campaign("cost", candidate="a").release()
        ours.append(since(begun))
    before = calls(bare)
    elector.campaign("cost", candidate="a").release()
    after = calls(bare)
    sent = {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0)
    }
    print(f"uncontended acquire + release, medians of {ROUNDS}, in turn")
    for kind, what in enumerate(("on the clock", "of processor time")):
        us = statistics.median(cost[kind] for cost in ours)
        them = statistics.median(cost[kind] for cost in theirs)
        print(f"  bare client (SET NX PX, compare-and-delete)  {them * 1e6:7.0f} µs {what}")
        print(
            f"  electctl                                     {us * 1e6:7.0f} µs × {us / them:.2f}"
        )
    print(f"  commands for one of ours: {sent}")
    elector.close()


def since(begun: tuple[float, float]) -> tuple[float, float]:
    """Seconds on the clock and of processor time since then."""
    wall, cpu = begun
    return time.perf_counter() - wall, time.process_time() - cpu


def calls(client: Any) -> dict[str, int]:
    """Calls of each command so far, those inside scripts included."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): some["calls"] for name, some in stats.items()}


def handover(cluster: Cluster) -> None:
    """From SIGTERM to the leader's electctl to the start of the next one's command."""
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    with tempfile.TemporaryDirectory() as home:
        events = Path(home, "0.jsonl")
        leader = start(cluster.url, events)
        until(lambda: seen(events, "command_started"))
        elector = electctl.connect(cluster.url)
        for number in range(1, HANDOVERS + 1):
            earlier, events = events, Path(home, f"{number}.jsonl")
            follower = start(cluster.url, events)
            until(lambda: elector.candidates("handover"))
            told = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            leader.send_signal(signal.SIGTERM)
            until(lambda events=events: seen(events, "command_started"))
            leader.wait()
            for name in STEPS:
                at = seen(earlier if name in LEADERS else events, name)
                steps[name].append(((at or 0) - told) / 1e6)
            leader = follower
        leader.terminate()
        leader.wait()
        elector.close()
    print(f"hand-over after SIGTERM, {HANDOVERS} times; ms since the signal was sent")
    for name, ms in steps.items():
        print(f"  {name:16} median {statistics.median(ms):5.1f}, least {min(ms):5.1f}", end="")
        print(f", most {max(ms):5.1f}")


def start(url: str, events: Path) -> subprocess.Popen[bytes]:
    """One campaign whose command does nothing for long."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "electctl", "-q", "campaign", "handover", "-b", url),
            *("--events", str(events), "--", "sleep", "1000"),
        ]
    )


def seen(events: Path, kind: str) -> int | None:
    """When that event happened (boottime_ns); None if it has not."""
    for line in events.read_text().splitlines() if events.exists() else []:
        event = json.loads(line)
        if event["event"] == kind:
            return int(event["boottime_ns"])
    return None


def waiting(cluster: Cluster) -> None:
    """What a hundred candidates that wait cost the server, and how many one release wakes."""
    _, port = cluster.entrances[0].address
    client = redis.Redis(port=port)
    elector = electctl.connect(cluster.url)
    leader = elector.campaign("crowd", candidate="leader")
    attempts = [elector.attempt("crowd", f"w{n}") for n in range(WAITING)]
    led: list[str] = []

    def wait(attempt: Any) -> None:
        try:
            with attempt.run():
                led.append(attempt.bid.candidate)
                over.wait()
        except electctl.errors.NotElected:
            return

    over = threading.Event()
    threads = [threading.Thread(target=wait, args=[attempt]) for attempt in attempts]
    for thread in threads:
        thread.start()
    until(lambda: len(elector.candidates("crowd")) == WAITING)
    renewals = measure(client)
    print(f"{WAITING} candidates waiting, TTL 10 s, over {WINDOW:g} s")
    print(f"  {sum(renewals.values()) / WINDOW:.1f} calls a second in all: {renewals}")
    before = calls(client)
    leader.release()
    until(lambda: led)
    after = calls(client)
    spent = {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}
    print(f"  one release: {len(led)} woken, calls {spent}")
    for attempt in attempts:
        attempt.cancel()
    over.set()
    for thread in threads:
        thread.join()
    elector.close()
    lock = measure_redis_py(port, client)
    print(f"  redis-py's Lock instead: {lock / WINDOW * 1:.1f} calls a second")


def measure(client: Any) -> dict[str, int]:
    """Calls within the window, less those of the measurement itself."""
    before = calls(client)
    time.sleep(WINDOW)
    after = calls(client)
    return {
        name: after[name] - before.get(name, 0)
        for name in after
        if name != "info" and after[name] != before.get(name, 0)
    }


def measure_redis_py(port: int, client: Any) -> float:
    """The same number of waiters on redis-py's own lock."""
    held = client.lock("theirs", timeout=60)
    held.acquire()
    stop = time.monotonic() + WINDOW + 2

    def wait() -> None:
        redis.Redis(port=port).lock("theirs", timeout=10).acquire(
            blocking_timeout=max(0.1, stop - time.monotonic())
        )

    threads = [threading.Thread(target=wait) for _ in range(WAITING)]
    for thread in threads:
        thread.start()
    spent = measure(client)
    for thread in threads:
        thread.join()
    return float(sum(spent.values()))


def main() -> None:
    """Measure and print."""
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, redis-py {redis.__version__}")
    with (
        tempfile.TemporaryDirectory() as home,
        make_cluster("redis", Path(home, "redis")) as cluster,
    ):
        uncontended(cluster)
        handover(cluster)
        waiting(cluster)


if __name__ == "__main__":
    main()
