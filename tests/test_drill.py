"""Drills on a real Redis: verdicts, and what ``verify`` says of the same rounds; broken builds.

All rounds are played once, at the same time, by one fixture.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from electctl.core import registry
from electctl.drill.entrants import Programs
from electctl.drill.evidence import Promise
from electctl.drill.judge import Judgement, judge
from electctl.drill.round import Setting, Spoilt, play
from electctl.faults import library
from electctl.faults.fault import Fault, Injected, Scene
from electctl.lab.cluster import Cluster, make_cluster
from electctl.verify.files import Histories
from electctl.verify.verdict import Verdict

pytestmark = [pytest.mark.quiet, pytest.mark.slow]

BROKEN = str(Path(__file__).with_name("broken_build.py"))
STUBBORN = (sys.executable, "-I", "-S", BROKEN, "stubborn")
#: Seconds that each answer takes on its way back, in :func:`late`: less than a renewal may take.
LATE = 1.1
#: Rounds at a time, on two cores.
AT_ONCE = 4
_TRIES = 3


@contextmanager
def late(scene: Scene) -> Iterator[Injected]:
    """Answers come late for a TTL, then none do any more."""
    (link,) = scene.links.values()
    link.delay(LATE, direction="replies")
    threading.Event().wait(scene.ttl)
    before = link.counters.requests.swallowed
    link.swallow("requests")
    yield Injected(f"the link of {scene.leader.name}", "its answers are late, then there are none")
    assert link.counters.requests.swallowed > before


LATE_ANSWERS = Fault("late", "answers are late, then there are none", late)


def electctl(what: str) -> tuple[str, ...]:
    """A build with that thing broken."""
    return (sys.executable, "-P", BROKEN, what)


@dataclass(frozen=True)
class Case:
    """One round, and what must come of it."""

    fault: Fault
    verdict: str
    ttl: float = 3.0
    programs: Programs = Programs()  # noqa: RUF009


CASES = {
    "crash": Case(library.find("crash:electctl"), "safe"),
    "pause-tree": Case(library.find("pause:tree"), "fenced"),
    "pause-electctl": Case(library.find("pause:electctl"), "safe"),
    "late": Case(LATE_ANSWERS, "safe", 6.0, Programs(writer=STUBBORN)),
    # What is broken changes the verdict:
    "pause-tree, unchecked ledger": Case(
        library.find("pause:tree"),
        "split-brain",
        programs=Programs(ledger=(sys.executable, BROKEN, "ledger")),
    ),
    "pause-electctl, no guardian": Case(
        library.find("pause:electctl"),
        "fenced",
        programs=Programs(electctl=electctl("no-guardian")),
    ),
    "late, counted from receipt": Case(
        LATE_ANSWERS, "fenced", 6.0, Programs(electctl("from-receipt"), writer=STUBBORN)
    ),
}


@dataclass(frozen=True)
class Played:
    """A round: what the judge says of it, and what verify does."""

    judgement: Judgement
    verified: Verdict


def _play(cluster: Cluster, case: Case, home: Path) -> Played:
    traits = registry.plugin("redis").traits_of("redis")
    bound = traits.failover_bound(case.ttl)
    setting = Setting(case.fault, "redis", bound, case.ttl, seed=7, programs=case.programs)
    for attempt in range(_TRIES):
        place = home / str(attempt)
        try:
            evidence = play(cluster, setting, place, threading.Event())
            break
        except Spoilt:
            if attempt == _TRIES - 1:
                raise
    files = [*place.glob("*.jsonl"), *place.glob("*.events")]
    promise = Promise(token=True, checkpoint=True, bound=int(bound * 1e9))
    return Played(judge(evidence, promise), Histories(files).verify())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Played]]:
    home = tmp_path_factory.mktemp("drill")
    with (
        make_cluster("redis", home / "lab", breakable=True) as cluster,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        rounds = {
            name: pool.submit(_play, cluster, case, home / str(number))
            for number, (name, case) in enumerate(CASES.items())
        }
        yield {name: each.result() for name, each in rounds.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_and_that_of_verify(played: dict[str, Played], name: str) -> None:
    judgement, verified = played[name].judgement, played[name].verified
    assert judgement.verdict == CASES[name].verdict, judgement.why
    broken = judgement.verdict != "safe"
    assert (verified.violation is not None) is broken, verified
    assert ("exclusion" in judgement.breaks) is broken
    if not broken:
        assert verified.doubts == (), verified.doubts


def test_what_a_paused_leader_tries_is_refused_by_the_ledger_and_the_checkpoint(
    played: dict[str, Played],
) -> None:
    stale = played["pause-tree"].judgement.stale
    assert stale["unfenced"].accepted == stale["unfenced"].tried > 0
    assert stale["fenced"].tried == stale["unfenced"].tried
    assert (stale["fenced"].accepted, stale["checkpoint"].accepted) == (0, 0)


def test_a_crash_costs_less_than_a_ttl(played: dict[str, Played]) -> None:
    judgement = played["crash"].judgement
    assert judgement.failover is not None
    assert judgement.failover < 3000
    assert judgement.margin is not None
    assert judgement.margin > 0
