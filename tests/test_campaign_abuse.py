"""Nothing that COMMAND does ends its campaign, and no bug of ours keeps a leadership.

Real campaigns on a real Redis; what is used up is really used up, by the limits of the process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from electctl.base.clock import now
from electctl.campaign.answer import MAX_CLIENTS, MAX_QUEUE
from electctl.campaign.crash import NAME
from electctl.lab.proxy import Proxy
from tests.campaigns import Campaign, validate
from tests.processes import DEADLINE, Electctl, wait_for

#: Tells where its campaign answers, then waits.
SOCKET = ("sh", "-c", "echo $ELECTCTL_SOCKET; exec sleep 60")
#: A check is answered within this many seconds, or ``electctl check`` says that it cannot be known.
SOON = 1.0
#: Root has no limit on processes.
UID = 54321


class Led:
    """A campaign that leads, and who asks it."""

    def __init__(self, electctl: Electctl, url: str, election: str, *options: str) -> None:
        self.campaign = Campaign(electctl, url, election, *options, command=SOCKET, ttl="30s")
        wait_for(lambda: self.campaign.stdout.endswith("\n"), what=self.campaign.stderr)
        self.path = self.campaign.stdout.strip()
        self.pid = self.campaign.process.pid

    def connect(self, text: bytes = b"") -> socket.socket:
        asking = socket.socket(socket.AF_UNIX)
        # Without a limit: where too many have come at once, this waits for its turn.
        asking.connect(self.path)
        asking.settimeout(DEADLINE)
        asking.sendall(text)
        return asking

    def ask(self, text: bytes) -> dict[str, Any]:
        with self.connect(text) as asking, asking.makefile("rb") as stream:
            answer: dict[str, Any] = json.loads(stream.readline())
        return answer

    def is_answered_soon(self) -> None:
        began = now()
        assert self.ask(b'{"do": "check"}\n')["leading"] is True
        assert now() - began < SOON

    def goes_on(self) -> None:
        """It leads, and ends in good order when it is told to."""
        self.is_answered_soon()
        self.campaign.process.terminate()
        self.campaign.end(143)
        # What was asked for before may be answered beside the release.
        ending = [name for name in self.campaign.names() if not name.startswith("checkpoint_")]
        assert ending[-2:] == ["released", "finished"]


@pytest.fixture
def led(electctl: Electctl, redis_url: str, election: str) -> Led:
    return Led(electctl, redis_url, election)


def test_a_command_that_stops_its_guardian(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    campaign = Campaign(
        electctl, redis_url, election, command=("sh", "-c", "kill -STOP $PPID; exit 3")
    )
    campaign.end(3)
    assert campaign.names()[-2:] == ["released", "finished"]


class TestTheDesk:
    @pytest.mark.parametrize("text", [b"[" * 200_000, b'{"do": ' * 100_000, b"1" * 100_000])
    def test_what_no_parser_survives(self, led: Led, text: bytes) -> None:
        assert led.ask(text + b"\n")["error"]["exit_code"] == 2
        led.goes_on()

    def test_more_than_it_serves_at_once(self, led: Led) -> None:
        """They say nothing; those that came first are closed for those that come later."""
        with ExitStack() as stack:
            silent = [stack.enter_context(led.connect(b'{"do": ')) for _ in range(MAX_CLIENTS + 20)]
            led.is_answered_soon()
            assert silent[0].recv(1) == b""
        led.goes_on()

    def test_answers_that_are_not_read(self, led: Led) -> None:
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(led.connect(b'{"do": "get"}\n'))
            led.is_answered_soon()
        led.goes_on()

    def test_requests_that_wait_for_a_silent_store(
        self, electctl: Electctl, proxied_url: str, proxy: Proxy, election: str
    ) -> None:
        led = Led(electctl, proxied_url, election)
        proxy.swallow()
        with ExitStack() as stack:
            asking = [
                stack.enter_context(led.connect(b'{"do": "set", "value": "NDI="}\n'))
                for _ in range(MAX_QUEUE + 10)
            ]
            led.is_answered_soon()
            # What does not fit into the queue is refused at once, and in words.
            error = json.loads(asking[-1].recv(4096))["error"]
            assert error["exit_code"] == 3
            assert "nothing was done" in error["message"]
            assert electctl.run("check", env={"ELECTCTL_SOCKET": led.path}).returncode == 0
        proxy.forward()

    def test_no_descriptor_is_left(self, led: Led) -> None:
        """One is kept in reserve; without it who asks waits until there is one."""
        soft, hard = resource.prlimit(led.pid, resource.RLIMIT_NOFILE)
        taken = {int(name) for name in os.listdir(f"/proc/{led.pid}/fd")}
        free = min(set(range(len(taken) + 1)) - taken)
        resource.prlimit(led.pid, resource.RLIMIT_NOFILE, (free, hard))
        led.is_answered_soon()
        led.is_answered_soon()
        resource.prlimit(led.pid, resource.RLIMIT_NOFILE, (3, hard))
        with led.connect(b'{"do": "check"}\n') as asking:
            asking.settimeout(0.3)
            with pytest.raises(TimeoutError):
                asking.recv(1)
            resource.prlimit(led.pid, resource.RLIMIT_NOFILE, (soft, hard))
            asking.settimeout(DEADLINE)
            assert json.loads(asking.recv(4096))["leading"] is True
        led.goes_on()


class TestProcesses:
    @pytest.fixture
    def home(self) -> Iterator[Path]:
        """A directory that the other user may write to."""
        home = Path(tempfile.mkdtemp(prefix="electctl-nproc-"))
        if os.geteuid() == 0:
            os.chown(home, UID, UID)
        yield home
        shutil.rmtree(home)

    def test_all_of_them_are_used_up(self, redis_url: str, election: str, home: Path) -> None:
        """It renews, answers, stops the command and gives back without a thread or process more."""
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        become += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
        become = become if os.geteuid() == 0 else []
        user = Electctl(home)
        argv = [str(Path(sys.executable).parent / "electctl"), "campaign", election, "-v"]
        argv += ["-b", redis_url, "--ttl", "1500ms", "--result", str(home / "result")]
        campaign = subprocess.Popen(
            [*become, *argv, "--", *SOCKET],
            env=user.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with campaign:
            assert campaign.stdout is not None
            assert campaign.stderr is not None
            path = campaign.stdout.readline().strip()
            assert any("renewed" in line for line in iter(campaign.stderr.readline, ""))
            # Nobody but the user itself may do that, where root is not all that root can be.
            subprocess.run([*become, "prlimit", f"--pid={campaign.pid}", "--nproc=0:0"], check=True)
            with pytest.raises(subprocess.TimeoutExpired):  # twice its lease
                campaign.wait(3.0)
            done = user.run("check", env={"ELECTCTL_SOCKET": path})
            assert done.stdout.startswith("leading")
            campaign.terminate()
            assert campaign.wait(DEADLINE) == 143
        assert json.loads((home / "result").read_text())["outcome"] == "interrupted"
        assert not redis.Redis.from_url(redis_url).exists(election)


class TestStandardError:
    def test_reader_that_is_slow_for_a_moment_misses_nothing(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        """Somebody has made the pipe non-blocking, and it is full."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(writing, b"x" * 4096)
        argv = ("campaign", election, "-b", redis_url, "--json", "--")
        campaign = electctl.popen(*argv, "sh", "-c", "read go", stderr=writing, stdin=-1)
        os.close(writing)
        wait_for(lambda: redis.Redis.from_url(redis_url).exists(election))
        with open(reading, "rb") as stream:
            assert stream.read(filled) == b"x" * filled
            assert campaign.stdin is not None
            campaign.stdin.write("\n")
            campaign.stdin.flush()
            events = [json.loads(line)["event"] for line in stream.read().splitlines()]
        assert campaign.wait(DEADLINE) == 0
        assert events[:3] == ["campaigning", "elected", "command_started"]
        assert events[-1] == "finished"


#: Plants a bug, then is ``electctl``.
PLANTED = """
import sys
{bug}
from electctl.__main__ import main
main()
"""
IN_A_WORKER = "from electctl.campaign import once\nonce.find = lambda *_: 1 // 0"
IN_THE_DESK = "from electctl.campaign import answer\nanswer._check = lambda *_: 1 // 0"
IN_THE_MACHINE = "from electctl.campaign.term import Term\nTerm._exited = lambda *_: 1 // 0"


class TestBug:
    """A bug costs the campaign, exit code 70; the leadership goes to the next all the same."""

    def run(
        self, electctl: Electctl, bug: str, tmp_path: Path, *argv: str
    ) -> tuple[dict[str, Any], str]:
        result = tmp_path / "result"
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                PLANTED.format(bug=bug),
                "campaign",
                f"--result={result}",
                *argv,
            ],
            env=electctl.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 70, done.stderr
        assert "Traceback" not in done.stderr
        assert "internal error: ZeroDivisionError" in done.stderr
        report = Path(electctl.env["XDG_STATE_HOME"]) / "electctl" / NAME
        assert f"hint: report it, with {report}" in done.stderr
        written: dict[str, Any] = json.loads(result.read_text())
        validate("result", written)
        assert (written["outcome"], written["exit_code"]) == ("internal_error", 70)
        return written, report.read_text()

    @pytest.mark.parametrize(
        ("bug", "command"),
        [
            (IN_A_WORKER, ("--once", "k", "--", "true")),
            (IN_THE_DESK, ("--", "sh", "-c", "electctl check; sleep 60")),
            (IN_THE_MACHINE, ("--", "sh", "-c", "exit 5")),
        ],
    )
    def test_gives_back(
        self,
        electctl: Electctl,
        redis_url: str,
        election: str,
        tmp_path: Path,
        bug: str,
        command: tuple[str, ...],
    ) -> None:
        argv = (election, "-b", redis_url, "--ttl", "30s", *command)
        result, report = self.run(electctl, bug, tmp_path, *argv)
        assert not redis.Redis.from_url(redis_url).exists(election)
        assert "ZeroDivisionError" in report
        assert "waiting → " in report, "the last steps of the term"
        assert result["token"] is not None


def test_signal_that_kills_the_command_only_is_no_end_of_ours(led: Led) -> None:
    pid = led.campaign.event("command_started")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert led.campaign.end(137)["outcome"] == "completed"
