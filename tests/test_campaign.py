"""``electctl campaign`` as a real process against a real Redis: exit codes, signals, hand-over."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from electctl.base.clock import now
from electctl.campaign.procfs import read
from electctl.campaign.term import SAME_REQUEST
from electctl.lab.cluster import make_cluster
from electctl.lab.proxy import Proxy
from tests.campaigns import Campaign
from tests.processes import Electctl, wait_for

#: Prints "ready", then waits for a signal that ends it.
READY = ("sh", "-c", "echo ready; exec sleep 60")
#: The same, deaf to SIGTERM.
DEAF = ("sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.1; done")
#: Prints "ready", ends with 5 when told to stop.
POLITE = ("sh", "-c", "trap 'exit 5' TERM INT; echo ready; while :; do sleep 0.05; done")

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


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestExitCodes:
    @pytest.mark.parametrize(
        ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)]
    )
    def test_the_commands_own(self, start: Start, script: str, code: int) -> None:
        campaign = start(command=("sh", "-c", script))
        result = campaign.end(code)
        assert result["outcome"] == "completed"
        assert result["command_exit"] == code
        assert result["margin_ms"] > 0
        assert campaign.names() == [
            "campaigning",
            "elected",
            "command_started",
            "command_exited",
            "command_gone",
            "released",
            "finished",
        ]

    def test_output_and_input_are_the_commands_own(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        done = electctl.run(
            "campaign", election, "-b", redis_url, "-q", "--", "tr", "a-z", "A-Z", input="quiet"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "QUIET", "")

    def test_127_and_126(self, start: Start, tmp_path: Path) -> None:
        result = start(command=("no-such-program",)).end(127)
        assert result["outcome"] == "cannot_run"
        assert "not found" in result["message"]
        plain = tmp_path / "plain"
        plain.write_text("")
        assert start(command=(str(plain),)).end(126)["outcome"] == "cannot_run"

    def test_75_when_somebody_leads(self, start: Start, server: redis.Redis, election: str) -> None:
        server.set(election, "a-foreign-tool", nx=True, px=60_000)
        for options, code in (
            (("--no-wait",), 75),
            (("--wait", "200ms"), 75),
            (("--no-wait", "-E", "0"), 0),
            (("--no-wait", "--conflict-exit-code", "9"), 9),
        ):
            campaign = start(*options, command=("echo", "ran"))
            result = campaign.end(code)
            assert result["outcome"] == "not_elected"
            assert result["margin_ms"] is None
            assert campaign.stdout == ""
            assert "not elected" in campaign.stderr

    def test_69_when_nobody_answers(self, start: Start, tmp_path: Path) -> None:
        with Proxy(("127.0.0.1", 9)) as gone:
            host, port = gone.address
        result = start("--wait", "300ms", url=f"redis://{host}:{port}/0").end(69)
        assert result["outcome"] == "unreachable"

    def test_77_when_the_password_is_wrong(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        server.acl_setuser(election, enabled=True, passwords=["+secret"], categories=["+@all"])
        host = server.connection_pool.connection_kwargs["host"]
        port = server.connection_pool.connection_kwargs["port"]
        campaign = start(url=f"redis://{election}:wr0ng@{host}:{port}/0")
        assert campaign.end(77)["outcome"] == "refused"
        assert "wr0ng" not in campaign.stderr
        server.acl_deluser(election)

    def test_78_when_the_timing_is_unsafe(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        done = electctl.run(
            "campaign", election, "-b", redis_url, "--ttl", "1s", "--grace", "900ms", check=78
        )
        assert "unsafe" in done.stderr
        assert "hint:" in done.stderr

    def test_78_when_the_id_campaigns_already(self, start: Start) -> None:
        first = start("--id", "twice", command=READY)
        first.printed("ready")
        second = start("--id", "twice", command=READY)
        assert second.end(78)["outcome"] == "not_elected"
        assert "twice" in second.stderr

    def test_79_when_the_store_deletes_the_grant(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start(command=DEAF)
        campaign.printed("ready")
        assert server.delete(election) == 1
        result = campaign.end(79)
        assert (result["outcome"], result["lost_reason"]) == ("lost", "deleted")
        assert result["command_exit"] == 137
        assert result["margin_ms"] <= 0
        assert "the store no longer holds our grant" in campaign.stderr
        assert "released" not in campaign.names()

    def test_79_when_the_store_is_gone(self, start: Start, tmp_path: Path) -> None:
        with make_cluster("redis", tmp_path / "own") as cluster:
            campaign = start(url=cluster.url, command=POLITE)
            campaign.printed("ready")
            cluster.servers[0].kill()
            result = campaign.end(79)
        assert (result["outcome"], result["lost_reason"]) == ("lost", "expired")
        assert result["command_exit"] == 5
        assert result["margin_ms"] > 0
        assert campaign.event("renewal_failed")["remaining"] > 0
        assert campaign.stderr.count("a renewal was not confirmed") == 1, "people hear it once"
        assert "the lease expired before the renewal reached the server" in campaign.stderr

    def test_79_without_a_command_too(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start()
        campaign.event("elected")
        server.delete(election)
        assert campaign.end(79)["margin_ms"] is None

    def test_exit_before_the_loss_keeps_the_commands_own(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start("--min-hold", "60s", command=("sh", "-c", "exit 4"))
        campaign.event("command_gone")
        server.delete(election)
        result = campaign.end(4)
        assert (result["outcome"], result["lost_reason"]) == ("completed", "deleted")

    @pytest.mark.parametrize(
        "options",
        [
            ("--wait", "1s", "--no-wait"),
            ("--keep", "--no-wait"),
            ("--keep", "--once", "k", "--", "true"),
            ("--once", "k"),
            ("--once", "", "--", "true"),
            ("--max-terms", "2"),
            ("--keep", "--max-terms", "0"),
            ("-E", "256"),
            ("--ttl", "soon"),
            ("--events", "fd:99"),
            ("--events", "/no/such/dir/file"),
            ("--result", "/no/such/dir/file"),
            ("--id", ""),
            ("--", ""),
        ],
    )
    def test_2_for_what_makes_no_sense(
        self, electctl: Electctl, redis_url: str, election: str, options: tuple[str, ...]
    ) -> None:
        done = electctl.run("campaign", election, "-b", redis_url, *options, check=2)
        assert done.stderr.startswith("electctl: ")
        assert "hint: " in done.stderr


class TestSignals:
    @pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_while_waiting(
        self, start: Start, server: redis.Redis, election: str, signum: int, code: int
    ) -> None:
        server.set(election, "a-foreign-tool", nx=True, px=60_000)
        campaign = start(command=READY)
        waiting = campaign.event("waiting")
        assert waiting["holder"] == "a-foreign-tool"
        campaign.process.send_signal(signum)
        assert campaign.end(code)["outcome"] == "interrupted"
        assert campaign.stdout == ""

    def test_without_a_command_releases_and_exits_0(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start()
        campaign.event("elected")
        assert server.exists(election)
        campaign.process.terminate()
        assert campaign.end(0)["outcome"] == "completed"
        assert not server.exists(election)

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_is_forwarded(self, start: Start, signum: int) -> None:
        campaign = start(command=POLITE)
        campaign.printed("ready")
        campaign.process.send_signal(signum)
        result = campaign.end(5)
        assert (result["outcome"], result["command_exit"]) == ("interrupted", 5)
        assert campaign.names()[-2:] == ["released", "finished"]

    def test_deaf_command_is_killed_after_grace(self, start: Start) -> None:
        campaign = start("--grace", "300ms", command=DEAF)
        campaign.printed("ready")
        began = now()
        campaign.process.terminate()
        campaign.end(137)
        assert now() - began >= 0.3

    def test_second_signal_kills_at_once(self, start: Start) -> None:
        campaign = start("--grace", "15s", ttl="60s", command=DEAF)
        campaign.printed("ready")
        began = now()
        # What comes on the heels of the first belongs to it.
        while campaign.process.poll() is None:
            assert now() - began < 10
            campaign.process.terminate()
            time.sleep(0.05)
        campaign.end(137)
        assert now() - began >= SAME_REQUEST

    def test_killed_electctl_leaves_nothing_behind(self, start: Start) -> None:
        """Neither the command nor the directory of its socket; the guardian leaves last."""
        campaign = start(command=("sh", "-c", "echo $ELECTCTL_SOCKET; exec sleep 60"))
        pid = campaign.event("command_started")["pid"]
        wait_for(lambda: campaign.stdout.endswith("\n"))
        home = Path(campaign.stdout.strip()).parent
        command = read(pid)
        assert command is not None
        assert home.is_dir()
        campaign.process.kill()
        wait_for(lambda: not alive(command.parent), what="the guardian leaves")
        assert not alive(pid)
        assert not home.exists()

    def test_stopped_longer_than_the_lease(self, start: Start) -> None:
        """The guardian keeps the deadline; everything settles after SIGCONT."""
        campaign = start(command=DEAF)
        pid = campaign.event("command_started")["pid"]
        campaign.printed("ready")
        campaign.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: not alive(pid), what="the command is killed")
        campaign.process.send_signal(signal.SIGCONT)
        result = campaign.end(79)
        assert (result["outcome"], result["lost_reason"]) == ("lost", "expired")
        assert result["margin_ms"] > 0

    def test_killed_guardian_takes_the_command_along(self, start: Start) -> None:
        campaign = start(command=DEAF)
        pid = campaign.event("command_started")["pid"]
        guardian = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert guardian != campaign.process.pid
        os.kill(guardian, signal.SIGKILL)
        result = campaign.end(79)
        assert result["lost_reason"] == "guardian_died"
        assert not alive(pid)


class TestHandOver:
    def test_release_comes_after_the_last_descendant(
        self, start: Start, tmp_path: Path, server: redis.Redis, election: str
    ) -> None:
        """The command ends at once and leaves one behind, deaf and in a session of its own."""
        left = tmp_path / "left"
        script = f"setsid sh -c \"trap '' TERM; echo \\$\\$ >{left}; sleep 60\" & "
        script += f"while ! test -s {left}; do sleep 0.02; done"
        campaign = start("--grace", "300ms", command=("sh", "-c", script))
        campaign.event("command_exited")
        assert server.exists(election)
        campaign.end(0)
        assert not alive(int(left.read_text()))
        exited, gone = campaign.event("command_exited"), campaign.event("command_gone")
        assert campaign.event("released")["boottime_ns"] >= gone["boottime_ns"]
        assert gone["boottime_ns"] > exited["boottime_ns"]

    def test_next_is_woken_and_gets_a_greater_token(self, start: Start) -> None:
        first = start("--id", "first", command=POLITE)
        first.printed("ready")
        second = start("--id", "second", command=("true",))
        second.event("campaigning")
        first.process.terminate()
        before, after = first.end(5), second.end(0)
        assert after["token"] > before["token"]

    def test_waits_through_an_outage(
        self,
        start: Start,
        proxied_url: str,
        proxy: Proxy,
        server: redis.Redis,
        election: str,
    ) -> None:
        server.set(election, "a-foreign-tool", nx=True, px=60_000)
        campaign = start(url=proxied_url, command=("true",))
        campaign.event("waiting")
        proxy.cut()
        assert "no contact while waiting" in campaign.event("warning")["message"]
        proxy.forward()
        server.delete(election)
        campaign.end(0)

    def test_eviction(
        self, start: Start, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        from electctl.core.elector import connect

        campaign = start("--id", "first", command=POLITE)
        campaign.printed("ready")
        with connect(redis_url) as elector:
            gone = elector.evict(election, wait=20.0)
        assert gone is not None
        assert gone.id == "first"
        result = campaign.end(79)
        assert (result["lost_reason"], result["command_exit"]) == ("evicted", 5)
        assert campaign.names()[-3:] == ["lost", "released", "finished"]


class TestEnvironment:
    def test_what_the_command_gets(self, start: Start, server: redis.Redis, election: str) -> None:
        server.acl_setuser(
            election,
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            channels=["*"],
            categories=["+@all"],
        )
        kwargs = server.connection_pool.connection_kwargs
        at = f"{kwargs['host']}:{kwargs['port']}/0"
        campaign = start(
            "--id",
            "worker 1",
            url=f"redis://{election}@{at}",
            env={"ELECTCTL_PASSWORD": "secret", "MINE": "kept"},
            command=("env", "-0"),
        )
        result = campaign.end(0)
        server.acl_deluser(election)
        env = dict(line.split("=", 1) for line in campaign.stdout.split("\0") if line)
        assert env["MINE"] == "kept"
        assert "secret" not in campaign.stdout
        assert env["ELECTCTL_BACKEND"] == f"redis://{election}@{at}"
        assert env["ELECTCTL_ELECTION"] == election
        assert env["ELECTCTL_ID"] == "worker 1"
        assert env["ELECTCTL_TOKEN"] == str(result["token"])
        assert env["ELECTCTL_TOKEN_KIND"] == "counter"
        assert "ELECTCTL_REASON" not in env

    def test_socket_is_private_and_removed(self, start: Start) -> None:
        campaign = start(command=("sh", "-c", "echo $ELECTCTL_SOCKET; exec sleep 60"))
        wait_for(lambda: campaign.stdout.endswith("\n"))
        path = Path(campaign.stdout.strip())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        campaign.process.terminate()
        campaign.end(143)
        assert not path.parent.exists()
