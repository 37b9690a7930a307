"""The margin on hosts as they are: with many processes, and under a CPU quota."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign import host, procfs
from electctl.campaign.guardian import Started, TreeGone
from electctl.campaign.host import Quota, margin_needed
from electctl.core.lease import MARGIN
from tests.guarded import LATE, LINUX_ONLY, PATIENCE, guarded

pytestmark = LINUX_ONLY

#: As an ordinary script has it: timeout(1) leaves the shell's group, and its worker too.
WORKERS = (
    "trap '' TERM; for i in $(seq {count}); do timeout 1h sh -c \"trap '' TERM; {work}\" & done; "
    "echo ready >{file}; while :; do wait; done"
)

#: Forks so many processes that do nothing, in one group. In Perl, whose processes are small.
CROWD = (
    "$| = 1; alarm 120; for (1..shift) { fork // die or do { alarm 120; sleep } } "
    "print qq(ready\\n); sleep"
)


@contextmanager
def crowd(count: int) -> Iterator[None]:
    process = subprocess.Popen(
        ["perl", "-e", CROWD, str(count)], stdout=subprocess.PIPE, process_group=0
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.alone
@pytest.mark.parametrize("count", [0, 5_000, 20_000])
def test_the_margin_is_kept_however_many_processes_the_host_has(tmp_path: Path, count: int) -> None:
    with crowd(count), guarded(tmp_path) as harness:
        for _ in range(3):
            ready = harness.file()
            script = WORKERS.format(count=5, work="while :; do sleep 1; done", file=ready)
            harness.shell(script)
            harness.until(Started)
            until = now() + PATIENCE
            while not ready.exists():
                assert now() < until
                time.sleep(0.01)
            time.sleep(0.1)  # each worker has its trap by then, or dies with the others
            harness.due(terminate=0.1, kill=0.3)
            gone = harness.until(TreeGone)
            assert harness.kill_at <= gone.at < harness.kill_at + LATE


@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="needs real-time priority")
def test_a_command_of_real_time_priority_does_not_keep_the_guardian_from_its_processor(
    tmp_path: Path,
) -> None:
    with guarded(tmp_path) as harness:
        processor = min(os.sched_getaffinity(0))
        os.sched_setaffinity(harness.guardian.pid, {processor})
        ready = harness.file()
        harness.python(f"""
            import os, signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.sched_setaffinity(0, {{{processor}}})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
            open({str(ready)!r}, "w").close()
            until = time.monotonic() + 3
            while time.monotonic() < until:
                pass
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            time.sleep(60)
        """)
        until = now() + PATIENCE
        while not ready.exists():
            assert now() < until
            time.sleep(0.01)
        harness.due(terminate=0.1, kill=0.3)
        gone = harness.until(TreeGone)
        assert harness.kill_at <= gone.at < harness.kill_at + LATE


DRIVER = """
import json, os, select, sys
from electctl.base.clock import now
from electctl.campaign.guardian import Guardian, Started, TreeGone
from electctl.campaign.host import margin_needed
need = margin_needed()
guardian = Guardian.spawn()
guardian.deadline(now() + 60, now() + 60)
guardian.start(["sh", "-c", sys.argv[1]], os.environ)
while not os.path.exists(sys.argv[2]):
    select.select([guardian], [], [], 0.1)
    guardian.receive()
kill_at = now() + 1
guardian.deadline(kill_at - 0.2, kill_at)
gone = None
while gone is None:
    select.select([guardian], [], [])
    for event in guardian.receive():
        if isinstance(event, TreeGone):
            gone = event.at
print(json.dumps([need, gone - kill_at]), flush=True)
guardian.close()
"""

#: Where control groups of version 1 limit CPU time; of version 2, the root of the hierarchy.
CPU = [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")]


@contextmanager
def limited(percent: int) -> Iterator[Path]:
    """A control group whose processes get so much of one processor."""
    root = next(path for path in CPU if (path / "cgroup.procs").exists())
    group = root / f"electctl-test-{os.getpid()}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(percent * 1000))
        else:
            (group / "cpu.max").write_text(f"{percent * 1000} 100000")
        yield group
    finally:
        until = now() + PATIENCE
        while (group / "cgroup.procs").read_text() and now() < until:
            time.sleep(0.01)
        group.rmdir()


ROOT_ONLY = pytest.mark.skipif(
    os.geteuid() != 0 or not any(os.access(path / "cgroup.procs", os.W_OK) for path in CPU),
    reason="needs root, and a control group that may be divided",
)


@ROOT_ONLY
@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("work", ["while :; do sleep 1; done", "while :; do :; done"])
def test_the_margin_that_is_planned_is_kept_under_a_cpu_quota(
    tmp_path: Path, work: str, user: str
) -> None:
    folder = tmp_path if user == "root" else Path("/tmp", f"electctl-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    ready = folder / "ready"
    as_user = [] if user == "root" else AS_NOBODY
    with limited(10) as group:
        driver = subprocess.Popen(
            [
                *("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"),
                *(*as_user, sys.executable, "-c", DRIVER),
                *(WORKERS.format(count=16, work=work, file=ready), str(ready)),
            ],
            stdout=subprocess.PIPE,
        )
        output, _ = driver.communicate(timeout=90)
    shutil.rmtree(folder)
    need, late = json.loads(output)
    assert need > MARGIN
    assert 0 <= late < need


#: Nobody's rights, but for reading what root has installed.
AS_NOBODY = [
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
]


@pytest.mark.parametrize(
    ("quota", "urgent", "needed"),
    [
        (Quota(0.01, 0.1), True, 0.8),
        (Quota(0.01, 0.1), False, 1.8),
        (Quota(0.1, 0.1), True, 0.3),
        (Quota(0.2, 0.1), True, 0.0),  # all of two processors
        (Quota(0.001, 0.01), True, 0.62),
    ],
)
def test_what_a_quota_needs(quota: Quota, urgent: bool, needed: float) -> None:
    assert quota.needed(2, urgent=urgent) == pytest.approx(needed)


def test_what_this_host_needs_is_known_fast() -> None:
    best = min(_cost() for _ in range(5))
    assert best < 0.01
    assert margin_needed() >= MARGIN


def _cost() -> float:
    at = now()
    margin_needed()
    return now() - at


@pytest.mark.parametrize(
    ("method", "least"), [("children", 0.0), ("walk", 3.0), ("probe", host._PROBE)]
)
def test_what_finding_needs(monkeypatch: pytest.MonkeyPatch, method: str, least: float) -> None:
    monkeypatch.setattr(procfs, "method", lambda: (method, ""))
    monkeypatch.setattr(host, "quotas", lambda: iter(()))
    monkeypatch.setattr(procfs, "listed", lambda: list(range(20_000)))
    assert margin_needed() == pytest.approx(max(MARGIN, least))
