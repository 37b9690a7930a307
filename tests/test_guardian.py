"""The guardian with real processes: nothing of a command outlives its deadline."""

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from electctl.campaign import tree
from electctl.campaign.guardian import (
    CannotStart,
    Exited,
    Guardian,
    GuardianDied,
    GuardianEvent,
    Started,
    TreeGone,
)
from electctl.clock import now
from electctl.errors import CannotRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="full strength is Linux's alone")

E = TypeVar("E", bound=GuardianEvent)

#: What a busy machine may add to a deadline before a test calls it late, in seconds.
LATE = 3.0
#: For what must happen but has no deadline of its own.
PATIENCE = 15.0


#: For the shell: go on for a while, and ignore nothing. Every program here ends by itself in the
#: end, so that a guardian that is broken leaves no process for good.
SPIN = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); sleep 0.01; done"


def eventually(what: str, holds: Callable[[], bool], within: float = PATIENCE) -> None:
    until = now() + within
    while not holds():
        assert now() < until, f"not within {within} s: {what}"
        time.sleep(0.005)


def pids(file: Path, count: int = 1) -> list[int]:
    """The process ids that a command writes into a file, one a line, once all are there."""
    eventually(
        f"{count} process ids in {file.name}",
        lambda: file.exists() and file.read_text().count("\n") >= count,
    )
    return [int(line) for line in file.read_text().split()]


def lives(pid: int) -> bool:
    process = tree.read(pid)
    return process is not None and process.alive


class Death:
    """Tells when a process ended, to the millisecond, by its pidfd."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def at(self, within: float = PATIENCE) -> float:
        ready, _, _ = select.select([self._handle], [], [], within)
        moment = now()
        os.close(self._handle)
        assert ready, f"process {self.pid} lives"
        return moment


class Harness:
    """A guardian, and what it has said."""

    def __init__(self, guardian: Guardian, folder: Path) -> None:
        self.guardian = guardian
        self.events: list[GuardianEvent] = []
        self._folder = folder
        self._files = 0
        self.terminate_at = self.kill_at = 0.0

    def file(self) -> Path:
        self._files += 1
        return self._folder / f"file{self._files}"

    def shell(self, script: str, *, terminate: float = 30, kill: float = 60) -> None:
        """Run a shell script with these deadlines, in seconds from now."""
        self.run("/bin/sh", "-c", script, terminate=terminate, kill=kill)

    def python(self, script: str, *, terminate: float = 30, kill: float = 60) -> None:
        program = textwrap.dedent(script)
        self.run(sys.executable, "-ISc", program, terminate=terminate, kill=kill)

    def run(
        self,
        *argv: str,
        terminate: float = 30,
        kill: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.events = []
        self.due(terminate=terminate, kill=kill)
        self.guardian.start(argv, os.environ if env is None else env)

    def due(self, *, terminate: float, kill: float) -> None:
        self.terminate_at, self.kill_at = now() + terminate, now() + kill
        self.guardian.deadline(self.terminate_at, self.kill_at)

    def until(self, kind: type[E]) -> E:
        """Wait for an event of this kind."""
        until = now() + PATIENCE
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            assert now() < until, f"no {kind.__name__}, only {self.events}"
            select.select([self.guardian], [], [], 0.5)
            self.events += self.guardian.receive()

    def kinds(self) -> list[type[GuardianEvent]]:
        return [type(event) for event in self.events]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    before = {process.key for process in tree.descendants(os.getpid())}
    guardian = Guardian.spawn()
    yield Harness(guardian, tmp_path)
    guardian.close()
    guardian.close()  # The second does nothing.
    # Undo what spawn() did to the test process.
    assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0
    assert tree.descendants(os.getpid(), spare=before) == [], "processes or zombies are left"


# How a command ends


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -INT $$", 130),
    ],
)
def test_status_is_that_of_a_shell(harness: Harness, script: str, status: int) -> None:
    harness.shell(script)
    gone = harness.until(TreeGone)
    assert harness.kinds() == [Started, Exited, TreeGone]
    exited = harness.until(Exited)
    assert exited.status == status
    code = os.waitstatus_to_exitcode(exited.raw)
    assert code == (status if status in (0, 3, 255) else 128 - status)
    assert abs(gone.at - now()) < LATE


@pytest.mark.parametrize(
    ("content", "mode", "code", "says"),
    [
        (None, 0, 127, "not found"),
        ("#!/no/such/interpreter\n", 0o755, 127, "interpreter"),
        ("exit 0\n", 0o644, 126, "Permission denied"),
        ("exit 0\n", 0o755, 126, "#!"),
    ],
)
def test_what_cannot_run_is_said(
    harness: Harness, content: str | None, mode: int, code: int, says: str
) -> None:
    program = harness.file()
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    harness.run(str(program))
    event = harness.until(CannotStart)
    assert harness.kinds() == [CannotStart]
    assert event.exit_code == code
    assert says in event.message
    assert str(program) in event.message


def test_command_is_looked_for_in_its_own_path(harness: Harness, tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    harness.run("only-here")
    assert harness.until(CannotStart).exit_code == 127
    harness.run("only-here", env={"PATH": str(tmp_path)})
    harness.until(TreeGone)
    assert harness.until(Exited).status == 7


def test_null_byte_in_an_argument(harness: Harness) -> None:
    harness.run("echo", "a\0b")
    assert harness.until(CannotStart).exit_code == 126


def test_arguments_and_environment_arrive_byte_for_byte(harness: Harness) -> None:
    file = harness.file()
    odd = os.fsdecode(b"\xff\n\"' ")
    # Larger than a socket's buffer.
    env = {**os.environ, "FILE": str(file), "ODD": odd} | {
        f"V{number}": "x" * 100_000 for number in range(8)
    }
    harness.run("/bin/sh", "-c", 'printf %s "$1$ODD$V7" >"$FILE"', "sh", odd, env=env)
    harness.until(TreeGone)
    assert file.read_bytes() == os.fsencode(odd + odd) + b"x" * 100_000


def test_several_commands_one_after_the_other(harness: Harness) -> None:
    for status in (1, 2, 3):
        harness.shell(f"exit {status}")
        harness.until(TreeGone)
        assert harness.until(Exited).status == status
        harness.run("/no/such/program")
        harness.until(CannotStart)


def test_a_second_command_is_refused_while_one_runs(harness: Harness) -> None:
    file = harness.file()
    harness.shell("sleep 60")
    harness.until(Started)
    harness.guardian.start(["touch", str(file)], os.environ)
    assert harness.until(CannotStart).exit_code == 126
    harness.guardian.kill()
    harness.until(TreeGone)
    assert not file.exists()


# Deadlines


def test_a_command_that_obeys_ends_at_the_time_to_terminate(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap 'exit 5' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    harness.due(terminate=0.3, kill=20)
    gone = harness.until(TreeGone)
    assert harness.until(Exited).status == 5
    assert harness.terminate_at <= gone.at < harness.terminate_at + LATE


def test_a_stubborn_command_is_killed_at_the_time_to_kill(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap 'echo $$ >>{file}' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    harness.due(terminate=0.3, kill=0.9)
    gone = harness.until(TreeGone)
    assert len(pids(file)) == 2, "it had SIGTERM first"
    assert harness.until(Exited).status == 137
    assert harness.kill_at <= gone.at < harness.kill_at + LATE


def test_a_later_deadline_replaces_the_earlier(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    harness.due(terminate=0.1, kill=0.3)
    harness.due(terminate=0.5, kill=0.9)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE


def test_an_earlier_deadline_replaces_the_later(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    harness.due(terminate=0.1, kill=0.4)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE


def test_nothing_runs_after_the_deadline_or_without_one(harness: Harness) -> None:
    file = harness.file()
    harness.guardian.start(["touch", str(file)], os.environ)
    assert harness.until(CannotStart).exit_code == 126
    harness.run("touch", str(file), terminate=-1, kill=-0.001)
    assert "deadline" in harness.until(CannotStart).message
    assert not file.exists()
    harness.run("touch", str(file))
    harness.until(TreeGone)
    assert file.exists()


def test_the_clock_is_looked_at_often_while_a_command_runs_and_never_while_idle(
    harness: Harness,
) -> None:
    """select(2) sleeps on a clock that stops in suspend: only waking up notices a resume."""

    def naps() -> int:
        status = Path(f"/proc/{harness.guardian.pid}/status").read_text()
        return int(status.split("nonvoluntary_ctxt_switches")[0].split()[-1])

    harness.shell("sleep 60")
    harness.until(Started)
    at, before = now(), naps()
    eventually("ten naps", lambda: naps() >= before + 10)
    assert now() - at < 2.0
    harness.guardian.kill()
    harness.until(TreeGone)
    idle = naps()
    assert not select.select([harness.guardian], [], [], 0.5)[0]
    assert naps() <= idle + 1


# The whole tree


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


DAEMON = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(2):
        if os.fork():
            {parent}
        os.setsid()
    with open({file!r}, "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(30)
"""


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


def test_a_stopped_command_gets_its_sigterm(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap 'exit 6' TERM; echo $$ >{file}; {SPIN}")
    os.kill(pids(file)[0], signal.SIGSTOP)
    harness.due(terminate=0.2, kill=20)
    gone = harness.until(TreeGone)
    assert harness.until(Exited).status == 6
    assert gone.at < harness.terminate_at + LATE


def test_a_stopped_and_stubborn_command_dies(harness: Harness) -> None:
    file = harness.file()
    harness.shell(
        f"trap 'kill -STOP $$' TERM; echo $$ >{file}; {SPIN}",
    )
    death = Death(pids(file)[0])
    harness.due(terminate=0.2, kill=0.7)
    assert death.at() < harness.kill_at + LATE
    harness.until(TreeGone)


def test_stop_is_term_then_kill(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap 'echo $$ >>{file}' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    at = now()
    harness.guardian.stop(0.5)
    gone = harness.until(TreeGone)
    assert len(pids(file, 2)) == 2, "SIGTERM came once"
    assert at + 0.5 <= gone.at < at + 0.5 + LATE


def test_stop_does_not_outlast_the_deadline(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; echo $$ >{file}; {SPIN}")
    pids(file)
    harness.due(terminate=0.3, kill=0.6)
    harness.guardian.stop(30)
    gone = harness.until(TreeGone)
    assert harness.kill_at <= gone.at < harness.kill_at + LATE


def test_stop_right_after_start_is_not_lost(harness: Harness) -> None:
    for _ in range(10):
        harness.run("sleep", "60")
        at = now()
        harness.guardian.stop(20)
        assert harness.until(TreeGone).at < at + 5
        assert harness.until(Exited).status == 143


def test_kill_is_at_once(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap '' TERM; echo $$ >{file}; (setsid sleep 60); sleep 60")
    pids(file)
    at = now()
    harness.guardian.kill()
    assert harness.until(TreeGone).at < at + LATE
    assert harness.until(Exited).status == 137


def test_signals_reach_the_whole_tree_and_sigterm_only_once(harness: Harness) -> None:
    file = harness.file()
    script = f"trap 'echo 10 >>{file}' USR1; trap 'echo 15 >>{file}' TERM; echo 0 >>{file}; {SPIN}"
    harness.run("/bin/sh", "-c", f'setsid sh -c "$0" & {script}', script)
    pids(file, 2)
    harness.guardian.signal(signal.SIGUSR1)
    assert sorted(pids(file, 4)) == [0, 0, 10, 10]
    harness.guardian.signal(signal.SIGTERM)
    assert sorted(pids(file, 6)) == [0, 0, 10, 10, 15, 15]
    harness.guardian.stop(0.3)
    harness.until(TreeGone)
    assert sorted(pids(file)) == [0, 0, 10, 10, 15, 15]


# What the command inherits


def test_the_command_starts_clean(harness: Harness) -> None:
    """Own session, default signals, empty mask, no descriptors but the standard ones."""
    file = harness.file()
    leak, other = os.pipe()
    os.set_inheritable(leak, True)
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    guardian = Guardian.spawn()
    signal.signal(signal.SIGINT, old)
    inner = Harness(guardian, file.parent)
    program = "import os; print([n for n in range(256) if os.path.exists(f'/proc/self/fd/{n}')]"
    inner.python(f"{program}, file=open({str(file)!r}, 'w'))")
    inner.until(TreeGone)
    assert json.loads(file.read_text()) == [0, 1, 2]
    # cat replaces the shell, which blocks and saves things of its own around a command.
    inner.shell(f"exec cat /proc/self/status >{file}")
    inner.until(TreeGone)
    guardian.close()
    os.close(leak)
    os.close(other)
    lines = file.read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    usual = (1 << 31) - 1  # signals 32 and 33 are the C library's own
    assert int(fields["SigBlk"], 16) & usual == 0
    assert int(fields["SigIgn"], 16) & usual == 0
    assert fields["NSsid"].split()[0] == fields["NSpgid"].split()[0]
    assert int(fields["NSsid"].split()[0]) == inner.until(Started).pid
    assert int(fields["NSsid"].split()[0]) != os.getsid(0)


def test_the_guardian_is_hard_to_hit_by_mistake(harness: Harness) -> None:
    pid = harness.guardian.pid
    harness.shell("sleep 60")
    harness.until(Started)
    assert Path(f"/proc/{pid}/comm").read_text().strip() == "leadguard"
    assert os.getsid(pid) == pid
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1):
        os.kill(pid, signum)
    harness.guardian.kill()
    harness.until(TreeGone)
    assert harness.kinds() == [Started, Exited, TreeGone]


# The dead-man's switch: electctl is a process of its own here

DRIVER = """
import json, os, select, sys, time
from electctl.campaign.guardian import Guardian, TreeGone, Started, GuardianDied
from electctl.clock import now
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
    assert now() < at + LATE
    assert at + 0.6 <= death.at() < at + 0.6 + LATE
    assert guardian.at() < at + 0.6 + LATE


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
    assert driver.kill_at - 0.1 <= death.at() < driver.kill_at + LATE


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
    assert driver.kill_at - 0.1 <= died < driver.kill_at + LATE
    assert pids(file)[1:] == [15]
    driver.process.send_signal(signal.SIGCONT)
    assert abs(json.loads(driver.output.readline()) - died) < LATE
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
        assert death.at() < at + LATE
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
        assert death.at() < at + LATE
    assert json.loads(driver.output.readline()) == "died"
    assert at <= json.loads(driver.output.readline()) < at + LATE
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
    assert death.at() < at + LATE


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
    before = {process.key for process in tree.descendants(os.getpid())}
    for _ in range(3):
        harness = Harness(Guardian.spawn(), tmp_path)
        try:
            harness.run("sleep", "60")
            until = time.perf_counter() + after_us / 1e6
            while time.perf_counter() < until:
                pass
            os.kill(harness.guardian.pid, signal.SIGKILL)
            harness.until(TreeGone)
            assert tree.descendants(os.getpid(), spare=before) == []
        finally:
            harness.guardian.close()
            assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0


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
        children = [p for p in tree.descendants(os.getpid()) if p.parent == os.getpid()]
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
    assert harness.kill_at <= died < harness.kill_at + LATE
    assert abs(harness.until(TreeGone).at - died) < LATE

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
    assert death.at() < at + LATE
    assert tree.read(guardian.pid) is None


def test_without_proc_the_process_group_is_killed(tmp_path: Path) -> None:
    """As on other systems: what stays in the group dies, on time."""
    file = tmp_path / "pid"
    before = (
        "import ctypes\n"
        "from electctl.campaign import prctl, tree\n"
        "guardian.close()\n"
        "ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)\n"
        "tree.AVAILABLE = False\n"
        "prctl.become_subreaper = lambda: None\n"
        "guardian = Guardian.spawn()\n"
    )
    script = f"(trap '' TERM; echo x >>{file}; {SPIN}) & echo $! >{file}; wait"
    driver = Driver("sh", "-c", script, before=before, terminate=3.0, kill=3.5)
    try:
        eventually("both run", lambda: file.exists() and file.read_text().count("\n") == 2)
        stubborn = int(next(line for line in file.read_text().split() if line != "x"))
        death = Death(stubborn)
        assert driver.kill_at - 0.1 <= death.at() < driver.kill_at + LATE
        assert driver.kill_at - 0.1 <= json.loads(driver.output.readline())
        assert driver.process.wait(PATIENCE) == 0
    finally:
        driver.close()
