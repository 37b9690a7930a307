"""A resolver that never answers holds up neither ``--wait`` nor a signal, on any scheme.

What this does not show: a resolver that falls silent while we lead; a release is then given up in
time (tests/test_leadership.py), and the grant runs out.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from electctl.base.clock import now
from tests.processes import Electctl, wait_for

HERE = Path(__file__).parent
URLS = [
    "redis://store.example",
    "redis+sentinel://store.example/service",
    "redis+cluster://store.example,other.example",
    "etcd://store.example",
    "zk://store.example",
    "raft://store.example:7401",
]
DEAF = ("unshare", "-rmn", sys.executable, str(HERE / "deaf.py"))
#: Seconds beyond the time for waiting: start-up, what is waited for a withdrawal, a busy machine.
SLACK = 5.0


class Deaf:
    """A campaign on a host of its own (:mod:`tests.deaf`), and what it says."""

    def __init__(self, electctl: Electctl, url: str, *options: str) -> None:
        program = str(Path(sys.executable).parent / "electctl")
        self.began = now()
        self._process = subprocess.Popen(
            [*DEAF, program, "campaign", "x", "-b", url, *options, "--", "true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=electctl.env,
        )
        assert self._process.stderr is not None
        self.first = self._process.stderr.readline()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        """Exit code, and what it said."""
        try:
            _, said = self._process.communicate(timeout=60)
        finally:
            self._process.kill()
        return self._process.returncode, self.first + said


@pytest.mark.parametrize("url", URLS)
def test_a_wait_ends_in_time(electctl: Electctl, url: str) -> None:
    code, said = Deaf(electctl, url, "--wait", "3s", "--json").end()
    assert code == 69, said
    events = [json.loads(line) for line in said.splitlines()]
    # Without the start-up, which takes as long as others leave to it.
    assert (events[-1]["boottime_ns"] - events[0]["boottime_ns"]) / 1e9 < 3.5
    assert "leads" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("url", URLS)
def test_a_signal_ends_it_soon(electctl: Electctl, url: str) -> None:
    campaign = Deaf(electctl, url)
    assert "campaigning" in campaign.first
    wait_for(lambda: now() > campaign.began + 1)
    told_at = now()
    campaign.terminate()
    code, said = campaign.end()
    assert code == 143, said
    assert now() - told_at < SLACK
    assert "Traceback" not in said
