"""Runs alone, three times, what failed among other tests: the last step of ``make test``.

Eight tests share two processors there, and most hold real servers against real leases: one that
finds no processor for a second can fail for that alone. It is named, and has to hold each time
when it has the machine to itself. What broke exclusion, or an order that exclusion rests on, is
a failure however seldom it happens, and so are more than a few tests at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Where pytest keeps the tests that failed last.
FAILED = Path(".pytest_cache/v/cache/lastfailed")
#: More than these at once are no accident.
MOST = 5
TIMES = 3
#: In the names of tests that are not run again.
NEVER = (
    "test_outside",
    "one_at_a_time",
    "stale",
    "later_term",
    "undoes",
    "fork",
    "tokens_grow",
    "simulat",
    "planted",
)


def main() -> int:
    failed = list(json.loads(FAILED.read_text())) if FAILED.exists() else []
    if not failed:
        return 0
    final = [name for name in failed if any(word in name for word in NEVER)]
    if final or len(failed) > MOST:
        print(f"failed, and not run again: {', '.join(final or failed)}", file=sys.stderr)
        return 1
    print(f"failed among others, and run again, alone: {', '.join(failed)}", file=sys.stderr)
    for _ in range(TIMES):
        again = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *failed]
        if code := subprocess.run(again, check=False).returncode:
            return code
    print(f"held {TIMES} times alone, to be mended: {', '.join(failed)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
