"""Simulated minutes without end: ``python -m benchmarks.soak [--from SEED] [--seeds N]``.

Runs until stopped (or for N seeds), prints seeds and core steps a second, and at a violation the
shrunk trace; the exit code is then 1. What it does not measure: a real node, which also writes to
a disk and a socket.

``--bug NAME`` runs a planted bug instead and counts the seeds in which it is found, ``--bugs``
all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from electctl.simulate.run import Subject, run_seed
from electctl.simulate.shrink import report
from electctl.simulate.weather import WEATHERS
from tests.raft.planted import BUGS

PAUSE = 5.0


def soak(weather: str | None, first: int, seeds: int | None) -> int:
    """Run seeds from ``first`` on; 1 at the first violation, 0 when ``seeds`` have been run."""
    begun = said = time.monotonic()
    busy = time.process_time()
    steps = number = 0
    while seeds is None or number < seeds:
        outcome = run_seed(first + number, weather=weather)
        if outcome.violation is not None:
            print(report(outcome))
            return 1
        number += 1
        steps += outcome.steps
        now = time.monotonic()
        if now - said >= PAUSE or number == seeds:
            said = now
            used = time.process_time() - busy
            print(
                f"seeds {first} to {first + number - 1}: {number} without a violation, "
                f"{number / (now - begun):.1f} seeds/s, "
                f"{steps / used:.0f} core steps/s of one core",
                flush=True,
            )
    return 0


def count(name: str, subject: Subject, weather: str | None, first: int, seeds: int) -> None:
    """In how many seeds a planted bug is found, where first, and by which invariant."""
    found: Counter[str] = Counter()
    earliest = None
    for seed in range(first, first + seeds):
        outcome = run_seed(seed, subject, weather)
        if outcome.invariant is not None:
            found[outcome.invariant] += 1
            earliest = seed if earliest is None else earliest
    by = ", ".join(f"{invariant} {times}" for invariant, times in found.most_common())
    print(f"{name:40} {found.total():4} of {seeds}  first {earliest}  {by}", flush=True)


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seeds", type=int, metavar="N", help="default: until stopped")
    parser.add_argument("--bug", choices=sorted(BUGS), action="append", default=[])
    parser.add_argument("--bugs", action="store_true", help="all of the planted bugs")
    parser.add_argument("--weather", choices=sorted(WEATHERS), help="default: each seed draws one")
    options = parser.parse_args()
    names = list(BUGS) if options.bugs else options.bug
    for name in names:
        count(name, BUGS[name], options.weather, options.first, options.seeds or 100)
    return 0 if names else soak(options.weather, options.first, options.seeds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
