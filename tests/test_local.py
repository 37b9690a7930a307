"""The embedded default: nothing is named, and elections work, whatever happens to the server.

What this does not show: that the disk keeps what it says, nor how fast a server starts; the
benchmarks measure that. Two terminals of one user differ in nothing, so one environment is both.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from electctl.base.unix_socket import short_path
from electctl.core.elector import connect
from electctl.raft.io.local import LocalServer
from electctl.raft.pure.wire import Welcome, frame
from tests.campaigns import Campaign
from tests.processes import DEADLINE, Electctl, processes_with, wait_for

pytestmark = pytest.mark.server

STARTED = "started the embedded server for local: (elections on this machine, for this user"


class Terminal:
    """Cron's environment: a home, a short PATH, no terminal, nothing of XDG, nothing of ours."""

    def __init__(self, electctl: Electctl) -> None:
        electctl.env = {name: electctl.env[name] for name in ("PATH", "HOME")}
        self.electctl = electctl
        self.home = electctl.home / ".local" / "state" / "electctl" / "local"
        self.server = LocalServer(self.home)

    def run(self, *args: str, code: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.electctl.run(*args, check=code, **more)

    def campaign(self, candidate: str, script: str, ttl: str = "20s") -> Campaign:
        options = ("--id", candidate)
        return Campaign(
            self.electctl, None, "nightly", *options, command=("sh", "-c", script), ttl=ttl
        )

    def serving(self, other_than: int = 0) -> int:
        """Wait until a server serves; its process id."""
        wait_for(lambda: self.server.pid() not in (None, other_than), what="a server")
        pid = self.server.pid()
        assert pid is not None
        return pid

    def crash(self) -> int:
        """SIGKILL the server; what its process id was."""
        pid = self.serving()
        os.kill(pid, signal.SIGKILL)
        return pid

    def ended(self) -> bool:
        return not [line for line in processes_with(str(self.home)) if "raft serve" in line]


@pytest.fixture
def terminal(electctl: Electctl) -> Iterator[Terminal]:
    found = Terminal(electctl)
    yield found
    electctl.end()
    if found.server.pid() is not None:
        found.server.stop()
    wait_for(found.ended, what="the end of all servers")


def test_two_terminals_with_no_configuration_contend(terminal: Terminal) -> None:
    first = terminal.campaign("one", "echo leads; exec sleep 300")
    first.printed("leads")
    second = terminal.campaign("two", "echo $ELECTCTL_BACKEND")
    assert second.event("waiting")["holder"] == "one"
    assert STARTED in first.stderr
    assert STARTED not in second.stderr
    view = json.loads(terminal.run("holders", "nightly", "--json").stdout)
    assert (view["backend"], view["url"], view["waiting"]) == ("local", "local:", ["two"])
    first.process.terminate()
    first.end(143)
    assert second.end(0)["token"] > view["token"]
    assert second.stdout == "local:\n"
    status = terminal.run("raft", "status")
    assert f"process {terminal.serving()}; its log is {terminal.server.log}" in status.stderr
    for name, mode in (("", 0o700), ("socket", 0o600), ("data", 0o700), ("log", 0o600)):
        assert stat.S_IMODE((terminal.home / name).stat().st_mode) == mode


def test_a_killed_server_is_started_again_by_those_who_use_it(terminal: Terminal) -> None:
    go = terminal.electctl.home / "go"
    first = terminal.campaign(
        "one",
        "electctl checkpoint set before && echo saved; "
        f"until [ -e {go} ]; do sleep 0.1; done; electctl checkpoint get && "
        "electctl checkpoint set after",
    )
    first.printed("saved")
    second = terminal.campaign("two", "electctl checkpoint get")
    second.event("waiting")
    for _ in range(2):
        killed = terminal.crash()
        assert terminal.serving(other_than=killed) != killed
    assert terminal.run("checkpoint", "get", "nightly").stdout == "before"
    view = json.loads(terminal.run("holders", "nightly", "--json").stdout)
    assert (view["holder"], view["waiting"]) == ("one", ["two"])
    go.touch()
    token = first.end(0)["token"]
    assert token == view["token"] == first.event("elected")["token"]
    assert first.names().count("elected") == 1
    assert "before" in first.stdout
    assert second.end(0)["token"] > token
    assert second.stdout == "after"


def test_a_socket_that_is_removed_is_made_again(terminal: Terminal) -> None:
    """As what cleans up directories does. Who looks meanwhile may have to wait, and is served."""
    first = terminal.campaign("one", "echo leads; exec sleep 300")
    first.printed("leads")
    pid = terminal.serving()
    for _ in range(2):
        terminal.server.address.unlink()
        assert terminal.serving() == pid
    assert json.loads(terminal.run("holders", "nightly", "--json").stdout)["holder"] == "one"
    assert "socket had been removed, and was made again" in terminal.server.log.read_text()
    assert terminal.serving() == pid


def test_a_server_whose_store_is_taken_away_ends(terminal: Terminal) -> None:
    """Whoever comes next begins another store there, and there must not be two servers."""
    terminal.run("holders", "nightly")
    pid = terminal.serving()
    process = os.pidfd_open(pid)
    try:
        terminal.home.rename(terminal.home.with_name("away"))
        poll = select.poll()
        poll.register(process, select.POLLIN)
        assert poll.poll(DEADLINE * 1000)
    finally:
        os.close(process)
    log = terminal.home.with_name("away") / "log"
    assert "raft.db was removed or replaced while we used it" in log.read_text()
    terminal.run("campaign", "nightly", "-q", "--", "true")
    assert terminal.serving() != pid


def test_many_that_come_first_start_one(terminal: Terminal) -> None:
    crowd = [terminal.electctl.popen("holders", "nightly") for _ in range(10)]
    said = [process.communicate(timeout=3 * DEADLINE) for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 10, said
    assert sum(STARTED in errors for _, errors in said) == 1
    assert terminal.server.log.read_text().count("listens on") == 1


def test_a_command_that_is_killed_while_it_starts_one_is_in_nobodys_way(
    terminal: Terminal,
) -> None:
    first = terminal.electctl.popen("holders", "nightly")
    wait_for((terminal.home / "starting").exists)
    first.kill()
    for _ in range(3):
        terminal.run("holders", "nightly")
    assert terminal.server.log.read_text().count("leads in term") == 1


def test_an_idle_server_ends_and_the_next_command_starts_one(terminal: Terminal) -> None:
    url = "local:?idle=200ms"
    for run in (("holders", "a"), ("campaign", "a", "--json"), ("campaign", "a", "-q")):
        command = ("--", "true") if run[0] == "campaign" else ()
        done = terminal.run(*run, "-b", url, *command)
        if "--json" in run:
            assert all(json.loads(line)["event"] for line in done.stderr.splitlines())
        elif "-q" in run:
            assert done.stderr == ""
        else:
            assert STARTED in done.stderr
        wait_for(terminal.ended, what="the end of an idle server")
        assert not terminal.server.address.exists()
    # On a busy machine one may have ended before its command had got to it.
    assert terminal.server.log.read_text().count("stopped: idle for 0.2 s") >= 3


def test_whoever_comes_while_an_idle_server_leaves_is_served(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELECTCTL_STATE", str(terminal.home.parent))
    for attempt in range(6):
        with connect("local:?idle=1s") as elector:
            assert elector.holder("nightly") is None
        # Around the moment at which it ends: a tick, 50 ms, comes at most so late.
        time.sleep(0.98 + 0.02 * attempt)


def test_the_server_is_nobodys_child(terminal: Terminal) -> None:
    leader = terminal.campaign("one", "exec sleep 300", ttl="2s")
    command = Path("/proc", str(leader.event("command_started")["pid"]))
    pid = terminal.serving()
    assert os.getsid(pid) not in (os.getsid(0), os.getsid(leader.process.pid))
    proc = Path(f"/proc/{pid}")
    assert (proc / "cwd").readlink() == Path("/")
    log = terminal.server.log
    assert [(proc / "fd" / n).readlink() for n in "012"] == [Path("/dev/null"), log, log]
    opened = set()
    for path in (proc / "fd").iterdir():
        with suppress(FileNotFoundError):  # it has been closed meanwhile
            opened.add(path.readlink())
    ours = {path for path in opened if path.is_relative_to(terminal.electctl.home)}
    assert {path for path in ours if not path.is_relative_to(terminal.home)} == set()
    environ = (proc / "environ").read_bytes().decode().split("\0")
    assert {line.partition("=")[0] for line in environ if line} <= {"PATH", "LC_CTYPE"}
    # The guardian kills the command and all that is below it; the server is not.
    leader.process.kill()
    wait_for(lambda: not command.exists(), what="the end of the command")
    assert terminal.campaign("two", "true").end(0)["outcome"] == "completed"
    assert terminal.server.pid() == pid


def test_a_server_that_died_with_a_campaigns_tree_is_started_again(
    terminal: Terminal, redis_url: str, election: str
) -> None:
    inside = "electctl campaign nightly -b local: -q -- electctl checkpoint set kept"
    terminal.run("campaign", election, "-b", redis_url, "--", "sh", "-c", inside)
    wait_for(terminal.ended, what="the end of what the command left")
    again = terminal.run("checkpoint", "get", "nightly")
    assert STARTED in again.stderr
    assert again.stdout == "kept"


def test_a_deep_state_directory_will_do(terminal: Terminal) -> None:
    deep = terminal.electctl.home / ("d" * 100) / ("e" * 100)
    terminal.server = LocalServer(deep / "local")
    env = {"ELECTCTL_STATE": str(deep)}
    terminal.run("campaign", "nightly", "-q", "--", "true", env=env)
    assert terminal.run("raft", "status", "--json", env=env).stdout.startswith("{")
    terminal.run("raft", "stop", env=env)


# What is refused ---------------------------------------------------------------------------------


def refused(terminal: Terminal, code: int, cause: str, hint: str) -> None:
    done = terminal.run("campaign", "nightly", "--result", "result", "--", "true", code=code)
    error, cure = done.stderr.splitlines()
    assert error.startswith("electctl: ")
    assert cause in error
    assert cure.startswith("hint: ")
    assert hint in cure
    assert json.loads((terminal.electctl.home / "result").read_text())["exit_code"] == code


def test_a_damaged_store_is_named_and_left_alone(terminal: Terminal) -> None:
    terminal.run("campaign", "nightly", "-q", "--", "true")
    terminal.run("raft", "stop")
    (store,) = (terminal.home / "data").glob("*.db")
    store.write_bytes(b"nothing" * 1000)
    refused(terminal, 78, f"the embedded server does not start: {store}", "do not repair it")
    assert store.read_bytes() == b"nothing" * 1000


def test_a_server_of_another_version_is_named_and_left_alone(terminal: Terminal) -> None:
    terminal.home.mkdir(mode=0o700, parents=True)
    greeting = bytearray(frame(Welcome(1, (1,), "store")))
    greeting[4] += 1
    with socket.socket(socket.AF_UNIX) as other:
        with short_path(terminal.server.address) as address:
            other.bind(address)
        other.listen()
        asked = terminal.electctl.popen("holders", "nightly")
        while asked.poll() is None:
            other.settimeout(0.1)
            try:
                guest, _ = other.accept()
            except TimeoutError:
                continue
            with guest, suppress(ConnectionError):  # some only look who is there
                guest.sendall(greeting)
                guest.recv(1)
        _, said = asked.communicate()
    terminal.server.address.unlink()
    assert asked.returncode == 78
    assert "was started by another version of electctl: version 3 of the protocol" in said
    assert "hint: electctl raft stop" in said


def test_a_directory_that_is_not_ours_alone_is_refused(terminal: Terminal) -> None:
    terminal.home.mkdir(parents=True)
    terminal.home.chmod(0o770)
    refused(terminal, 78, f"{terminal.home} can be written by others", "chmod 700")
    if os.geteuid() == 0:
        terminal.home.chmod(0o700)
        os.chown(terminal.home, 12345, 12345)
        refused(terminal, 78, f"{terminal.home} belongs to another user", "ELECTCTL_STATE")
        os.chown(terminal.home, 0, 0)


def test_a_place_where_nothing_can_be_kept_is_refused(terminal: Terminal) -> None:
    (terminal.electctl.home / ".local").write_text("")
    refused(terminal, 78, f"directory {terminal.home} cannot be made", "ELECTCTL_STATE")
