"""Every sh and python block of the README and the docs is run, in a clean home."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    "examples/README.md",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/*.md"))),
]

#: What must be in the output of a page's blocks.
SHOWN = {
    "README.md": ("this runs on the leader only", "host-a", "42"),
    "docs/check.md": ("), not host-b", "nobody leads web", "down"),
    "docs/recipes.md": (
        "the report, by one host",
        "today's report",
        "migrating",
        "term with token 2",
        "leading, with the arguments: one two",
        "step 3",
        "send requests to host-a",
        "item 4",
        "promoted",
        "demoted",
        "somebody else leads",
        "outcome completed, command_exit 75",
        "version-2 leads",
        "(nobody)",
    ),
}


def blocks(page: str, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall((ROOT / page).read_text()) if kind == language]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who has just installed electctl: no page needs another."""
    home = tmp_path / "newcomer"
    home.mkdir()
    env = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "LANG": "C.UTF-8",
    }
    yield env
    for args in (["lab", "down", "--all"], ["raft", "stop"]):
        subprocess.run(
            [sys.executable, "-m", "electctl", *args], env=env, cwd=home, capture_output=True
        )


def run_blocks(page: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """All sh blocks of one page, in order, in one shell that stops at the first failure."""
    script = "\n".join(["set -euo pipefail", *blocks(page, "sh")])
    return subprocess.run(
        ["bash", "-c", script],
        env=env,
        cwd=env["HOME"],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")])
def test_every_shell_block_runs_and_shows_what_the_page_says(
    page: str, newcomer: dict[str, str]
) -> None:
    done = run_blocks(page, newcomer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    shown = done.stdout.splitlines()
    for line in SHOWN.get(page, ()):
        assert any(line in each for each in shown), f"{line!r} is not in:\n{done.stdout}"
    assert "never printed" not in done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_every_python_block_runs(page: str, redis_url: str) -> None:
    for code in blocks(page, "python"):
        code = code.replace("redis://127.0.0.1:6379/0", redis_url)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
