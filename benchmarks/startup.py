"""Start-up: how long a command takes that does next to nothing, beside a bare interpreter.

Every command is run in turn, round after round, so that they meet the same machine. Medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from electctl.lab.cluster import make_cluster

ROUNDS = 15

SMALLEST_LOCK_SCRIPT = """
import sys, redis
with redis.Redis(port=int(sys.argv[1])).lock("smallest", timeout=10):
    pass
"""

#: Runs inside a campaign: times `electctl check` there, and prints the median in seconds.
INSIDE = """
import statistics, subprocess, sys, time
times = []
for _ in range(15):
    begun = time.perf_counter()
    subprocess.run([sys.argv[1], "check"], check=True, stdout=subprocess.DEVNULL)
    times.append(time.perf_counter() - begun)
print(statistics.median(times))
"""


def main() -> None:
    """Measure and print."""
    electctl = str(Path(sys.executable).with_name("electctl"))
    with (
        tempfile.TemporaryDirectory() as home,
        make_cluster("redis", Path(home, "redis")) as cluster,
    ):
        url, (_, port) = cluster.url, cluster.entrances[0].address
        commands = {
            "bare interpreter": [sys.executable, "-c", "pass"],
            "electctl --version": [electctl, "--version"],
            "electctl --help": [electctl, "--help"],
            "smallest redis-py lock": [sys.executable, "-c", SMALLEST_LOCK_SCRIPT, str(port)],
            "campaign X -- true": [electctl, "-q", "campaign", "X", "-b", url, "--", "true"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, argv in commands.items():
                begun = time.perf_counter()
                subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
                times[name].append(time.perf_counter() - begun)
        check = subprocess.run(
            [
                electctl,
                "-q",
                "campaign",
                "Y",
                "-b",
                url,
                "--",
                sys.executable,
                "-c",
                INSIDE,
                electctl,
            ],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        )
        times["electctl check (inside)"] = [float(check.stdout)]
    medians = {name: statistics.median(some) for name, some in times.items()}
    bare, lock = medians["bare interpreter"], medians["smallest redis-py lock"]
    print("start-up                     ms   × bare   × smallest lock script")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{name:24} {median * 1e3:7.1f}  {median / bare:6.1f}   {median / lock:6.2f}")


if __name__ == "__main__":
    main()
