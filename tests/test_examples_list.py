"""Every example is listed, says what it does not protect from, and is run by a test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.examples import EXAMPLES

FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] != "_")
SCRIPTS = sorted(EXAMPLES.glob("*/*.sh"))


def test_every_example_is_listed_and_run() -> None:
    listed = re.findall(r"^\| \[([\w-]+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == FOLDERS
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_examples_*.py"))
    assert set(re.findall(r'Example\(electctl, "([\w-]+)"', tests)) == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_example_says_what_it_shows_and_what_it_does_not_protect_from(folder: str) -> None:
    heads = [
        " ".join(path.read_text()[:3000].replace("#", " ").split())
        for path in (EXAMPLES / folder).iterdir()
        if path.is_file()
    ]
    assert any(
        re.search(r"Shows .* Run .* Does not protect from ", head, re.DOTALL) for head in heads
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_stops_at_its_first_error_and_is_executable(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in text
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", script], check=True)
