"""The changes of what decides can be made, and a gross one is noticed.

What this does not show: what survives; ``make mutants`` does, and takes an hour.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.mutants import ROOT, TARGETS, Mutant, Target, _copy, known, mutants_of, try_it

EVERY = [(target, module) for target in TARGETS.values() for module in target.tests]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "module"), EVERY, ids=[module for _, module in EVERY])
def test_every_change_leaves_a_module_that_python_takes(target: Target, module: str) -> None:
    source = (ROOT / target.folder / f"{module}.py").read_text()
    found = list(mutants_of(target.folder, module))
    assert found
    for mutant in found:
        changed = mutant.applied(source)
        assert changed != source
        ast.parse(changed)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_tests_that_are_to_notice_are_there(target: Target) -> None:
    named = {path for tests in target.tests.values() for path in tests if path.startswith("tests/")}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_makes_no_difference_is_still_there() -> None:
    names = {
        mutant.name for target, module in EVERY for mutant in mutants_of(target.folder, module)
    }
    assert known().keys() <= names


@pytest.mark.slow
def test_a_change_that_matters_is_noticed(tmp_path: Path) -> None:
    raft = TARGETS["raft"]
    majority = next(
        m for m in mutants_of(raft.folder, "core") if m.before == "len(voters) // 2 + 1"
    )
    assert isinstance(majority, Mutant)
    assert try_it(raft, majority, _copy(tmp_path / "copy"), 2).startswith("simulation")
