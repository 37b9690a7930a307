"""The guardian with a real command: how it starts, what it inherits, and how it is ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign.channel import to_event, to_order
from electctl.campaign.guardian import CannotStart, Exited, Guardian, Started, TreeGone
from tests.guarded import (
    LATE,
    LINUX_ONLY,
    SOON,
    SPIN,
    Death,
    Harness,
    eventually,
    guarded,
    pids,
)

pytestmark = LINUX_ONLY


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with guarded(tmp_path) as made:
        yield made


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
    assert abs(gone.at - now()) < SOON


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
    assert harness.terminate_at <= gone.at < harness.terminate_at + SOON


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


# Being ended


def test_a_stopped_command_gets_its_sigterm(harness: Harness) -> None:
    file = harness.file()
    harness.shell(f"trap 'exit 6' TERM; echo $$ >{file}; {SPIN}")
    os.kill(pids(file)[0], signal.SIGSTOP)
    harness.due(terminate=0.2, kill=20)
    gone = harness.until(TreeGone)
    assert harness.until(Exited).status == 6
    assert gone.at < harness.terminate_at + SOON


def test_a_stopped_and_stubborn_command_dies(harness: Harness) -> None:
    file = harness.file()
    harness.shell(
        f"trap 'kill -STOP $$' TERM; echo $$ >{file}; {SPIN}",
    )
    death = Death(pids(file)[0])
    harness.due(terminate=0.2, kill=0.7)
    death.at()
    assert harness.until(TreeGone).at < harness.kill_at + LATE


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
    assert harness.until(TreeGone).at < at + SOON
    assert harness.until(Exited).status == 137


@pytest.mark.slow
def test_what_a_trap_starts_to_tidy_up_is_not_told_to_stop(harness: Harness) -> None:
    file = harness.file()
    tidy = f"sh -c 'sleep 0.03; echo $$ >>{file}'"
    for round_ in range(5):
        harness.shell(f'trap "{tidy}; exit 0" TERM; echo $$ >>{file}; sleep 60 & wait; sleep 60')
        pids(file, 2 * round_ + 1)
        harness.guardian.stop(10)
        harness.until(TreeGone)
        assert harness.until(Exited).status == 0
        assert len(pids(file)) == 2 * round_ + 2


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


def test_the_command_is_scheduled_as_electctl_is(harness: Harness) -> None:
    """The guardian runs before others where it may; what it starts does not."""
    file = harness.file()
    program = "import os; print([os.nice(0), os.sched_getscheduler(0)]"
    harness.python(f"{program}, file=open({str(file)!r}, 'w'))")
    harness.until(TreeGone)
    assert json.loads(file.read_text()) == [os.nice(0), os.sched_getscheduler(0)]
    if os.geteuid() == 0:
        assert os.getpriority(os.PRIO_PROCESS, harness.guardian.pid) == -20


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


# How electctl was started


def test_with_sigchld_ignored(tmp_path: Path) -> None:
    """That is inherited over exec; the kernel then throws away how children end."""
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with guarded(tmp_path) as harness:
            harness.shell("(sleep 0.1 &); sleep 0.2; exit 3")
            harness.until(TreeGone)
            assert harness.until(Exited).status == 3
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_with_all_signals_blocked(tmp_path: Path) -> None:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with guarded(tmp_path) as harness:
            file = harness.file()
            harness.shell(f"trap 'exit 4' TERM; echo $$ >{file}; {SPIN}")
            pids(file)
            harness.guardian.stop(20)
            harness.until(TreeGone)
            assert harness.until(Exited).status == 4
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "as it was"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_what_was_given_is_passed_on_and_nothing_else(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    other, another = os.pipe()
    for handle in (writing, another):
        os.set_inheritable(handle, True)
    guardian = Guardian.spawn(given=(writing,))
    inner = Harness(guardian, tmp_path)
    inner.python(f"import os; os.write({writing}, b'hello'); os.write({another}, b'no')")
    inner.until(TreeGone)
    guardian.close()
    os.close(writing)
    os.close(another)
    assert os.read(reading, 64) == b"hello"
    assert os.read(other, 64) == b""
    os.close(reading)
    os.close(other)


# On a terminal

TERMINAL = """
import json, os, select, signal, sys
from electctl.base.clock import now
from electctl.campaign.guardian import Guardian, Started, TreeGone
guardian = Guardian.spawn(terminal=True)
guardian.deadline(now() + 60, now() + 60)
guardian.start(["sh", "-c", sys.argv[1]], os.environ)
kill_at = 0.0
while True:
    select.select([guardian], [], [])
    for event in guardian.receive():
        if isinstance(event, Started):
            mine = [os.getsid(0), os.getpgrp(), guardian.pid, os.getpgid(guardian.pid)]
            print(json.dumps(mine), flush=True)
            print(json.dumps([os.getsid(event.pid), os.getpgid(event.pid)]), flush=True)
            sys.stdin.readline()
            kill_at = now() + 0.5
            guardian.deadline(kill_at - 0.2, kill_at)
        elif isinstance(event, TreeGone):
            print(json.dumps([kill_at, event.at]), flush=True)
            guardian.close()
            sys.exit(0)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_on_a_terminal_it_shares_our_group_and_dies_without_us(
    tmp_path: Path, stopped: bool
) -> None:
    """Ctrl-Z stops the command, but not its guardian, which kills in time."""
    file = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; {SPIN}) & echo $! >>{file}; echo $$ >>{file}; {SPIN}"
    campaign = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert campaign.stdout is not None
    session, group, guardian, of_guardian = json.loads(campaign.stdout.readline())
    assert session == group == campaign.pid
    # A session that is its own: in a group apart, nobody could continue what Ctrl-Z has stopped.
    assert of_guardian == group
    assert os.getsid(guardian) == session
    assert json.loads(campaign.stdout.readline()) == [session, group]
    found = pids(file, 2)
    if stopped:
        for pid in found:
            os.kill(pid, signal.SIGTSTP)
    assert campaign.stdin is not None
    campaign.stdin.write("\n")
    campaign.stdin.flush()
    kill_at, gone = json.loads(campaign.stdout.readline())
    assert kill_at <= gone < kill_at + LATE
    assert campaign.wait(15) == 0, "electctl is of the same group, and was not hit"
    campaign.communicate()


# The channel


@pytest.mark.parametrize("message", [{"do": "dance"}, {"do": "stop", "grace": 1.0}, {"do": "hold"}])
def test_an_order_that_is_none_is_an_error(message: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        to_order(message)


@pytest.mark.parametrize("message", [{"event": "Danced"}, {"event": "Exited", "code": 1}])
def test_an_event_that_is_none_is_an_error(message: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        to_event(message)
