"""The guardian with real trees of processes: whatever they do, none outlives its deadline.

The storms of forks load the machine: few other tests are here, to be run beside them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.campaign.guardian import Exited, TreeGone
from electctl.clock import now
from tests.guarded import DAEMON, LATE, LINUX_ONLY, SPIN, Death, Harness, guarded, lives, pids

pytestmark = LINUX_ONLY


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
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
    assert began + 1.5 <= gone.at < at + 1.5 + LATE


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
    assert harness.kill_at <= died < harness.kill_at + LATE
    harness.until(TreeGone)


def test_a_daemon_whose_command_has_exited_is_killed(harness: Harness) -> None:
    file = harness.file()
    harness.python(DAEMON.format(parent="os._exit(0)", file=str(file)), terminate=30, kill=30.5)
    harness.until(TreeGone)
    assert not lives(pids(file)[0])


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
