"""``electctl verify`` on a million lines: time, processor time, peak memory.

A correct history, a record with its hash chain and campaigns' events in a second file, of one
election and of many, whose lines are mixed. Processor time says the same on a machine that others
use at the same time. Aims: 1,000,000 events in under 30 s, in memory that their number does not
matter to.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from electctl.record import chain

LINES = 1_000_000
#: (lines, elections)
CASES = ((LINES // 10, 1), (LINES, 1), (LINES, 1_000), (LINES, 50_000))

_TERM: tuple[tuple[str, bool, dict[str, Any]], ...] = (
    ("campaigning", False, {}),
    ("elected", False, {"remaining": 9.8}),
    ("holder", True, {"since": None, "ttl": 10.0, "expires_in": 9.9, "waiting": []}),
    ("command_started", False, {"pid": 77}),
    ("command_exited", False, {"exit": 0}),
    ("command_gone", False, {"margin_ms": 5000}),
    ("released", False, {}),
    ("vacant", True, {"waiting": []}),
    ("finished", False, {"outcome": "completed", "exit_code": 0, "message": ""}),
)
_SEEN = {"url": "etcd://127.0.0.1:2379"}


def history(lines: int, elections: int) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Lines in order of time; True for those of the observer."""
    rng = random.Random(1)
    tokens = [0] * elections
    at = 10**12

    def line(event: str, number: int, holder: str | None, **more: Any) -> dict[str, Any]:
        nonlocal at
        at += 1_000_000
        return {
            "ts": "2026-01-31T02:00:04.118Z",
            "event": event,
            "election": f"election-{number}",
            "backend": "etcd",
            "holder": holder,
            "token": None if holder is None else tokens[number],
            **more,
            "boot_id": "2f4b6d0e-6a0f-4f0e-9f43-0d8d3c1a2b3c",
            "boottime_ns": at,
        }

    for number in range(elections):
        yield True, line("recording", number, None, **_SEEN)
        yield True, line("vacant", number, None, waiting=[], **_SEEN)
    for _ in range((lines - 3 * elections) // len(_TERM)):
        number = rng.randrange(elections)
        tokens[number] += 1
        who = f"host-{rng.randrange(5)}"
        for event, observed, more in _TERM:
            leads = event not in ("campaigning", "vacant", "finished")
            extra = dict(more) | (_SEEN if observed else {"candidate": who})
            if event == "released":
                extra["led_until_ns"] = at
            yield observed, line(event, number, who if leads else None, **extra)
    for number in range(elections):
        yield True, line("recorded", number, None, **_SEEN)


def write(home: Path, lines: int, elections: int) -> list[Path]:
    """The history as a record and a file of events."""
    paths = [home / "record", home / "events"]
    n, prev = 0, ""
    with paths[0].open("wb") as record, paths[1].open("w") as events:
        for observed, obj in history(lines, elections):
            if observed:
                raw, prev = chain.seal(obj, "0123456789ab", n, prev)
                n += 1
                record.write(raw)
            else:
                events.write(json.dumps(obj) + "\n")
    return paths


def measure(paths: list[Path]) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, MB at most. Raises CalledProcessError on any fault."""
    argv = [str(Path(sys.executable).with_name("electctl")), "verify", *map(str, paths)]
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    print("electctl verify: a record and campaigns' events")
    print(f"{'lines':>9}  {'elections':>9}  {'time':>8}  {'processor':>9}  {'memory':>7}")
    for lines, elections in CASES:
        with tempfile.TemporaryDirectory() as home:
            wall, cpu, memory = measure(write(Path(home), lines, elections))
        print(
            f"{lines:>9}  {elections:>9}  {wall:>6.1f} s  {cpu:>7.1f} s  {memory:>4.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
