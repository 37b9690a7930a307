"""What a campaign does with signals: which stop it, which it passes on, and what was inherited."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis

from electctl.lab.cluster import Cluster
from tests.campaigns import Campaign
from tests.processes import Electctl, wait_for

#: Prints each signal that it gets, and has a child that does the same on stderr.
REPORT = """
import os, signal, sys
mine = os.fork() > 0
out = sys.stdout if mine else sys.stderr
def report(signum, frame):
    print(signum, file=out, flush=True)
    if signum == signal.SIGTERM:
        os._exit(7)
fatal = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
for signum in signal.valid_signals() - fatal:
    signal.signal(signum, report)
print("ready", file=out, flush=True)
while True:
    signal.pause()
"""
READY = ("sh", "-c", "echo ready; exec sleep 60")

#: Starts a program (arguments) with these signals blocked and these ignored.
STARTER = """
import os, signal, sys
for signum in {ignored}:
    signal.signal(signum, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {blocked})
os.execvp(sys.argv[1], sys.argv[1:])
"""
#: 32 and 33 are the C library's own.
USUAL = ((1 << 31) - 1) & ~0 | sum(1 << n - 1 for n in range(34, 65))

PASSED_ON = [
    *("USR1", "USR2", "QUIT", "WINCH", "CONT", "ALRM", "VTALRM", "PROF", "IO", "PWR", "URG"),
    *("XCPU", "STKFLT", "RTMIN", "RTMAX"),
]

Start = Callable[..., Campaign]


@pytest.fixture
def start(electctl: Electctl, redis_url: str, election: str) -> Start:
    return partial(Campaign, electctl, redis_url, election)


def number(name: str) -> int:
    return int(getattr(signal, f"SIG{name}"))


def masks(status: str) -> dict[str, int]:
    """The signals of /proc/PID/status that are blocked, and those that are ignored."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {name: int(fields[name], 16) & USUAL for name in ("SigBlk", "SigIgn")}


def bits(*names: str) -> int:
    return sum(1 << number(name) - 1 for name in names)


# Passed on


def test_all_that_does_not_stop_it_is_passed_on_to_the_commands_own_process(start: Start) -> None:
    campaign = start(command=(sys.executable, "-ISc", REPORT), ttl="10s")
    campaign.printed("ready")
    wait_for(lambda: "ready" in campaign.stderr)
    for name in PASSED_ON:
        campaign.process.send_signal(number(name))
        campaign.printed(f"\n{number(name)}\n")
    assert campaign.process.poll() is None
    campaign.process.send_signal(signal.SIGTERM)
    result = campaign.end(7)
    assert campaign.stdout.split()[1:] == [str(number(name)) for name in (*PASSED_ON, "TERM")]
    assert {line for line in campaign.stderr.splitlines() if line.isdecimal()} <= {"15"}
    assert campaign.names()[-2:] == ["released", "finished"]
    assert result["outcome"] == "interrupted"


def test_a_command_that_dies_of_what_was_passed_on_is_told_from_electctl(
    start: Start, server: redis.Redis, election: str
) -> None:
    campaign = start(command=READY)
    campaign.printed("ready")
    campaign.process.send_signal(signal.SIGUSR1)
    assert campaign.end(128 + signal.SIGUSR1)["outcome"] == "completed"
    assert not server.exists(election)


@pytest.fixture
def server(redis_cluster: Cluster) -> redis.Redis:
    return redis.Redis.from_url(redis_cluster.url)


def test_without_a_command_they_are_ignored_and_quit_stops(
    start: Start, server: redis.Redis, election: str
) -> None:
    campaign = start()
    campaign.event("elected")
    for name in PASSED_ON:
        if name != "QUIT":
            campaign.process.send_signal(number(name))
    campaign.process.send_signal(signal.SIGQUIT)
    assert campaign.end(0)["outcome"] == "completed"
    assert not server.exists(election)


def test_while_waiting_they_are_ignored_and_quit_stops(
    start: Start, server: redis.Redis, election: str
) -> None:
    server.set(election, "a-foreign-tool", nx=True, px=60_000)
    campaign = start(command=READY)
    campaign.event("waiting")
    campaign.process.send_signal(signal.SIGUSR1)
    campaign.process.send_signal(signal.SIGQUIT)
    assert campaign.end(131)["outcome"] == "interrupted"


def test_between_two_terms_quit_stops(start: Start) -> None:
    campaign = start("--keep", command=("false",))
    campaign.event("again")
    campaign.process.send_signal(signal.SIGUSR2)
    campaign.process.send_signal(signal.SIGQUIT)
    campaign.end(131)


def test_a_signal_is_seen_at_once_however_often(tmp_path: Path) -> None:
    """Not at the next wake-up: between a look and the sleep nothing is lost."""
    program = (
        "import os, select\n"
        "from electctl.campaign.inbox import Inbox\n"
        "with Inbox() as inbox:\n"
        "    os.write(1, b'ready\\n')\n"
        "    while True:\n"
        "        select.select([inbox], [], [], 30)\n"
        "        for caught in inbox.take()[0]:\n"
        "            os.write(1, b'%d\\n' % caught.signum)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        out = process.stdout.fileno()
        assert os.read(out, 100) == b"ready\n"
        for _ in range(3000):
            process.send_signal(signal.SIGTERM)
            assert select.select([out], [], [], 10)[0]
            assert os.read(out, 100) == b"15\n"
    finally:
        process.kill()
        process.communicate()


def test_where_there_is_no_signalfd_handlers_do_the_same(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    program = (
        "import types; from electctl.campaign import signals\n"
        "signals.sys = types.SimpleNamespace(platform='other')\n"
        "from electctl.__main__ import main; main()\n"
    )
    line = "trap 'echo usr1' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    argv = ["campaign", election, "-b", redis_url, "--", "sh", "-c", line]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *argv], stdout=subprocess.PIPE, text=True, env=electctl.env
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "usr1\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 5
    process.stdout.close()


# What was inherited


def started(
    electctl: Electctl, blocked: set[int], ignored: set[int], *argv: str
) -> subprocess.CompletedProcess[str]:
    starter = STARTER.format(ignored=set(map(int, ignored)), blocked=set(map(int, blocked)))
    return subprocess.run(
        [sys.executable, "-ISc", starter, *argv],
        env=electctl.env,
        capture_output=True,
        text=True,
        timeout=60,
    )


ALL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@pytest.mark.parametrize(
    ("ignored", "kept"),
    [
        ((), ()),
        (("INT", "QUIT"), ("INT", "QUIT")),  # a background job of a script
        (("HUP",), ("HUP",)),  # nohup
        (("USR1", "TSTP", "TTIN", "TTOU"), ("USR1", "TSTP", "TTIN", "TTOU")),
        (("PIPE", "XFSZ", "CHLD", "TERM"), ()),
    ],
)
def test_the_command_gets_an_empty_mask_and_ignores_what_was_ignored(
    electctl: Electctl,
    redis_url: str,
    election: str,
    ignored: tuple[str, ...],
    kept: tuple[str, ...],
) -> None:
    argv = ["electctl", "campaign", election, "-b", redis_url, "--", "cat", "/proc/self/status"]
    done = started(electctl, set(ALL), {number(name) for name in ignored}, *argv)
    assert done.returncode == 0, done.stderr
    assert masks(done.stdout) == {"SigBlk": 0, "SigIgn": bits(*kept)}


@pytest.mark.parametrize("how", ["on_elected", "on_lost"])
def test_hooks_get_the_same(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path, how: str
) -> None:
    option = "--" + how.replace("_", "-")
    # By the shell itself: dash gives an empty mask to what it starts.
    hook = f'while read -r line; do echo "$line"; done </proc/$$/status >{tmp_path}/status'
    starter = STARTER.format(ignored={int(signal.SIGUSR2)}, blocked=set(map(int, ALL)))
    argv = ["electctl", "campaign", election, "-b", redis_url, option, hook, "--", *READY]
    process = subprocess.Popen(
        [sys.executable, "-ISc", starter, *argv],
        env=electctl.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    electctl.run("evict", election, "-b", redis_url, "--wait", "20s", check=0)
    assert process.wait(30) == 79
    process.stdout.close()
    found = masks((tmp_path / "status").read_text())
    assert found == {"SigBlk": 0, "SigIgn": bits("USR2")}


def test_started_with_everything_blocked_it_stops_when_told_to(
    electctl: Electctl, redis_url: str, election: str, server: redis.Redis
) -> None:
    starter = STARTER.format(ignored=set(), blocked=set(map(int, ALL)))
    argv = ["electctl", "campaign", election, "-b", redis_url, "--", *READY]
    process = subprocess.Popen(
        [sys.executable, "-ISc", starter, *argv],
        env=electctl.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    own = masks(Path(f"/proc/{process.pid}/status").read_text())
    assert not own["SigBlk"] & bits("TSTP", "TTIN", "TTOU", "SEGV")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert not server.exists(election)
    process.stdout.close()


def test_what_was_ignored_at_the_start_does_not_stop_it(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    """nohup, and what a script starts in the background."""
    ignored = {int(signal.SIGHUP), int(signal.SIGINT), int(signal.SIGUSR1)}
    starter = STARTER.format(ignored=ignored, blocked=set())
    argv = ["electctl", "campaign", election, "-b", redis_url, "--", *READY]
    process = subprocess.Popen(
        [sys.executable, "-ISc", starter, *argv],
        env=electctl.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for signum in ignored:
        process.send_signal(signum)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.stdout.close()


# SIGCHLD ignored: wait(2) then knows no child, and an exit code of 0 means nothing


@pytest.mark.parametrize("status", [0, 5])
def test_the_commands_status_is_known_where_sigchld_is_ignored(
    electctl: Electctl, redis_url: str, election: str, status: int
) -> None:
    argv = ["electctl", "campaign", election, "-b", redis_url, "--", "sh", "-c", f"exit {status}"]
    assert started(electctl, set(), {number("CHLD")}, *argv).returncode == status


def damage(electctl: Electctl) -> None:
    data = electctl.home / "state" / "electctl" / "local" / "data"
    data.mkdir(parents=True, mode=0o700)
    data.parent.chmod(0o700)
    (data / "raft.db").write_text("garbage\n")


def test_a_local_server_that_cannot_start_says_why(electctl: Electctl) -> None:
    damage(electctl)
    argv = ["electctl", "campaign", "j", "--", "true"]
    done = started(electctl, set(), {number("CHLD")}, *argv)
    assert done.returncode == 78
    assert "damaged" in done.stderr


def test_the_same_in_a_program_that_uses_the_library(electctl: Electctl) -> None:
    """There SIGCHLD is not ours to set: the cause is told, but not whose fault it is."""
    damage(electctl)
    program = (
        "import electctl, electctl.errors\n"
        "try:\n"
        "    electctl.connect('local:').holder('j')\n"
        "except electctl.errors.ElectctlError as error:\n"
        "    print(error.message)\n"
    )
    done = started(electctl, set(), {number("CHLD")}, sys.executable, "-c", program)
    assert "damaged" in done.stdout, done.stderr


@pytest.mark.server
def test_a_local_server_starts_where_sigchld_is_ignored(electctl: Electctl) -> None:
    program = "import electctl; print(electctl.connect('local:').holder('j'))"
    done = started(electctl, set(), {number("CHLD")}, sys.executable, "-c", program)
    assert done.stdout == "None\n", done.stderr


def test_certificates_of_a_lab_are_missed_where_sigchld_is_ignored(tmp_path: Path) -> None:
    """openssl fails, and nobody can tell by its exit code."""
    program = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from electctl.errors import Unreachable; from electctl.lab import certificates\n"
        "try:\n"
        "    certificates.make_certificates(Path(sys.argv[1]), client_name='/' * 2000)\n"
        "except Unreachable as error:\n"
        "    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "openssl could not make a certificate" in done.stdout
