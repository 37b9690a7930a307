"""The guardian with real trees of processes: whatever they do, none outlives its deadline.

The storms of forks load the machine: few other tests are here, to be run beside them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign.cgroup import Cgroup
from electctl.campaign.guardian import Exited, Started, Stuck, TreeGone
from electctl.campaign.stopping import STUCK_LIMIT
from electctl.campaign.tree import Tree
from tests.guarded import DAEMON, LATE, LINUX_ONLY, SOON, SPIN, Death, Harness, guarded, lives, pids

pytestmark = LINUX_ONLY


@pytest.fixture(params=["with a cgroup where we may", "without"])
def harness(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    if request.param == "without":
        monkeypatch.setattr(Cgroup, "make", lambda guardian: None)
    with guarded(tmp_path) as made:
        yield made


def test_what_the_command_leaves_behind_is_terminated_at_its_end(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"sleep 60 & echo $! >{file}; (setsid sleep 61 & echo $! >>{file}); exit 4")
    exited = harness.until(Exited)
    gone = harness.until(TreeGone)
    assert exited.status == 4
    assert gone.at < harness.terminate_at - 20
    assert not any(map(lives, pids(file, 2)))


def test_what_is_left_behind_is_counted(harness: Harness) -> None:
    harness.shell("sleep 60 & (setsid sleep 61 &); exit 0")
    assert harness.until(TreeGone).left == 2
    harness.shell("exit 0")
    assert harness.until(TreeGone).left == 0
    file = harness.file()
    harness.shell(f"sleep 60 & echo $! >{file}; wait")
    pids(file, 1)
    harness.guardian.stop(10)
    assert harness.until(TreeGone).left == 0, "that was stopped together with the command"


def test_main_alone_is_told_and_the_rest_follows(harness: Harness) -> None:
    file = harness.file()
    told = f"trap 'echo $$ >>{file}; exit 0' TERM; echo $$ >>{file}; {SPIN}"
    slow = f"trap 'echo $$ >>{file}; sleep 0.3; exit 0' TERM; echo $$ >>{file}; {SPIN}"
    harness.run("/bin/sh", "-c", f'setsid sh -c "$0" & {slow}', told)
    first = set(pids(file, 2))
    harness.guardian.stop(20, "main")
    assert harness.until(Exited).status == 0
    gone = harness.until(TreeGone)
    order = pids(file, 4)[2:]
    assert set(order) == first
    assert order[0] == harness.until(Started).pid, "the command's own process was told first"
    assert gone.left >= 1


def test_what_is_adopted_between_two_commands_is_waited_for(harness: Harness) -> None:
    """Nothing is left then; but a guardian never has a zombie, whatever comes to it."""
    for _ in range(3):
        harness.shell("(sleep 0.05 &) ; exit 0")
        harness.until(TreeGone)
        assert Tree(harness.guardian.pid).look() == []


FREEZER = Path("/sys/fs/cgroup/freezer")


def hastened() -> int:
    """The policy of a process that was sent SIGKILL, where we may choose one."""
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return before
    os.sched_setscheduler(0, before, os.sched_param(0))
    return os.SCHED_RR | os.SCHED_RESET_ON_FORK


@pytest.mark.slow
@pytest.mark.skipif(
    not os.access(FREEZER / "cgroup.procs", os.W_OK), reason="needs the freezer of cgroups v1"
)
def test_what_cannot_be_killed_is_said_to_be_stuck_and_gone_when_it_is(harness: Harness) -> None:
    """The frozen of version 1 take no SIGKILL: as in uninterruptible sleep."""
    group = FREEZER / f"electctl-test-{os.getpid()}"
    group.mkdir()
    try:
        file = harness.file()
        harness.python(
            f"""
            import os, threading, time
            threading.Thread(target=time.sleep, args=(60,)).start()
            with open({str(file)!r}, "w") as told:
                print(os.getpid(), file=told)
            """
        )
        pid = pids(file)[0]
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        harness.guardian.kill()
        at = now()
        assert harness.until(Stuck).left == 1
        assert now() >= at + STUCK_LIMIT - 0.1
        assert TreeGone not in harness.kinds()
        policies = {os.sched_getscheduler(int(name)) for name in os.listdir(f"/proc/{pid}/task")}
        assert policies == {hastened()}, "it runs before others as soon as it can"
    finally:
        (group / "freezer.state").write_text("THAWED")
        harness.until(TreeGone)
        group.rmdir()


def test_what_is_left_behind_and_stubborn_is_killed_after_the_grace(harness: Harness) -> None:
    file = harness.file()
    stubborn = f"trap '' TERM; echo $$ >{file}; {SPIN}"
    wait = f'setsid sh -c "$0" & while ! [ -s {file} ]; do sleep 0.01; done'
    began = now()
    harness.run("/bin/sh", "-c", wait, stubborn, terminate=30, kill=31.5)
    harness.until(Exited)
    at = now()
    assert lives(pids(file)[0])
    gone = harness.until(TreeGone)
    assert began + 1.5 <= gone.at < at + 1.5 + SOON


def test_a_daemon_that_left_group_session_and_parent_dies_at_the_deadline(
    harness: Harness,
) -> None:
    file = harness.file()
    # The command itself stays, the one between it and the daemon leaves.
    parent = "os._exit(0) if _ else time.sleep(60)"
    harness.python(DAEMON.format(parent=parent, file=str(file)))
    pids(file)
    harness.due(terminate=0.2, kill=0.5)
    death = Death(pids(file)[0])
    assert os.getsid(death.pid) == death.pid
    died = death.at()
    assert harness.kill_at <= died
    assert harness.until(TreeGone).at < harness.kill_at + LATE


def test_a_daemon_whose_command_has_exited_is_killed(harness: Harness) -> None:
    file = harness.file()
    harness.python(DAEMON.format(parent="os._exit(0)", file=str(file)), terminate=30, kill=30.5)
    harness.until(TreeGone)
    assert not lives(pids(file)[0])


@pytest.mark.quiet
@pytest.mark.parametrize("leave", ["", "os.setpgid(0, 0)", "os.setsid()"])
def test_a_chain_of_forks_with_an_ever_new_id_is_caught(harness: Harness, leave: str) -> None:
    file = harness.file()
    harness.python(
        f"""
        import os, signal, time
        end = time.monotonic() + 60  # also where the test is killed before it can clean up
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            signal.pause()
        os.setsid()
        handle = os.open({str(file)!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            {leave}
            os.write(handle, b"%d\\n" % os.getpid())
        """
    )
    assert len(set(pids(file, 20))) >= 20, "it moves"
    harness.due(terminate=0.1, kill=0.4)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE
    size = file.stat().st_size
    assert not select.select([harness.guardian], [], [], 0.1)[0]
    assert file.stat().st_size == size, "it goes on"


@pytest.mark.quiet
def test_a_fork_storm_dies_at_the_deadline(harness: Harness) -> None:
    """Sixty sessions, each of which replaces at once whatever child it loses."""
    file = harness.file()
    harness.python(
        f"""
        import os, signal, time
        end = time.monotonic() + 60  # also where the test is killed before it can clean up
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        handle = os.open({str(file)!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(60):
            if not os.fork():
                os.setsid()
                while time.monotonic() < end:
                    if not os.fork():
                        os.setsid()
                        os.write(handle, b"%d\\n" % os.getpid())
                        time.sleep(60)
                        os._exit(0)
                    os.wait()
                os._exit(0)
        signal.pause()
        """
    )
    pids(file, 60)
    harness.due(terminate=0.1, kill=0.6)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE
    assert not any(map(lives, pids(file)))
