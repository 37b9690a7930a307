"""Fail-over from a crash of electctl alone: ``python -m benchmarks.outside.crash``.

The TTL is 10 s, electctl gets SIGKILL, its command obeys SIGTERM. Printed is the time from the
signal to the second command's first line, for each store: the median, the least and the most, in
ms; and the smallest gap between the two commands.

What this does not show: which part of the time is whose.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.outside.rounds import Round, one_round
from benchmarks.stores import cluster_of

CRASHES = ("kill-electctl", "segv-electctl", "oom-electctl")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schemes", nargs="+", default=["redis", "etcd", "zk", "raft"])
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--crash", choices=CRASHES, default=CRASHES[0])
    parser.add_argument("--at-once", type=int, default=1, help="rounds played at the same time")
    parser.add_argument("--goal", type=float, help="ms; exit with 1 if a median is above it")
    args = parser.parse_args()
    print(f"{args.crash}, ttl {args.ttl:g} s, {args.rounds} rounds: take-over, ms")
    print("store          median    least     most   least gap")
    good = True
    for scheme in args.schemes:
        with (
            tempfile.TemporaryDirectory(prefix="electctl-crash-") as directory,
            cluster_of(scheme, Path(directory, "store"), args.nodes) as cluster,
            ThreadPoolExecutor(args.at_once) as pool,
        ):
            home = Path(directory)

            def play(_: int) -> Round:
                return one_round(cluster, args.crash, "plain", args.ttl, home)  # noqa: B023

            rounds = list(pool.map(play, range(args.rounds)))
            took = [done.takeover for done in rounds]
            gap = min(done.gap for done in rounds)
            median = statistics.median(took)
            print(
                f"{scheme:6} × {cluster.nodes}   {median:9.1f}{min(took):9.1f}{max(took):9.1f}"
                f"   {gap:9.1f}",
                flush=True,
            )
            good = good and gap > 0 and (args.goal is None or median <= args.goal)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
