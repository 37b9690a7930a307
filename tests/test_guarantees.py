"""The pages that are made from data are those that the data make now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from electctl import errors

ROOT = Path(__file__).parent.parent


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def _all_errors(kind: type[errors.ElectctlError]) -> set[type[errors.ElectctlError]]:
    below = {error for child in kind.__subclasses__() for error in _all_errors(child)}
    return {kind, *below}


def test_the_page_on_exit_codes_has_every_code() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    codes = {code.strip() for row in rows for code in row.split(",")}
    wanted = {error.exit_code for error in _all_errors(errors.ElectctlError)}
    assert {str(code) for code in (0, 70, 74, 130, 141, 143, *wanted)} <= codes
