"""The checker against histories that are correct by construction: none is ever accused.

And against the same ones with one thing made wrong, which is always found.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electctl.verify.files import Histories
from electctl.verify.verdict import Verdict
from tests.histories import World

SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For all of them: to remove a directory may take longer than all else."""
    return tmp_path_factory.mktemp("histories")


def judged(home: Path, rng: random.Random, terms: int, *, faults: bool) -> Verdict:
    world = World(rng, faults=faults)
    world.run(terms)
    return Histories(world.files(home)).verify()


RANDOM = given(st.randoms(use_true_random=False), st.integers(0, 12))


@RANDOM
@settings(SETTINGS, max_examples=200)
def test_a_correct_history_is_never_accused(home: Path, rng: random.Random, terms: int) -> None:
    verdict = judged(home, rng, terms, faults=True)
    assert verdict.violation is None, verdict.violation


@RANDOM
@settings(SETTINGS, max_examples=100)
def test_a_correct_history_without_gaps_holds(home: Path, rng: random.Random, terms: int) -> None:
    verdict = judged(home, rng, terms, faults=False)
    assert (verdict.word, verdict.doubts, verdict.violation) == ("holds", (), None)


#: Of histories, each with the next seed: hypothesis takes as long for an example of its own.
ROW = 50
FIRST = given(st.integers(0, 2**64))


def rows(histories: int) -> settings:
    return settings(SETTINGS, max_examples=histories // ROW)


@pytest.mark.slow
@FIRST
@rows(8_000)
def test_8_000_correct_histories_are_not_accused(home: Path, first: int) -> None:
    for seed in range(first, first + ROW):
        rng = random.Random(seed)
        verdict = judged(home, rng, rng.randint(0, 12), faults=True)
        assert verdict.violation is None, (seed, verdict.violation)


@pytest.mark.slow
@FIRST
@rows(2_000)
def test_2_000_correct_histories_without_gaps_hold(home: Path, first: int) -> None:
    for seed in range(first, first + ROW):
        rng = random.Random(seed)
        verdict = judged(home, rng, rng.randint(0, 12), faults=False)
        found = (verdict.word, verdict.doubts, verdict.violation)
        assert found == ("holds", (), None), (seed, found)
