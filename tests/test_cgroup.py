"""The command's own control group: where it may be made, and what it is good for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign import cgroup
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.guardian import GuardianDied, Started, TreeGone
from tests.guarded import LATE, LINUX_ONLY, SPIN, eventually, guarded, lives, pids

HOME = cgroup._home()
MARK = Cgroup.new_mark()

pytestmark = [
    LINUX_ONLY,
    pytest.mark.skipif(
        os.geteuid() != 0 or HOME is None or not cgroup._may_divide(HOME),
        reason="our own control group may not be divided here",
    ),
]


@pytest.fixture
def group() -> Iterator[Cgroup]:
    made = Cgroup.make(MARK)
    assert made is not None
    yield made
    made.kill()
    eventually("it is empty", lambda: not made.populated)
    made.remove()
    assert not made.path.exists()


def sleeper(group: Cgroup) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], preexec_fn=group.enter)


def test_the_guardian_is_in_it_only_until_a_command_is(tmp_path: Path) -> None:
    """Moving takes the kernel some time, which is spent before there is a command."""
    with guarded(tmp_path) as harness:
        name = f"leadguard-{harness.guardian.mark}\n"
        where = Path("/proc", str(harness.guardian.pid), "cgroup")
        eventually("it waits in there", lambda: name in where.read_text())
        for _ in range(2):
            harness.shell("sleep 60")
            pid = harness.until(Started).pid
            assert name in Path("/proc", str(pid), "cgroup").read_text()
            assert name not in where.read_text()
            harness.guardian.kill()
            harness.until(TreeGone)


def test_made_entered_killed_and_removed(group: Cgroup) -> None:
    assert not group.populated
    children = [sleeper(group) for _ in range(3)]
    assert group.populated
    assert [Cgroup.of(MARK) is not None, Cgroup.of("1-other")] == [True, None]
    group.remove()
    assert group.path.exists(), "what is in use is not removed"
    group.kill()
    assert [child.wait(10) for child in children] == [-signal.SIGKILL] * 3


def test_what_the_command_makes_below_it_is_killed_and_removed_too(group: Cgroup) -> None:
    below = Cgroup(group.path / "below")
    below.path.mkdir()
    child = sleeper(below)
    assert group.populated
    group.kill()
    assert child.wait(10) == -signal.SIGKILL
    group.remove()
    assert not group.path.exists()


@pytest.mark.parametrize("pid", ["1", "4194999"], ids=["of PID 1", "of one that is gone"])
def test_what_killed_guardians_left_is_swept(group: Cgroup, pid: str) -> None:
    left = group.path.parent / f"leadguard-{pid}-left"
    left.mkdir()
    other = Cgroup.make(Cgroup.new_mark())
    assert other is not None
    other.remove()
    assert not left.exists()
    assert group.path.exists(), "ours is not left behind, although nobody is in it"


def test_one_of_a_guardian_in_another_pid_namespace_is_left_alone() -> None:
    """Whose id means nothing here: the lock tells that it lives."""
    theirs = Cgroup.make("4194999-there")
    assert theirs is not None
    ours = Cgroup.make(Cgroup.new_mark())
    assert ours is not None
    ours.remove()
    assert theirs.path.exists()
    theirs.remove()
    assert not theirs.path.exists()


def test_guardians_that_begin_at_the_same_time_sweep_none_of_each_other() -> None:
    program = (
        "import sys; from electctl.campaign.cgroup import Cgroup\n"
        "for _ in range(40):\n"
        "    made = Cgroup.make(Cgroup.new_mark())\n"
        "    assert made is not None and made.path.is_dir()\n"
        "    made.remove()\n"
        "    assert not made.path.exists()"
    )
    several = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [each.wait(60) for each in several] == [0] * 4


def test_it_is_not_needed(tmp_path: Path) -> None:
    """It is gone while the command is in it, as far as the guardian can tell."""
    gone = Cgroup(tmp_path / "no such group")
    gone.kill()
    gone.enter()
    gone.remove()
    assert not gone.populated


@pytest.mark.parametrize(
    ("home", "mark", "may"),
    [
        ("", None, True),
        ("system.slice/job.service", None, False),
        ("system.slice/job.service", "user.delegate", True),
        ("system.slice/job.service", "trusted.delegate", True),
        ("user.slice/session-3.scope", None, False),
        ("kubepods/pod1", None, True),
    ],
)
def test_only_what_is_ours_is_divided(
    home: str, mark: str | None, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd's rule of one writer; its units are known by their names."""
    monkeypatch.setattr(cgroup, "_SYSTEMD", tmp_path / "not running here")
    folder = tmp_path / home
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").touch()
    if mark is not None:
        os.setxattr(folder, mark, b"1")
    assert cgroup._may_divide(folder) is may


def test_where_systemd_runs_nothing_is_divided_that_it_has_not_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "_SYSTEMD", tmp_path)
    (tmp_path / "cgroup.procs").touch()
    assert not cgroup._may_divide(tmp_path)
    os.setxattr(tmp_path, "user.delegate", b"1")
    assert cgroup._may_divide(tmp_path)


# With a command


def test_the_command_runs_in_one_and_it_is_removed_at_the_end(tmp_path: Path) -> None:
    with guarded(tmp_path) as harness:
        file = harness.file()
        harness.shell(f"cat /proc/self/cgroup >{file}")
        harness.until(TreeGone)
        name = f"leadguard-{harness.guardian.mark}"
        assert f"0::{'/' if HOME is None else ''}" in file.read_text()
        assert name in file.read_text()
        made = Cgroup.of(harness.guardian.mark)
        assert made is not None
    assert not made.path.exists()


def test_what_another_manager_has_moved_out_of_it_is_killed_all_the_same(tmp_path: Path) -> None:
    with guarded(tmp_path) as harness:
        file = harness.file()
        script = f"trap '' TERM; echo $$ >>{file}; {SPIN}"
        harness.run("/bin/sh", "-c", f'setsid sh -c "$0" & {script}', script)
        found = pids(file, 2)
        assert HOME is not None
        for pid in found:
            (HOME / "cgroup.procs").write_text(str(pid))
        made = Cgroup.of(harness.guardian.mark)
        assert made is not None
        time.sleep(0.02)  # a sleep of the shell's may be in it still
        harness.due(terminate=0.1, kill=0.3)
        gone = harness.until(TreeGone)
        assert harness.kill_at <= gone.at < harness.kill_at + LATE
        assert not any(map(lives, found))


def test_it_is_removed_when_the_guardian_is_killed(tmp_path: Path) -> None:
    with guarded(tmp_path) as harness:
        harness.shell("sleep 60")
        harness.until(Started)
        made = Cgroup.of(harness.guardian.mark)
        assert made is not None
        os.kill(harness.guardian.pid, signal.SIGKILL)
        harness.until(TreeGone)
        assert not made.path.exists()


def test_it_is_asked_as_well_whether_a_process_is_left(tmp_path: Path) -> None:
    """One that is no descendant: as if the kernel's word on our children were not enough."""
    with guarded(tmp_path) as harness:
        file = harness.file()
        end = harness.file()
        script = f"echo $$ >{file}; while [ ! -e {end} ]; do sleep 0.01; done"
        harness.shell(script, terminate=30, kill=30.5)
        pids(file)
        made = Cgroup.of(harness.guardian.mark)
        assert made is not None
        stray = sleeper(made)
        end.touch()
        at = now()
        gone = harness.until(TreeGone)
        assert gone.at > at + 0.5, "it had the grace"
        assert stray.wait(10) == -signal.SIGKILL


def test_it_is_removed_when_an_idle_guardian_was_killed(tmp_path: Path) -> None:
    with guarded(tmp_path) as harness:
        eventually("it is made", lambda: Cgroup.of(harness.guardian.mark) is not None)
        made = Cgroup.of(harness.guardian.mark)
        assert made is not None
        os.kill(harness.guardian.pid, signal.SIGKILL)
        harness.until(GuardianDied)
    assert not made.path.exists()
