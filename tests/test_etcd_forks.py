"""Forks beside gRPC as it is by default: there it starts its threads anew in each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Tells tests/conftest.py to leave gRPC as it is.
DEFAULT = {"GRPC_ENABLE_FORK_SUPPORT": "1"}


@pytest.mark.slow
@pytest.mark.server
def test_a_fork_of_the_leader_gives_nothing_away(tmp_path: Path) -> None:
    """The conformance suite's cases, in a process of their own."""
    suite = Path(__file__).with_name("test_conformance_etcd_one.py")
    argv = ["-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    argv += ["--basetemp", str(tmp_path / "own"), "-k", "fork", str(suite)]
    done = subprocess.run(
        [sys.executable, *argv],
        env=os.environ | DEFAULT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
