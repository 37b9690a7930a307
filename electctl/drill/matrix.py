"""All schemes × all faults that apply: what is to be played, and the file that results go to.

What this does not guarantee: that two matrices are alike where the machine was busy. Labs of
different schemes run at the same time; rounds in one lab follow each other.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electctl import __version__
from electctl.drill import catalogue, runner
from electctl.drill.round import Stopped
from electctl.drill.runner import Plan
from electctl.errors import ElectctlError, UsageError

#: Rounds of one lab before another is started: a fault may leave traces, and chunks share better.
CHUNK = 8

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """A round that gave no result."""

    plan: Plan
    why: str


def plans(
    schemes: Sequence[str],
    faults: Sequence[str],
    rounds: int,
    seed: int,
    ttl: float,
    candidate: str = "electctl",
) -> list[Plan]:
    """Every round of every cell. ``schemes`` and ``faults``: all if empty.

    Raises UsageError for names that do not exist.
    """
    found = []
    for scheme in schemes or catalogue.schemes(candidate):
        there = catalogue.applicable(scheme)
        for fault in [name for name in there if not faults or name in faults]:
            found += [
                Plan(scheme, fault, seed + number, ttl, candidate, number + 1)
                for number in range(rounds)
            ]
    for plan in found:
        runner.tool_of(plan)
    return found


def key_of(result: Mapping[str, Any]) -> tuple[object, ...]:
    """Which round a result is of."""
    return (
        result["scheme"],
        result["candidate"],
        result["fault"],
        result["seed"],
        result["ttl"],
        result["versions"]["electctl"],
    )


def key_of_plan(plan: Plan) -> tuple[object, ...]:
    """The same of one that is to be played."""
    return plan.scheme, plan.candidate, plan.fault, plan.seed, plan.ttl, __version__


def left(wanted: Iterable[Plan], known: Iterable[Mapping[str, Any]]) -> list[Plan]:
    """What is still to be played: not what has a result that says something."""
    done = {key_of(result) for result in known if result["verdict"] != "inconclusive"}
    return [plan for plan in wanted if key_of_plan(plan) not in done]


def labs_at_once() -> int:
    """Two for each processor: most of a round is waiting."""
    return 2 * (os.cpu_count() or 1)


class Results:
    """A file of results, appended to from any thread, one write a line."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}", hint="is the path right?"
            ) from None
        self._lock = threading.Lock()
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            # The last line has no end: its writer died. What it said is lost.
            text = os.pread(self._fd, size, 0)
            os.ftruncate(self._fd, text.rfind(b"\n") + 1)

    def add(self, result: Mapping[str, Any]) -> None:
        """Append one."""
        with self._lock:
            os.write(self._fd, json.dumps(result).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def play(
    wanted: Sequence[Plan],
    at_once: int,
    stop: threading.Event,
    tell: Tell,
    failed: Callable[[Failure], None],
) -> None:
    """Play all of them, in ``at_once`` labs at a time. ``tell`` and ``failed`` are called from any
    thread. Raises Stopped.
    """
    chunks = _chunks(wanted)
    with runner.home() as at, ThreadPoolExecutor(at_once, "drill-lab") as pool:

        def one(number: int) -> None:
            _chunk(chunks[number], at / str(number), stop, tell, failed)

        for done in [pool.submit(one, number) for number in range(len(chunks))]:
            done.result()


def _chunks(wanted: Sequence[Plan]) -> list[list[Plan]]:
    """Rounds of one scheme that share a lab; those of different schemes take turns."""
    by_scheme: dict[str, list[Plan]] = {}
    for plan in wanted:
        by_scheme.setdefault(plan.scheme, []).append(plan)
    cut = [
        [rounds[start : start + CHUNK] for start in range(0, len(rounds), CHUNK)]
        for rounds in by_scheme.values()
    ]
    longest = max(map(len, cut), default=0)
    return [chunks[place] for place in range(longest) for chunks in cut if place < len(chunks)]


def _chunk(
    rounds: Sequence[Plan],
    at: Path,
    stop: threading.Event,
    tell: Tell,
    failed: Callable[[Failure], None],
) -> None:
    todo = list(enumerate(rounds))
    while todo:
        if stop.is_set():
            raise Stopped
        here = at / str(todo[0][0])
        playing: Plan | None = None
        try:
            with runner.lab(todo[0][1], here / "lab") as cluster:
                while todo:
                    number, playing = todo.pop(0)
                    runner.mend(cluster)
                    tell(runner.one_round(cluster, playing, at / f"r{number}", stop))
        except ElectctlError as error:
            # The next ones get a lab of their own, unless none can be started.
            lost = [playing] if playing is not None else [plan for _, plan in todo]
            for plan in lost:
                failed(Failure(plan, error.message))
            if playing is None:
                return
