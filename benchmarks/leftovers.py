"""What 10,000 names leave in a store and on its disk, and what their removal takes.

``python -m benchmarks.leftovers SCHEME [NAMES]``. Each name is led once and gets a checkpoint. The
sizes are of all files of the lab's server, logs and configuration among them, as they take room on
the disk. What this does not show: a store on a disk of its own (servers of a lab share this
machine), nor what a store's own compaction frees later.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from electctl import connect
from electctl.contract.backend import Bid
from electctl.lab.cluster import make_cluster

NAMES = 10_000
#: Threads that campaign; more than cores, because they wait for disks.
_THREADS = 4
#: Seconds until the last lease is surely over, for a store that counts it as use.
_LEASE = 12.0


def campaign(url: str, names: range) -> None:
    """Lead each of them once."""
    with connect(url) as elector:
        for number in names:
            candidacy = elector.backend.candidacy(Bid(f"job-{number:05}", "host-a", 10.0, 3.0))
            assert candidacy.acquire(None) is not None
            candidacy.write_checkpoint("", b"done", 1)
            candidacy.release()
            candidacy.close()


def sweep(url: str, *options: str) -> str:
    """How long the command took, and what it said."""
    began = time.monotonic()
    command = [sys.executable, "-m", "electctl", "sweep", url, "--older-than", "0s", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return f"{time.monotonic() - began:.1f} s: {done.stderr.strip()}"


def on_disk(home: Path) -> str:
    """The room that all files below take."""
    kib = sum(path.lstat().st_blocks for path in home.rglob("*")) // 2
    return f"{kib:,} KiB on disk"


def main(scheme: str, count: int) -> None:
    """Measure one scheme."""
    with (
        tempfile.TemporaryDirectory() as home,
        make_cluster(scheme, Path(home), 1) as cluster,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        print(f"{scheme}: before, {on_disk(Path(home))}")
        began = time.monotonic()
        shares = [range(first, count, _THREADS) for first in range(_THREADS)]
        list(pool.map(campaign, [cluster.url] * _THREADS, shares))
        print(f"{scheme}: {count} elections in {time.monotonic() - began:.1f} s")
        time.sleep(_LEASE)
        print(f"after them, {on_disk(Path(home))}")
        print("dry run", sweep(cluster.url))
        print("removal", sweep(cluster.url, "--yes"))
        print(f"after that, {on_disk(Path(home))}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else NAMES)
