"""The releaser's process: when it is told to give back, and what it kills when all others are gone.

A function that writes down what it is told stands in the place of the real one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.campaign import lookout, procfs
from electctl.campaign.cgroup import Cgroup
from tests.guarded import LINUX_ONLY, PATIENCE, SOON, SPIN, Death, eventually, lives, pids

pytestmark = LINUX_ONLY

DRIVER = """
import json, os, select, sys
from electctl.base.clock import now
from electctl.campaign import cgroup, prctl
from electctl.campaign.guardian import Guardian, GuardianDied, Started, TreeGone
record, wish, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
def serve(end):
    with open(record, "a") as file, end.makefile() as lines:
        print(os.getpid(), file=file, flush=True)
        for line in lines:
            print(now(), line.strip(), file=file, flush=True)
        print(now(), "end", file=file, flush=True)
def stuck(end):
    with open(record, "a") as file:
        print(os.getpid(), file=file, flush=True)
    import time
    time.sleep(60)
if "no cgroup" in wish:
    cgroup.Cgroup.make = classmethod(lambda cls, guardian: None)
if "no death signal" in wish:
    prctl.die_with_parent = lambda signum: None  # as after setpriv and gosu
guardian = Guardian.spawn(stuck if "stuck" in wish else serve)
guardian.hold("first")
guardian.hold("receipt")
if "drop" in wish:
    guardian.drop()
guardian.deadline(now() + 30, now() + 30.5)
guardian.start(argv, os.environ)
while True:
    select.select([guardian], [], [])
    for event in guardian.receive():
        if isinstance(event, Started):
            print(json.dumps([guardian.pid, event.pid, guardian.mark]), flush=True)
        elif isinstance(event, TreeGone):
            guardian.close()
            sys.exit(0)
"""


class Campaign:
    """A process in the place of electctl, with all its helpers."""

    def __init__(self, folder: Path, wish: str, *argv: str) -> None:
        self.record = folder / "record"
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.record), wish, *argv],
            stdout=subprocess.PIPE,
            env={**os.environ, "ELECTCTL_PASSWORD": "sesame"},
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready
        self.guardian, self.command, self.mark = json.loads(self.process.stdout.readline())
        eventually("the releaser runs", lambda: self.record.exists() and bool(self.lines()))
        self.releaser = int(self.lines()[0])

    def lines(self) -> list[str]:
        return self.record.read_text().splitlines()

    def told(self) -> list[str]:
        """What the releaser was told, in words; "end" comes last."""
        eventually("it hears the end", lambda: self.lines()[-1].endswith("end"))
        words = []
        for line in self.lines()[1:-1]:
            message = json.loads(line.partition(" ")[2])
            words.append(" ".join(message.values()))
        return words

    def at(self, word: str) -> float:
        return next(float(line.split()[0]) for line in self.lines()[1:] if word in line)


Begin = Callable[..., Campaign]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    begun: list[Campaign] = []

    def start(wish: str, *argv: str) -> Campaign:
        begun.append(Campaign(tmp_path, wish, *argv))
        return begun[-1]

    yield start
    for each in begun:
        for pid in (each.process.pid, each.guardian, each.releaser, each.command):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        each.process.communicate()


HELD = ["hold first", "hold receipt"]


def test_released_when_electctl_is_killed_and_the_tree_is_gone(
    begin: Begin, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    stubborn = f"trap '' TERM; echo $$ >>{file}; {SPIN}"
    campaign = begin("", "sh", "-c", f'setsid sh -c "$0" & echo $$ >>{file}; {SPIN}', stubborn)
    deaths = [Death(pid) for pid in pids(file, 2)]
    at = now()
    campaign.process.kill()
    assert campaign.told() == [*HELD, "release"]
    died = max(death.at() for death in deaths)
    released = campaign.at("release")
    assert at + 0.5 <= released < at + 0.5 + SOON, "the stubborn one had its grace"
    # The command is gone before; this process needs a moment to see it.
    assert released > died - 0.05
    assert not any(map(lives, pids(file, 2)))


def test_a_command_that_obeys_is_followed_by_the_release_at_once(begin: Begin) -> None:
    campaign = begin("", "sleep", "60")
    at = now()
    campaign.process.kill()
    assert campaign.told() == [*HELD, "release"]
    assert campaign.at("release") < at + 0.3


def test_a_stopped_guardian_is_continued_when_electctl_is_killed(begin: Begin) -> None:
    campaign = begin("", "sleep", "60")
    death = Death(campaign.command)
    os.kill(campaign.guardian, signal.SIGSTOP)
    at = now()
    campaign.process.kill()
    assert campaign.told() == [*HELD, "release"]
    assert death.at() < at + 0.5


def test_a_guardian_that_is_stopped_after_electctl_was_killed_is_continued(
    begin: Begin, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    campaign = begin("", "sh", "-c", f"trap 'echo 15 >>{file}' TERM; echo $$ >>{file}; {SPIN}")
    pids(file)
    campaign.process.kill()
    assert pids(file, 2)[1] == 15
    os.kill(campaign.guardian, signal.SIGSTOP)
    assert campaign.told() == [*HELD, "release"]
    assert not lives(campaign.command)


@pytest.mark.parametrize("wish", ["", "drop"])
def test_nothing_is_given_back_in_good_order_or_after_drop(begin: Begin, wish: str) -> None:
    campaign = begin(wish, "sh", "-c", "sleep 0.2")
    if wish:
        campaign.process.kill()
    else:
        assert campaign.process.wait(PATIENCE) == 0
    assert campaign.told() == [*HELD, "drop"]


def test_the_guardian_killed_then_nothing_is_given_back_here(begin: Begin) -> None:
    """electctl lives, kills the tree, and gives back itself."""
    campaign = begin("", "sleep", "60")
    os.kill(campaign.guardian, signal.SIGKILL)
    assert campaign.process.wait(PATIENCE) == 0
    assert campaign.told() == HELD


def test_the_releaser_killed_changes_nothing(begin: Begin) -> None:
    campaign = begin("", "sleep", "60")
    os.kill(campaign.releaser, signal.SIGKILL)
    death, guardian = Death(campaign.command), Death(campaign.guardian)
    at = now()
    campaign.process.kill()
    assert death.at() < at + SOON
    assert guardian.at() < at + SOON


def test_the_guardian_does_not_wait_for_a_releaser_that_does_not_read(begin: Begin) -> None:
    campaign = begin("stuck", "sleep", "60")
    os.kill(campaign.releaser, signal.SIGSTOP)
    death, guardian = Death(campaign.command), Death(campaign.guardian)
    at = now()
    campaign.process.kill()
    assert death.at() < at + SOON
    assert guardian.at() < at + SOON
    assert lives(campaign.releaser), "no part of the tree"


@pytest.mark.parametrize("cgroup", ["", "no cgroup"])
def test_the_third_kills_when_the_other_two_are_killed_at_once(
    begin: Begin, tmp_path: Path, cgroup: str
) -> None:
    file = tmp_path / "pids"
    daemon = f"echo \\$\\$ >>{file}; exec sleep 60"
    # One whose parent has ended is no longer below the command, but in its session.
    script = f"trap '' TERM; (sleep 60 & echo $! >>{file}); sleep 60 & echo $! >>{file}; "
    script += f"echo $$ >>{file}; "
    script += f'setsid -f sh -c "{daemon}"; {SPIN}'
    campaign = begin(f"no death signal, {cgroup}", "sh", "-c", script)
    deaths = [Death(pid) for pid in pids(file, 4)]
    if cgroup:
        # A daemon that has left all that is known here is found in a cgroup only.
        os.kill(deaths.pop().pid, signal.SIGKILL)
    at = now()
    os.kill(campaign.guardian, signal.SIGSTOP)  # so that it does nothing in between
    campaign.process.kill()
    os.kill(campaign.guardian, signal.SIGKILL)
    assert all(death.at() < at + SOON for death in deaths)
    assert campaign.told() == HELD, "nothing is given back"
    eventually("the releaser leaves", lambda: not lives(campaign.releaser))
    assert Cgroup.of(campaign.mark) is None


# Names


def test_neither_election_nor_command_nor_password_is_in_the_names(begin: Begin) -> None:
    campaign = begin("", "sleep", "60")
    for pid, name in ((campaign.guardian, "leadguard"), (campaign.releaser, "leadrelease")):
        folder = Path("/proc", str(pid))
        assert (folder / "comm").read_text() == f"{name}\n"
        title = (folder / "cmdline").read_bytes().rstrip(b"\0").decode()
        assert title == f"{name} of {campaign.process.pid}"
        assert b"sesame" not in (folder / "environ").read_bytes()
    # What a client library asks getenv(3) for is there.
    releasers = Path("/proc", str(campaign.releaser), "environ").read_bytes()
    assert b"PATH=" in releasers
    assert b"sesame" in Path("/proc", str(campaign.command), "environ").read_bytes()


def test_whoever_reads_what_electctl_prints_does_not_wait_for_the_releaser(begin: Begin) -> None:
    campaign = begin("", "sleep", "60")
    for standard in ("0", "1", "2"):
        assert os.readlink(f"/proc/{campaign.releaser}/fd/{standard}") == os.devnull


def test_pkill_of_the_command_or_of_electctl_does_not_hit_its_guardian(
    begin: Begin, tmp_path: Path
) -> None:
    script = tmp_path / "worker.sh"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    campaign = begin("", str(script))
    subprocess.run(["pkill", "-KILL", "-f", str(tmp_path)], check=True)
    assert campaign.told() == [*HELD, "release"]
    eventually("electctl is dead", lambda: not lives(campaign.process.pid))


def test_the_third_takes_nobody_for_the_commands_where_proc_is_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same numbers are other processes there."""
    command = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        told: dict[str, object] = {
            "pid": command.pid,
            "cgroup": None,
            "session": True,
            "guardian": os.getpid(),
        }
        known = lookout._Command.of(told)
        assert [process.pid for process in known._session_members()] == [command.pid]
        monkeypatch.setattr(procfs, "method", lambda: ("probe", "another's"))
        assert known._session_members() == []
        known.close()
    finally:
        command.kill()
        command.wait()
