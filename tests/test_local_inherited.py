"""The embedded server takes nothing from whoever happened to start it."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from electctl.raft.io.local import LocalServer
from tests.processes import Electctl, wait_for

#: ulimit -S: these can be undone. The server's own need is above each of them, or its life is long.
SOFT = ("-f 64", "-n 40", "-t 30", "-v 4000000", "-d 2000000", "-l 64")


class Burdened:
    """Starts commands under limits, niceness and so on, without the right to lift them."""

    def __init__(self, electctl: Electctl) -> None:
        electctl.env |= {"SECRET_TOKEN": "hunter2", "PYTHONWARNINGS": "error"}
        self.electctl = electctl
        self.server = LocalServer(electctl.home / "state" / "electctl" / "local")

    def run(self, script: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        # Root may lift hard limits, unless it lacks the capability.
        drop = ["setpriv", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*drop, "bash", "-c", script],
            env=self.electctl.env,
            cwd=self.electctl.home,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        return done

    @property
    def pid(self) -> int:
        pid = self.server.pid()
        assert pid is not None
        return pid

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text()


@pytest.fixture
def burdened(electctl: Electctl) -> Iterator[Burdened]:
    found = Burdened(electctl)
    yield found
    if found.server.pid() is not None:
        found.server.stop()


def open_files(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a connection that has just ended, such as ours
            yield os.readlink(entry)


def test_what_can_be_undone_is_undone(burdened: Burdened) -> None:
    limits = "; ".join(f"ulimit -S {limit}" for limit in SOFT)
    burdened.run(
        f"umask 000; trap '' HUP INT QUIT USR1; exec 7</etc/passwd; {limits}; "
        "echo 500 > /proc/self/oom_score_adj; cd /usr; "
        "exec taskset -c 0 ionice -c 3 chrt --batch 0 electctl holders nightly"
    )
    pid = burdened.pid
    hard = {name: resource.prlimit(pid, getattr(resource, name))
            for name in ("RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_DATA")}  # fmt: skip
    assert set(hard.values()) == {(resource.RLIM_INFINITY, resource.RLIM_INFINITY)}
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] >= min(
        4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    )
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert int(burdened.proc("oom_score_adj")) == 0
    status = dict(line.split(":\t", 1) for line in burdened.proc("status").splitlines())
    assert status["Umask"].strip() == "0077"
    ignored = int(status["SigIgn"], 16)
    assert not ignored & sum(1 << (number - 1) for number in (1, 2, 3, 10))
    assert int(status["SigBlk"], 16) == 0
    told = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=True)
    assert not told.stdout.startswith("idle")
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert "hunter2" not in burdened.proc("environ")
    assert "/etc/passwd" not in set(open_files(pid))
    assert "keeps what it was started with" not in burdened.server.log.read_text()
    # And it does serve: far beyond the limit on files, for one.
    burdened.run("for i in 1 2 3; do head -c 200000 /dev/zero; done >/dev/null; "
                 "electctl campaign big -q -- sh -c "
                 "'head -c 200000 /dev/zero | electctl checkpoint set -'")  # fmt: skip
    assert len(burdened.run("electctl checkpoint get big").stdout) == 200_000


def test_a_umask_shuts_nobody_out(burdened: Burdened) -> None:
    """Root would not notice, so the modes are looked at."""
    burdened.run("umask 777; exec electctl campaign nightly -q -- electctl check -q")
    home = burdened.server.home
    assert stat.S_IMODE(home.parent.parent.stat().st_mode) & 0o700 == 0o700
    for directory in (home.parent, home, home / "data"):
        assert stat.S_IMODE(directory.stat().st_mode) & 0o700 == 0o700
    for name in ("starting", "log", "socket", "data/raft.db"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_campaign_needs_no_room_for_a_file(burdened: Burdened) -> None:
    burdened.run(
        "ulimit -S -f 0; exec electctl campaign nightly -q -- sh -c 'electctl check -q && exit 5'",
        code=5,
    )


def test_niceness_is_undone_or_said(burdened: Burdened) -> None:
    burdened.run("exec nice -n 19 electctl holders nightly")
    log = burdened.server.log.read_text()
    niceness = os.getpriority(os.PRIO_PROCESS, burdened.pid)
    assert niceness == 0 or f"keeps what it was started with: a niceness of {niceness}" in log
    if os.geteuid() == 0:
        assert niceness == 0


def test_a_hard_limit_is_said_and_damages_nothing(burdened: Burdened) -> None:
    burdened.run("ulimit -f 900; ulimit -n 200; exec electctl holders nightly")
    log = burdened.server.log.read_text()
    assert "a file size limit of 921,600 bytes, beyond which nothing can be committed" in log
    assert "a limit of 200 open files" in log
    fill = "head -c 250000 /dev/urandom | tee {0} | electctl checkpoint set -"
    first = burdened.pid
    kept = ""
    for number in range(12):
        name = burdened.electctl.home / f"value-{number}"
        done = subprocess.run(
            ["electctl", "campaign", f"e{number}", "-q", "--wait", "3s", "--ttl", "3s",
             "--", "sh", "-c", fill.format(name)],
            env=burdened.electctl.env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if burdened.server.pid() != first:
            break
        assert done.returncode == 0, done.stderr
        kept = f"e{number}"
    else:
        pytest.fail("the limit was never reached")
    assert kept
    wait_for(lambda: "electctl: " in burdened.server.log.read_text(), what="it says why it ended")
    # Whoever needs it next starts one without the limit, on a sound store.
    burdened.electctl.run("holders", "nightly", check=0)
    written = burdened.electctl.home / f"value-{kept.removeprefix('e')}"
    command = ["electctl", "checkpoint", "get", kept]
    found = subprocess.run(command, env=burdened.electctl.env, capture_output=True, timeout=60)
    assert found.stdout == written.read_bytes()
    burdened.electctl.run("campaign", "after", "-q", "--", "true", check=0)
