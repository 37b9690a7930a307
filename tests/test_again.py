"""What ``make test`` forgives, and what it does not: a real pytest in a directory of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import again

#: Fails as often as the file says, then holds.
FAILS = """
from pathlib import Path

def {name}():
    left = Path("left")
    count = int(left.read_text())
    left.write_text(str(count - 1))
    assert count < 1
"""
HOLDS = "def test_others():\n    pass\n"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest without plugins, which starts faster."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def outcome(place: Path, count: int, *names: str) -> subprocess.CompletedProcess[str]:
    (place / "left").write_text(str(count))
    tests = "".join(FAILS.format(name=name) for name in names)
    (place / "test_it.py").write_text(tests + HOLDS)
    first = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=place, check=False)
    assert first.returncode == (1 if count > 0 else 0)
    return subprocess.run(
        [sys.executable, again.__file__], cwd=place, capture_output=True, text=True, check=False
    )


def test_nothing_failed(tmp_path: Path) -> None:
    found = outcome(tmp_path, 0, "test_a")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_one_that_holds_alone_is_named(tmp_path: Path) -> None:
    found = outcome(tmp_path, 1, "test_a")
    assert found.returncode == 0
    assert found.stdout.count("1 passed") == again.TIMES
    assert "to be mended: test_it.py::test_a" in found.stderr


def test_one_that_fails_once_more_is_a_failure(tmp_path: Path) -> None:
    assert outcome(tmp_path, 2, "test_a").returncode == 1


@pytest.mark.parametrize("name", ["test_one_at_a_time_of_two", "test_a_stale_grant"])
def test_what_breaks_exclusion_is_never_forgiven(tmp_path: Path, name: str) -> None:
    found = outcome(tmp_path, 1, name)
    assert found.returncode == 1
    assert name in found.stderr


def test_many_at_once_are_no_accident(tmp_path: Path) -> None:
    names = [f"test_{number}" for number in range(again.MOST + 1)]
    found = outcome(tmp_path, len(names), *names)
    assert found.returncode == 1
    assert "not run again" in found.stderr
