"""The guardian as a dead-man's switch: electctl or the guardian is stopped, killed or silent."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign.guardian import (
    CannotStart,
    Exited,
    Guardian,
    GuardianDied,
    GuardianEvent,
    Started,
    TreeGone,
)
from electctl.campaign.procfs import read
from electctl.campaign.tree import Tree
from electctl.errors import CannotRun
from tests.guarded import (
    DAEMON,
    LATE,
    LINUX_ONLY,
    PATIENCE,
    SOON,
    SPIN,
    Death,
    Harness,
    eventually,
    guarded,
    lives,
    pids,
)

pytestmark = LINUX_ONLY


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with guarded(tmp_path) as made:
        yield made


# The dead-man's switch: electctl is a process of its own here

DRIVER = """
import json, os, select, sys, time
from electctl.campaign.guardian import Guardian, TreeGone, Started, GuardianDied
from electctl.base.clock import now
guardian = Guardian.spawn()
{before}
guardian.deadline(now() + {terminate}, now() + {kill})
kill_at = now() + {kill}
guardian.start({argv!r}, os.environ)
while True:
    select.select([guardian], [], [])
    for event in guardian.receive():
        if isinstance(event, Started):
{started}
            print(json.dumps([guardian.pid, event.pid, kill_at]), flush=True)
        elif isinstance(event, GuardianDied):
            print(json.dumps("died"), flush=True)
        elif isinstance(event, TreeGone):
            print(json.dumps(event.at), flush=True)
            guardian.close()
            sys.exit(0)
"""


class Driver:
    """A process in the place of electctl, with its guardian and a command."""

    def __init__(
        self,
        *argv: str,
        terminate: float = 30,
        kill: float = 60,
        before: str = "",
        started: str = "pass",
    ) -> None:
        program = DRIVER.format(
            argv=argv,
            terminate=terminate,
            kill=kill,
            before=before,
            started=textwrap.indent(started, " " * 12),
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        line = self.output.readline()
        self.guardian, self.command, self.kill_at = json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def drive() -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(*argv: str, **options: object) -> Driver:
        drivers.append(Driver(*argv, **options))  # type: ignore[arg-type]
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()
        eventually("the guardian leaves", lambda pid=driver.guardian: not lives(pid))  # type: ignore[misc]


Drive = Callable[..., Driver]

STUBBORN = "trap 'echo 15 >>{file}' TERM; echo $$ >>{file}; " + SPIN


def test_electctl_killed_then_term_at_once_and_kill_after_the_grace(
    drive: Drive, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    driver = drive("sh", "-c", STUBBORN.format(file=file), terminate=20, kill=20.6)
    pids(file)
    death, guardian = Death(driver.command), Death(driver.guardian)
    at = now()
    driver.process.kill()
    assert pids(file, 2)[1] == 15
    assert now() < at + SOON
    assert at + 0.6 <= death.at() < at + 0.6 + SOON
    assert guardian.at() < at + 0.6 + SOON


def test_electctl_killed_then_kill_no_later_than_the_deadline(drive: Drive, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    started = (
        f"while not os.path.exists({str(file)!r}):\n"
        "    time.sleep(0.01)\n"
        "kill_at = now() + 1\n"
        "guardian.deadline(kill_at - 30, kill_at)"
    )
    driver = drive("sh", "-c", STUBBORN.format(file=file), started=started)
    death = Death(driver.command)
    driver.process.kill()
    assert driver.kill_at - 0.1 <= death.at() < driver.kill_at + SOON


def test_electctl_stopped_then_the_last_deadline_holds(drive: Drive, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    started = (
        f"while not os.path.exists({str(file)!r}):\n"
        "    time.sleep(0.01)\n"
        "kill_at = now() + 1\n"
        "guardian.deadline(kill_at - 0.4, kill_at)"
    )
    driver = drive("sh", "-c", STUBBORN.format(file=file), started=started)
    death = Death(pids(file)[0])
    driver.process.send_signal(signal.SIGSTOP)
    died = death.at()
    assert driver.kill_at - 0.1 <= died
    assert pids(file)[1:] == [15]
    driver.process.send_signal(signal.SIGCONT)
    gone = json.loads(driver.output.readline())
    assert gone < driver.kill_at + LATE
    assert gone < died + LATE
    assert driver.process.wait(PATIENCE) == 0


def test_a_fork_of_electctl_does_not_hide_its_death(drive: Drive, tmp_path: Path) -> None:
    """The fork holds electctl's end of the channel open."""
    file = tmp_path / "fork"
    before = (
        (
            "child = os.fork()\n"
            "if child == 0:\n"
            "    time.sleep(60)\n"
            f"open({str(file)!r}, 'w').write(f'{{child}}\\n')\n"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    )
    driver = drive("sleep", "60", before=before)
    fork = pids(file)[0]
    death = Death(driver.command)
    at = now()
    driver.process.kill()
    try:
        assert death.at() < at + SOON
    finally:
        os.kill(fork, signal.SIGKILL)


def test_standard_streams_are_those_of_electctl(drive: Drive) -> None:
    driver = drive("sh", "-c", "read line; echo $line; exec sleep 60")
    assert driver.process.stdin is not None
    driver.process.stdin.write("hello\n")
    driver.process.stdin.flush()
    assert driver.output.readline() == "hello\n"


def test_the_guardian_killed_then_electctl_kills_and_spares_its_own(
    drive: Drive, tmp_path: Path
) -> None:
    own, file = tmp_path / "own", tmp_path / "daemon"
    before = (
        "import subprocess\n"
        "daemon = subprocess.Popen(['setsid', '-f', 'sh', '-c', "
        f"'echo $$ >{own}; exec sleep 60'])\n"
        "daemon.wait()\n"
        f"while not os.path.exists({str(own)!r}) or not os.path.getsize({str(own)!r}):\n"
        "    time.sleep(0.01)\n"
    )
    program = textwrap.dedent(DAEMON.format(parent="time.sleep(60)", file=str(file)))
    driver = drive(sys.executable, "-ISc", program, before=before)
    deaths = [Death(pids(file)[0]), Death(driver.command)]
    spared = pids(own)[0]
    at = now()
    os.kill(driver.guardian, signal.SIGKILL)
    for death in deaths:
        assert death.at() < at + SOON
    assert json.loads(driver.output.readline()) == "died"
    assert at <= json.loads(driver.output.readline()) < at + SOON
    assert driver.process.wait(PATIENCE) == 0
    assert lives(spared)
    os.kill(spared, signal.SIGKILL)


def test_the_guardian_killed_while_electctl_is_stopped_then_the_kernel_kills_the_command(
    drive: Drive,
) -> None:
    driver = drive("sleep", "60")
    driver.process.send_signal(signal.SIGSTOP)
    death = Death(driver.command)
    at = now()
    os.kill(driver.guardian, signal.SIGKILL)
    assert death.at() < at + SOON


def test_guardian_killed_says_so_and_starts_nothing_more(harness: Harness) -> None:
    harness.shell("sleep 60")
    pid = harness.until(Started).pid
    os.kill(harness.guardian.pid, signal.SIGKILL)
    harness.guardian.kill()
    harness.until(TreeGone)
    assert harness.kinds() == [Started, GuardianDied, Exited, TreeGone]
    assert not lives(pid)
    assert not select.select([harness.guardian], [], [], 0.05)[0], "silent from now on"
    with pytest.raises(CannotRun, match="guardian"):
        harness.guardian.start(["true"], {})


def test_the_guardian_killed_where_ended_children_are_thrown_away(harness: Harness) -> None:
    """Ignoring SIGCHLD is inherited over exec, and wait(2) then knows no child."""
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        harness.shell("exit 3")
        harness.until(TreeGone)
        assert harness.until(Exited).status == 3
        harness.shell("sleep 60")
        pid = harness.until(Started).pid
        os.kill(harness.guardian.pid, signal.SIGKILL)
        harness.until(TreeGone)
        assert not lives(pid)
        harness.guardian.close()
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_closing_spares_what_never_was_a_command(harness: Harness) -> None:
    file = harness.file()
    subprocess.run(["setsid", "-f", "sh", "-c", f"echo $$ >{file}; exec sleep 60"], check=True)
    daemon = pids(file)[0]
    for _ in range(5):
        guardian = Guardian.spawn()
        guardian.close()
    assert lives(daemon)
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)


def test_the_guardian_killed_while_idle(harness: Harness) -> None:
    os.kill(harness.guardian.pid, signal.SIGKILL)
    harness.until(GuardianDied)
    assert harness.kinds() == [GuardianDied]
    assert not select.select([harness.guardian], [], [], 0.05)[0]


@pytest.mark.parametrize("after_us", [0, 300, 600, 1000, 1500, 2000, 2500, 3000, 4000, 6000])
def test_the_guardian_killed_in_the_middle_of_a_fork(tmp_path: Path, after_us: int) -> None:
    before = {process.key for process in Tree(os.getpid()).look()}
    for _ in range(3):
        harness = Harness(Guardian.spawn(), tmp_path)
        try:
            harness.run("sleep", "60")
            until = time.perf_counter() + after_us / 1e6
            while time.perf_counter() < until:
                pass
            os.kill(harness.guardian.pid, signal.SIGKILL)
            harness.until(TreeGone)
            assert Tree(os.getpid(), before).look() == []
        finally:
            harness.guardian.close()
            assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0


def test_a_guardian_that_fails_says_why_and_its_tree_dies(harness: Harness) -> None:
    """An unknown order is a fault, and not ignored."""
    file = harness.file()
    harness.shell(f"trap 'echo $$ >>{file}' USR1; echo $$ >{file}; {SPIN}")
    (pid,) = pids(file)
    harness.guardian.signal(signal.SIGUSR1)
    pids(file, 2)
    harness.guardian._channel.send({"do": "dance"})
    report = harness.until(GuardianDied).report
    assert "KeyError('dance')" in report
    assert "Signal" in report, "what was decided last"
    harness.until(TreeGone)
    assert not lives(pid)


def test_a_stopped_guardian_is_woken_by_kill(harness: Harness) -> None:
    harness.shell("sleep 60")
    harness.until(Started)
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    harness.guardian.kill()
    harness.until(TreeGone)


def test_a_stopped_guardian_is_woken_by_stop(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    harness.due(terminate=0.1, kill=0.5)
    harness.guardian.stop(30)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE


def test_a_stopped_guardian_is_continued(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"while ! [ -e {file} ]; do sleep 0.01; done; exit 3")
    harness.until(Started)
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    file.touch()
    assert TreeGone in _kept_awake(harness)
    assert harness.until(Exited).status == 3


def test_a_guardian_that_is_stopped_when_it_has_to_kill_is_replaced(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; setsid sleep 60 & echo $! >{file}; exec sleep 60")
    pid = pids(file)[0]
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    harness.due(terminate=-1.0, kill=-0.5)
    assert GuardianDied in _kept_awake(harness)
    assert not lives(pid)


def _kept_awake(harness: Harness) -> list[type[GuardianEvent]]:
    """What was said until the tree was gone."""

    def gone() -> bool:
        harness.guardian.keep_awake()
        harness.events += harness.guardian.receive()
        return TreeGone in harness.kinds()

    eventually("the tree is gone", gone)
    return harness.kinds()


def test_the_guardian_says_that_the_deadline_made_it_stop_the_command(harness: Harness) -> None:
    file = harness.file()
    script = f"trap 'exit 0' TERM; echo $$ >>{file}; {SPIN}"
    harness.shell(script)
    pids(file)
    harness.guardian.signal(signal.SIGTERM)
    assert not harness.until(Exited).overdue
    harness.until(TreeGone)
    harness.shell(script)
    pids(file, 2)
    harness.due(terminate=0.0, kill=20)
    assert harness.until(Exited).overdue
    harness.until(TreeGone)
    harness.shell(f"trap '' TERM; {script}")
    pids(file, 3)
    harness.due(terminate=-1.0, kill=0.0)
    assert harness.until(Exited).overdue


def test_what_became_our_child_is_not_left_a_zombie(harness: Harness) -> None:
    """As an on-lost hook leaves one behind. We are a subreaper, so nobody else waits for it."""
    file = harness.file()
    subprocess.run(["sh", "-c", f"(echo $$ >{file}; exec true) &"], check=True)

    def stray() -> bool:
        children = [p for p in Tree(os.getpid()).look() if p.parent == os.getpid()]
        return any(not child.alive for child in children)

    eventually("it is a zombie of ours", stray)
    harness.shell("exit 0")
    harness.until(TreeGone)
    assert not stray()


def test_a_start_is_judged_by_the_latest_deadline(harness: Harness) -> None:
    """A guardian that could not run finds the start behind a deadline that has passed since."""
    file = harness.file()
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    harness.run("touch", str(file), terminate=-1.0, kill=-0.5)
    harness.due(terminate=30, kill=60)
    os.kill(harness.guardian.pid, signal.SIGCONT)
    harness.until(TreeGone)
    assert file.exists()


def test_a_stopped_guardian_never_blocks_its_client(harness: Harness) -> None:
    harness.shell("sleep 60")
    harness.until(Started)
    os.kill(harness.guardian.pid, signal.SIGSTOP)
    at = now()
    for _ in range(20_000):
        harness.guardian.deadline(at + 30, at + 60)
    assert now() < at + PATIENCE
    harness.guardian.kill()
    harness.until(TreeGone)


def test_a_full_buffer_does_not_delay_the_kill(harness: Harness) -> None:
    """electctl reads nothing, as when stopped, and the guardian has much to say."""
    file = harness.file()
    harness.due(terminate=30, kill=60)
    harness.guardian.start(["sh", "-c", STUBBORN.format(file=file)], os.environ)
    death = Death(pids(file)[0])
    name = "x" * 100_000
    harness.due(terminate=0.5, kill=1.0)
    for _ in range(10):
        harness.guardian.start([name], {})
    died = death.at()
    assert harness.kill_at <= died
    assert harness.until(TreeGone).at < harness.kill_at + LATE

    def all_answered() -> bool:
        harness.events += harness.guardian.receive()
        return harness.kinds().count(CannotStart) == 10

    eventually("each start is answered", all_answered)


def test_close_kills_what_is_left(harness: Harness) -> None:
    guardian = Guardian.spawn()
    inner = Harness(guardian, harness.file().parent)
    file = harness.file()
    inner.shell(STUBBORN.format(file=file))
    death = Death(pids(file)[0])
    at = now()
    guardian.close()
    assert death.at() < at + SOON
    assert read(guardian.pid) is None


def test_without_proc_the_process_group_is_killed(tmp_path: Path) -> None:
    """As on other systems: what stays in the group dies, on time."""
    file = tmp_path / "pid"
    before = (
        "import ctypes\n"
        "from electctl.campaign import prctl, procfs\n"
        "guardian.close()\n"
        "ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)\n"
        "procfs.method = lambda: ('group', 'weaker')\n"
        "prctl.become_subreaper = lambda: None\n"
        "guardian = Guardian.spawn()\n"
    )
    script = f"(trap '' TERM; echo x >>{file}; {SPIN}) & echo $! >>{file}; wait"
    driver = Driver("sh", "-c", script, before=before, terminate=3.0, kill=3.5)
    try:
        eventually("both run", lambda: file.exists() and file.read_text().count("\n") == 2)
        stubborn = int(next(line for line in file.read_text().split() if line != "x"))
        death = Death(stubborn)
        assert driver.kill_at - 0.1 <= death.at() < driver.kill_at + SOON
        gone = json.loads(driver.output.readline())
        assert driver.kill_at - 0.1 <= gone
        assert driver.process.wait(PATIENCE) == 0
    finally:
        driver.close()
