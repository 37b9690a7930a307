"""Stopping, time limits, the control socket and systemd, on real campaigns with a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from electctl.base import unix_socket
from electctl.base.clock import now
from electctl.campaign import procfs
from tests.campaigns import Campaign
from tests.processes import DEADLINE, Electctl, wait_for

#: Prints "ready", then waits for a signal that ends it.
READY = ("sh", "-c", "echo ready; exec sleep 60")
#: A parent that passes nothing on, and a child that says what it hears.
FAMILY = (
    "sh",
    "-c",
    "trap 'echo parent; wait; exit 0' TERM; "
    "sh -c 'trap \"echo child; exit 0\" TERM; echo ready; while :; do sleep 0.05; done' & "
    "while :; do wait; done",
)

Start = Callable[..., Campaign]


@pytest.fixture
def start(electctl: Electctl, redis_url: str, election: str) -> Start:
    """Start a campaign for this test's election."""

    def starter(*options: str, url: str = redis_url, **more: object) -> Campaign:
        return Campaign(electctl, url, election, *options, **more)  # type: ignore[arg-type]

    return starter


@pytest.fixture
def server(redis_url: str) -> redis.Redis:
    """A plain client of the same Redis."""
    return redis.Redis.from_url(redis_url)


def guardian_of(campaign: Campaign) -> int:
    def named() -> int | None:
        for pid in procfs.children(campaign.process.pid) or []:
            if Path(f"/proc/{pid}/comm").read_text() == "leadguard\n":
                return pid
        return None

    found = wait_for(named, what="a guardian")
    assert found is not None
    return found


class TestStop:
    def test_all_are_told(self, start: Start) -> None:
        campaign = start("--stop-timeout", "20s", command=FAMILY)
        campaign.printed("ready")
        campaign.process.terminate()
        campaign.printed("child")
        campaign.end(0)
        assert set(campaign.stdout.split()) == {"ready", "parent", "child"}

    def test_main_alone_is_told(self, start: Start) -> None:
        """The parent waits for its child, which is killed when the time is up."""
        campaign = start("--stop", "main", "--stop-timeout", "1s", command=FAMILY)
        campaign.printed("ready")
        campaign.process.terminate()
        campaign.end(137)
        assert set(campaign.stdout.split()) == {"ready", "parent"}

    def test_ordinary_stop_may_take_longer_than_a_whole_lease(self, start: Start) -> None:
        """Renewal goes on meanwhile, so that is no danger."""
        script = "trap 'sleep 4; echo tidy; exit 6' TERM; echo ready; while :; do sleep 0.05; done"
        campaign = start("--stop-timeout", "30s", "-v", command=("sh", "-c", script), ttl="1500ms")
        campaign.printed("ready")
        told = now()
        campaign.process.terminate()
        result = campaign.end(6)
        assert now() - told >= 4
        assert "tidy" in campaign.stdout
        assert (result["outcome"], result["lost_reason"]) == ("interrupted", None)

    def test_loss_does_not_wait_for_it(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
        campaign = start("--stop-timeout", "1h", command=("sh", "-c", script))
        campaign.printed("ready")
        campaign.process.terminate()
        server.delete(election)
        assert campaign.end(79)["lost_reason"] == "deleted"

    def test_what_was_left_behind_is_counted_and_said(self, start: Start) -> None:
        campaign = start(command=("sh", "-c", "sleep 60 & sleep 61 & exit 3"))
        result = campaign.end(3)
        assert result["left"] == campaign.event("command_gone")["left"] == 2
        assert "left 2 processes running" in campaign.event("warning")["message"]
        assert "left 2 processes running" in campaign.stderr

    def test_nothing_left_is_no_news(self, start: Start) -> None:
        campaign = start(command=("true",))
        assert campaign.end(0)["left"] == 0
        assert "warning" not in campaign.names()


class TestMaxRun:
    def test_124(self, start: Start, server: redis.Redis, election: str) -> None:
        campaign = start("--max-run", "300ms", command=READY)
        result = campaign.end(124)
        assert (result["outcome"], result["timed_out"]) == ("interrupted", True)
        assert result["command_exit"] == 143
        assert "--max-run" in campaign.stderr
        assert not server.exists(election)

    def test_command_that_ends_in_time_keeps_its_code(self, start: Start) -> None:
        result = start("--max-run", "60s", command=("sh", "-c", "exit 124")).end(124)
        assert (result["outcome"], result["timed_out"]) == ("completed", False)

    def test_keep_goes_on(self, start: Start) -> None:
        campaign = start("--keep", "--max-terms", "2", "--max-run", "2s", command=READY)
        assert campaign.end(124)["terms"] == 2
        assert campaign.stdout == "ready\nready\n"


class TestMargin:
    def test_is_kept(self, start: Start, tmp_path: Path, server: redis.Redis) -> None:
        """Nobody renews: electctl is stopped. The command is deaf, and killed by the guardian."""
        deaf = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
        campaign = start("--margin", "900ms", "--grace", "200ms", command=deaf, ttl="4s")
        campaign.printed("ready")
        pid = campaign.event("command_started")["pid"]
        campaign.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: procfs.read(pid) is None, what="the command is killed")
        campaign.process.send_signal(signal.SIGCONT)
        result = campaign.end(79)
        assert 500 < result["margin_ms"] <= 900

    def test_has_to_fit(self, electctl: Electctl, redis_url: str, election: str) -> None:
        argv = ("campaign", election, "-b", redis_url, "--ttl", "2s", "--margin", "1500ms")
        assert "unsafe" in electctl.run(*argv, check=78).stderr
        argv = (*argv[:-1], "0s")
        assert "margin" in electctl.run(*argv, check=78).stderr


class TestOptions:
    @pytest.mark.parametrize("options", [("--stop", "some"), ("--max-run", "0s")])
    def test_2(self, start: Start, options: tuple[str, ...]) -> None:
        campaign = start(*options, command=("true",), result=False)
        assert campaign.process.wait(DEADLINE) == 2
        assert "hint:" in campaign.stderr

    def test_config_file(self, electctl: Electctl, start: Start, election: str) -> None:
        file = electctl.home / "electctl.yaml"
        file.write_text(f"elections:\n  {election}:\n    max_run: 300ms\n    stop: main\n")
        assert start("-c", str(file), command=READY).end(124)["timed_out"] is True
        file.write_text("stop: some\n")
        done = electctl.run("campaign", election, "-c", str(file), check=78)
        assert "main or all" in done.stderr


class TestSocket:
    def path_of(self, campaign: Campaign) -> Path:
        wait_for(lambda: campaign.stdout.endswith("\n"), what=campaign.stderr)
        return Path(campaign.stdout.splitlines()[-1])

    SAY = ("sh", "-c", "echo $ELECTCTL_SOCKET; exec sleep 60")

    @pytest.fixture
    def runtime(self) -> Iterator[Path]:
        """A directory of ours whose path leaves room for an address."""
        made = Path(tempfile.mkdtemp(prefix="rt-"))
        yield made
        shutil.rmtree(made, ignore_errors=True)
        made.unlink(missing_ok=True)

    @pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"])
    def test_is_where_nothing_ages_it(self, start: Start, runtime: Path, variable: str) -> None:
        campaign = start(command=self.SAY, env={variable: str(runtime)})
        assert self.path_of(campaign).is_relative_to(runtime)
        campaign.process.terminate()
        campaign.end(143)
        assert list(runtime.iterdir()) == []

    def test_directory_that_others_may_write_to_is_not_used(
        self, start: Start, runtime: Path
    ) -> None:
        runtime.chmod(0o777)
        campaign = start(command=self.SAY, env={"XDG_RUNTIME_DIR": str(runtime)})
        assert not self.path_of(campaign).is_relative_to(runtime)

    def test_its_loss_is_mended(self, electctl: Electctl, start: Start) -> None:
        campaign = start(command=self.SAY, ttl="30s")
        path = self.path_of(campaign)
        env = {"ELECTCTL_SOCKET": str(path)}
        for _ in range(2):
            shutil.rmtree(path.parent)
            wait_for(path.exists, 3.0, what="it is made again")
            assert electctl.run("check", env=env).returncode == 0
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            with unix_socket.short_path(path) as short:
                other.bind(short)
            # It is there, and is not ours.
            wait_for(lambda: electctl.run("check", env=env).returncode == 0, 5.0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "made again" in campaign.event("warning")["message"]
        campaign.process.terminate()
        campaign.end(143)
        assert not path.parent.exists()

    def test_place_that_is_gone_for_good_between_two_terms(
        self, start: Start, runtime: Path
    ) -> None:
        """The next term has its socket elsewhere."""
        script = f"echo $ELECTCTL_SOCKET; rm -rf {runtime}; : >{runtime}"
        env = {"XDG_RUNTIME_DIR": str(runtime)}
        campaign = start("--keep", "--max-terms", "2", command=("sh", "-c", script), env=env)
        campaign.end(0)
        first, second = campaign.stdout.split()
        assert Path(first).is_relative_to(runtime)
        assert not Path(second).is_relative_to(runtime)

    @pytest.mark.parametrize("length", [10, 200])
    def test_named(self, electctl: Electctl, start: Start, tmp_path: Path, length: int) -> None:
        """A probe asks before the election, too; the path may be longer than an address."""
        (tmp_path / ("d" * length)).mkdir()
        path = tmp_path / ("d" * length) / "control"
        env = {"ELECTCTL_SOCKET": str(path)}
        first = start("--id", "a", command=self.SAY, ttl="30s")
        self.path_of(first)
        second = start("--id", "b", "--socket", str(path), command=self.SAY, ttl="30s")
        wait_for(path.exists, what="its socket")
        done = electctl.run("check", "--json", env=env, check=1)
        assert json.loads(done.stdout) == {"leading": False, "remaining_ms": 0, "token": None}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first.process.terminate()
        assert self.path_of(second) == path
        electctl.run("check", env=env, check=0)
        second.process.terminate()
        second.end(143)
        assert not path.exists()

    def test_dead_socket_of_ours_is_replaced(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "control"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        start("--socket", str(path), command=("electctl", "check")).end(0)

    def test_anything_else_is_not(self, start: Start, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.write_text("mine")
        used = tmp_path / "used"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(used))
            listening.listen()
            for path in (plain, used, tmp_path, tmp_path / "no" / "such"):
                campaign = start("--socket", str(path), command=("true",), result=False)
                assert campaign.process.wait(DEADLINE) == 2, path
                assert "hint:" in campaign.stderr
            unix_socket.connect(used, 1.0).close()
        assert plain.read_text() == "mine"


class TestServiceManager:
    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[socket.socket]:
        """What systemd listens on."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(tmp_path / "notify"))
            listening.settimeout(DEADLINE)
            yield listening

    def until(self, manager: socket.socket, word: str) -> list[str]:
        """What is said until ``word``, which must come."""
        said: list[str] = []
        while not said or word not in said[-1]:
            said.append(manager.recv(4096).decode())
        return said

    def test_hears_of_everything(
        self,
        start: Start,
        tmp_path: Path,
        manager: socket.socket,
        server: redis.Redis,
        election: str,
    ) -> None:
        server.set(election, "a-foreign-tool", px=60_000)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        campaign = start(command=("sh", "-c", "echo ready; env; exec sleep 60"), env=env)
        before = self.until(manager, "WATCHDOG=1")
        before += self.until(manager, "leads")
        assert "STATUS=waiting" in "".join(before)
        assert "READY=1" not in "".join(before)
        server.delete(election)
        self.until(manager, "READY=1")
        for _ in range(3):
            self.until(manager, "WATCHDOG=1")
        campaign.process.terminate()
        self.until(manager, "STOPPING=1")
        campaign.end(143)
        assert "NOTIFY_SOCKET" not in campaign.stdout
        assert "WATCHDOG" not in campaign.stdout


class TestGuardian:
    def test_is_there_without_a_command_too(self, start: Start) -> None:
        campaign = start()
        campaign.event("elected")
        guardian = guardian_of(campaign)
        assert Path(f"/proc/{guardian}/comm").read_text() == "leadguard\n"
        campaign.process.terminate()
        campaign.end(0)
        wait_for(lambda: procfs.read(guardian) is None, what="it has left")

    def test_its_death_while_nothing_runs_is_only_said(self, start: Start) -> None:
        campaign = start()
        campaign.event("elected")
        os.kill(guardian_of(campaign), signal.SIGKILL)
        assert "guardian process died" in campaign.event("warning")["message"]
        campaign.process.terminate()
        assert campaign.end(0)["outcome"] == "completed"

    def test_its_death_between_two_jobs_ends_keep_with_79_and_a_release(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        """Exit code 79, so that the service manager starts it again."""
        campaign = start("--keep", "--min-hold", "3s", command=("true",))
        campaign.event("command_gone")
        os.kill(guardian_of(campaign), signal.SIGKILL)
        result = campaign.end(79)
        assert (result["outcome"], result["lost_reason"]) == ("lost", "guardian_died")
        assert "hint: start the campaign again" in campaign.stderr
        assert "released" in campaign.names()
        assert not server.exists(election)

    def test_its_death_while_we_wait(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        server.set(election, "a-foreign-tool", px=60_000)
        campaign = start("--keep", command=READY)
        campaign.event("waiting")
        os.kill(guardian_of(campaign), signal.SIGKILL)
        assert campaign.end(79)["lost_reason"] == "guardian_died"


def test_no_helper_is_left_to_pid_1(start: Start) -> None:
    """Where that waits for no orphans, each would stay a zombie."""
    campaign = start(command=("sh", "-c", "echo ready; sleep 60"))
    campaign.printed("ready")
    helpers = procfs.children(campaign.process.pid)
    assert helpers is not None
    assert len(helpers) == 2

    campaign.process.terminate()
    campaign.end(143)

    assert not any(map(procfs.exists, helpers))
