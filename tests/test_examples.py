"""The demonstration is run as users run it, and shows what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import processes_with

pytestmark = pytest.mark.server

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_the_demo_shows_a_fail_over_and_its_verdict_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL to electctl of " in done.stdout
    assert "SIGKILL to all processes of " in done.stdout
    assert "overlap: 0 ms; tokens grow: yes" in done.stdout
    assert "verdict: at most one leader acted at any time" in done.stdout
    assert re.search(r"its command writes \d+ times under token \d+: all taken", done.stdout)
    assert re.search(r"its command writes \d+ times under token \d+: all refused", done.stdout)
    assert list(tmp_path.iterdir()) == []
    assert processes_with(str(tmp_path)) == []
