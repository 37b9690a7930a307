"""``electctl check`` and ``electctl checkpoint``, inside a real campaign and outside."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from electctl.base.clock import now
from electctl.campaign.ask import MAX_LINE, MAX_VALUE
from electctl.lab.proxy import Proxy
from tests.campaigns import Campaign, validate
from tests.processes import DEADLINE, Electctl, wait_for

#: Tells where its campaign answers, then waits.
SOCKET = ("sh", "-c", "echo $ELECTCTL_SOCKET; exec sleep 60")


class Inside:
    """A campaign whose command waits, and the command line as that command would call it."""

    def __init__(self, electctl: Electctl, url: str, election: str, ttl: str = "30s") -> None:
        self.campaign = Campaign(electctl, url, election, command=SOCKET, ttl=ttl)
        wait_for(lambda: self.campaign.stdout.endswith("\n"), what=self.campaign.stderr)
        self.path = self.campaign.stdout.strip()
        self._electctl = electctl
        self._env = {**electctl.env, "ELECTCTL_SOCKET": self.path}

    def run(
        self, *args: str, stdin: bytes | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``electctl`` in the command's environment."""
        program = subprocess.check_output(
            ["/bin/sh", "-c", "command -v electctl"], env=self._env, text=True
        ).strip()
        done = subprocess.run(
            [program, *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=self._env,
            capture_output=True,
            timeout=DEADLINE,
        )
        assert done.returncode == code, done
        return done

    def ask(self, line: bytes) -> dict[str, Any]:
        """Send one line to the socket; its answer."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(DEADLINE)
            asking.connect(self.path)
            asking.sendall(line)
            with asking.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
        return answer


@pytest.fixture
def inside(electctl: Electctl, redis_url: str, election: str) -> Inside:
    """A campaign that leads, with a long lease."""
    return Inside(electctl, redis_url, election)


@pytest.fixture
def server(redis_url: str) -> redis.Redis:
    """A plain client of the same Redis."""
    return redis.Redis.from_url(redis_url)


class TestCheck:
    def test_0_while_leading(self, inside: Inside) -> None:
        assert inside.run("check").stdout.startswith(b"leading, ")
        answer = json.loads(inside.run("check", "--json").stdout)
        validate("check", answer)
        assert answer["leading"] is True
        assert 0 < answer["remaining_ms"] <= 30_000
        assert answer["token"] == inside.campaign.event("elected")["token"]

    def test_global_options_are_taken_too(self, inside: Inside) -> None:
        assert inside.run("-q", "check").stdout == b""
        assert json.loads(inside.run("--json", "check", "-v").stdout)["leading"] is True

    def test_1_once_the_lease_is_gone(
        self, electctl: Electctl, proxied_url: str, proxy: Proxy, election: str
    ) -> None:
        """A process that its campaign could not kill asks while the campaign clears up."""
        script = "trap '' TERM; echo $ELECTCTL_SOCKET; while :; do sleep 0.1; done"
        campaign = Campaign(
            electctl,
            proxied_url,
            election,
            "--on-lost",
            "sleep 60",
            command=("sh", "-c", script),
            ttl="1500ms",
        )
        wait_for(lambda: campaign.stdout.endswith("\n"))
        proxy.cut()
        campaign.event("command_gone")
        env = {"ELECTCTL_SOCKET": campaign.stdout.strip()}
        wait_for(lambda: electctl.run("check", env=env).returncode == 1)
        done = electctl.run("check", "--json", env=env, check=1)
        assert json.loads(done.stdout)["leading"] is False
        assert json.loads(done.stdout)["remaining_ms"] == 0
        # A second signal ends the hook, which would take a minute.

        def asked_until_it_ends() -> bool:
            campaign.process.terminate()
            return campaign.process.poll() is not None

        wait_for(asked_until_it_ends)
        campaign.end(79)

    def test_2_outside_a_campaign(self, electctl: Electctl) -> None:
        done = electctl.run("check", check=2)
        assert "not a campaign's command" in done.stderr
        assert "hint: " in done.stderr

    def test_3_when_the_campaign_is_stopped(self, inside: Inside) -> None:
        inside.campaign.process.send_signal(signal.SIGSTOP)
        began = now()
        done = inside.run("check", code=3)
        assert now() - began >= 1.0
        assert b"did not answer within 1 s" in done.stderr
        inside.campaign.process.send_signal(signal.SIGCONT)
        inside.run("check")

    def test_3_when_the_campaign_is_gone(self, inside: Inside) -> None:
        inside.campaign.process.kill()
        inside.campaign.process.wait(DEADLINE)
        assert b"cannot be asked" in inside.run("check", code=3).stderr


class TestCheckpoint:
    def test_raw_bytes_come_back(self, inside: Inside) -> None:
        for value in (b"42", b"", b"\x00\xff\n"):
            inside.run("checkpoint", "set", "-", stdin=value)
            assert inside.run("checkpoint", "get").stdout == value

    def test_value_as_an_argument_and_from_stdin_without_dash(self, inside: Inside) -> None:
        inside.run("checkpoint", "set", "first")
        assert inside.run("checkpoint", "get").stdout == b"first"
        inside.run("checkpoint", "set", stdin=b"second")
        assert inside.run("checkpoint", "get").stdout == b"second"

    def test_1_while_empty(self, inside: Inside) -> None:
        assert inside.run("checkpoint", "get", code=1).stdout == b""

    def test_next_leader_finds_it_and_so_does_anybody(
        self, inside: Inside, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        inside.run("checkpoint", "set", "step 3")
        inside.campaign.process.terminate()
        inside.campaign.end(143)
        argv = ("campaign", election, "-b", redis_url, "-q", "--", "electctl", "checkpoint", "get")
        assert electctl.run(*argv, check=0).stdout == "step 3"
        done = electctl.run("checkpoint", "get", election, "-b", redis_url, check=0)
        assert done.stdout == "step 3"

    def test_2_outside_a_campaign(self, electctl: Electctl) -> None:
        assert "hint: " in electctl.run("checkpoint", "set", "1", check=2).stderr
        assert "hint: " in electctl.run("checkpoint", "get", check=2).stderr

    def test_2_for_a_value_that_is_too_long(self, inside: Inside) -> None:
        big = os.urandom(MAX_VALUE)
        inside.run("checkpoint", "set", "-", stdin=big)
        done = inside.run("checkpoint", "set", "-", stdin=big + b"x", code=2)
        assert b"1048576 are allowed" in done.stderr
        assert inside.run("checkpoint", "get").stdout == big

    def test_79_for_a_stale_grant(
        self, inside: Inside, server: redis.Redis, election: str, electctl: Electctl, redis_url: str
    ) -> None:
        inside.run("checkpoint", "set", "mine")
        server.delete(election)
        done = inside.run("checkpoint", "set", "stale", code=79)
        assert done.stderr.startswith(b"electctl: ")
        done2 = electctl.run("checkpoint", "get", election, "-b", redis_url, check=0)
        assert done2.stdout == "mine"

    def test_3_when_no_answer_comes(
        self, electctl: Electctl, proxied_url: str, proxy: Proxy, election: str
    ) -> None:
        inside = Inside(electctl, proxied_url, election, ttl="2s")
        inside.run("checkpoint", "set", "one")
        proxy.swallow()
        done = inside.run("checkpoint", "set", "two", code=3)
        assert b"may or may not be written" in done.stderr


class TestSocket:
    @pytest.fixture
    def silent(self, inside: Inside) -> Iterator[None]:
        """Clients that connect and say nothing, or only half a line."""
        clients = []
        for start in (b"", b'{"do": '):
            client = socket.socket(socket.AF_UNIX)
            client.connect(inside.path)
            client.sendall(start)
            clients.append(client)
        yield
        for client in clients:
            client.close()

    @pytest.mark.usefixtures("silent")
    def test_slow_clients_keep_nobody_waiting(self, inside: Inside) -> None:
        assert inside.ask(b'{"do": "check"}\n')["leading"] is True

    def test_nonsense_is_refused_in_words(self, inside: Inside) -> None:
        for line in (
            b"\n",
            b"check\n",
            b"[]\n",
            b'{"do": "release"}\n',
            b'{"do": "set"}\n',
            b'{"do": "set", "value": 1}\n',
            b'{"do": "set", "value": "*"}\n',
            b"\xff\n",
        ):
            error = inside.ask(line)["error"]
            assert error["exit_code"] == 2, line
            assert error["message"]
            assert error["hint"]

    def test_limits_hold_on_the_side_that_answers(self, inside: Inside) -> None:
        assert inside.ask(b"x" * (MAX_LINE + 1))["error"]["exit_code"] == 2
        value = base64.b64encode(b"x" * (MAX_VALUE + 1)).decode()
        line = json.dumps({"do": "set", "value": value}).encode() + b"\n"
        assert "are allowed" in inside.ask(line)["error"]["message"]

    def test_many_at_once(self, inside: Inside) -> None:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for client in clients:
            client.settimeout(DEADLINE)
            client.connect(inside.path)
        for client in clients:
            client.sendall(b'{"do": "check"}\n')
            assert json.loads(client.recv(4096))["leading"] is True
            client.close()

    def test_long_tmpdir_is_no_trouble(
        self, electctl: Electctl, redis_url: str, election: str, tmp_path: Path
    ) -> None:
        deep = tmp_path / ("d" * 120)
        deep.mkdir()
        argv = ("campaign", election, "-b", redis_url, "-q", "--", "electctl", "check")
        assert electctl.run(*argv, env={"TMPDIR": str(deep)}, check=0).stdout.startswith("leading")
        assert list(deep.iterdir()) == []
