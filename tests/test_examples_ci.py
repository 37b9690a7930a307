"""The example for CI: its step passes, and fails when somebody weakens an election."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from tests.examples import EXAMPLES, Example
from tests.processes import Electctl

WORKFLOW = EXAMPLES / "advise-ci" / "workflow.yaml"


@pytest.fixture
def step() -> list[str]:
    """What the workflow runs, other than the installation."""
    workflow = yaml.safe_load(WORKFLOW.read_text())
    (job,) = workflow["jobs"].values()
    lines = [step["run"] for step in job["steps"] if "run" in step]
    assert lines[0] == "pip install electctl"
    (line,) = lines[1:]
    return shlex.split(line)


def test_the_elections_of_the_example_are_strong_enough(
    electctl: Electctl, step: list[str]
) -> None:
    with Example(electctl, "advise-ci", "redis://127.0.0.1:9/0") as example:
        said = example.run(*step)
        assert said.count("strong enough") == 2


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (("etcds://", "redis://"), 1, "token_sound is no"),
        (("stakes: low", "stakes: high\n      resource: checks"), 1, "exclusion is lease"),
        (("stakes: low", ""), 2, "missing: stakes"),
        (("stakes: low", "stake: low"), 78, "did you mean stakes?"),
    ],
)
def test_a_weaker_choice_a_missing_answer_and_a_typing_error_fail(
    electctl: Electctl, step: list[str], change: tuple[str, str], code: int, reason: str
) -> None:
    with Example(electctl, "advise-ci", "redis://127.0.0.1:9/0") as example:
        file: Path = example.home / "electctl.yaml"
        before = file.read_text()
        file.write_text(before.replace(*change))
        assert file.read_text() != before
        assert reason in example.run(*step, code=code)
