"""``electctl campaign`` as a real process against a real Redis: every exit code and option."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from electctl.clock import now
from electctl.lab.cluster import make_cluster
from electctl.lab.proxy import Proxy
from tests.campaigns import Campaign, validate
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
        campaign.process.terminate()
        campaign.process.send_signal(signal.SIGHUP)
        campaign.end(137)
        assert now() - began < 10

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

    def test_eviction(
        self, start: Start, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        from electctl.elector import connect

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


class TestHooks:
    def test_on_elected_runs_before_the_command_and_on_lost_after(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start(
            "--on-elected",
            'echo "hook $ELECTCTL_REASON $ELECTCTL_TOKEN"',
            "--on-lost",
            'echo "hook $ELECTCTL_REASON $ELECTCTL_TOKEN"',
            command=POLITE,
        )
        campaign.printed("ready")
        server.delete(election)
        token = campaign.end(79)["token"]
        lines = campaign.stdout.splitlines()
        assert lines == [f"hook elected {token}", "ready", f"hook deleted {token}"]

    def test_failing_on_elected_is_a_warning(self, start: Start) -> None:
        campaign = start("--on-elected", "exit 3", command=("echo", "ran"))
        campaign.end(0)
        assert campaign.stdout == "ran\n"
        assert "exit code 3" in campaign.event("warning")["message"]

    def test_on_lost_is_not_for_a_release(self, start: Start) -> None:
        campaign = start("--on-lost", "echo hook", command=("true",))
        campaign.end(0)
        assert campaign.stdout == ""

    def test_hooks_alone(self, start: Start) -> None:
        campaign = start("--on-elected", "echo up")
        campaign.printed("up")
        campaign.process.terminate()
        campaign.end(0)


class TestRunOnce:
    def test_min_hold_keeps_others_out_after_the_command(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start("--min-hold", "1s", command=("true",))
        campaign.event("command_gone")
        other = start("--no-wait", "-E", "0", command=("echo", "ran"))
        assert other.end(0)["outcome"] == "not_elected"
        campaign.end(0)
        elected, released = campaign.event("elected"), campaign.event("released")
        assert released["boottime_ns"] - elected["boottime_ns"] >= 1_000_000_000

    def test_min_hold_can_be_interrupted(self, start: Start) -> None:
        campaign = start("--min-hold", "60s", command=("sh", "-c", "exit 6"))
        campaign.event("command_gone")
        campaign.process.terminate()
        assert campaign.end(6)["outcome"] == "completed"

    def test_once_runs_until_it_succeeds_and_then_no_more(self, start: Start) -> None:
        start("--once", "monday", command=("false",)).end(1)
        first = start("--once", "monday", command=("echo", "ran"))
        first.end(0)
        assert first.stdout == "ran\n"
        again = start("--once", "monday", command=("echo", "ran"))
        result = again.end(0)
        assert again.stdout == ""
        assert (result["outcome"], result["command_exit"]) == ("completed", None)
        assert "was done already" in again.stderr
        other = start("--once", "tuesday", command=("echo", "ran"))
        other.end(0)
        assert other.stdout == "ran\n"

    def test_once_with_many_hosts_at_once(self, start: Start) -> None:
        hosts = [start("--once", "monday", command=("echo", "ran")) for _ in range(4)]
        for host in hosts:
            host.end(0)
        assert "".join(host.stdout for host in hosts) == "ran\n"

    def test_stopped_command_earns_no_mark(self, start: Start) -> None:
        script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        campaign = start("--once", "monday", command=("sh", "-c", script))
        campaign.printed("ready")
        campaign.process.terminate()
        assert campaign.end(0)["outcome"] == "interrupted"
        again = start("--once", "monday", command=("echo", "ran"))
        again.end(0)
        assert again.stdout == "ran\n"

    def test_mark_that_cannot_be_written_because_leadership_is_lost(
        self, start: Start, tmp_path: Path, server: redis.Redis, election: str
    ) -> None:
        script = 'echo ready; while ! test -e "$0"; do sleep 0.02; done'
        campaign = start(
            "--once", "monday", ttl="30s", command=("sh", "-c", script, str(tmp_path / "go"))
        )
        campaign.printed("ready")
        server.delete(election)
        (tmp_path / "go").touch()
        result = campaign.end(79)
        assert (result["outcome"], result["command_exit"]) == ("lost", 0)
        assert "it will run again" in campaign.stderr


class TestKeep:
    def test_campaigns_again_after_the_command_and_ends_with_its_last_code(
        self, start: Start
    ) -> None:
        campaign = start("--keep", "--max-terms", "2", command=("sh", "-c", "exit 3"))
        result = campaign.end(3)
        assert result["terms"] == 2
        first, second = campaign.event("elected"), campaign.event("elected", 1)
        assert second["token"] > first["token"]
        assert campaign.event("again")["pause"] >= 0.2

    def test_campaigns_again_after_a_loss_until_told_to_stop(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start("--keep", command=POLITE)
        campaign.event("command_started")
        server.delete(election)
        campaign.event("command_started", 1)
        wait_for(lambda: campaign.stdout.count("ready") == 2)
        campaign.process.terminate()
        result = campaign.end(5)
        assert (result["outcome"], result["terms"]) == ("interrupted", 2)

    def test_survives_an_outage_once_it_has_led(self, start: Start, tmp_path: Path) -> None:
        with make_cluster("redis", tmp_path / "own") as cluster:
            campaign = start("--keep", url=cluster.url, command=READY)
            campaign.event("command_started")
            cluster.servers[0].kill()
            campaign.event("lost")
            campaign.event("again")
            cluster.start()
            campaign.event("command_started", 1)
            campaign.process.terminate()
            campaign.end(143)

    def test_told_to_stop_between_two_terms(self, start: Start) -> None:
        campaign = start("--keep", command=("true",))
        campaign.event("again", 3)
        campaign.process.terminate()
        assert campaign.process.wait(20) in (0, 143)

    def test_ends_when_the_command_cannot_be_run(self, start: Start) -> None:
        assert start("--keep", command=("no-such-program",)).end(127)["terms"] == 1


class TestReports:
    def test_json_events_on_stderr(self, electctl: Electctl, redis_url: str, election: str) -> None:
        done = electctl.run(
            "campaign", election, "-b", redis_url, "--json", "--id", "w", "--", "echo", "out"
        )
        events = [json.loads(line) for line in done.stderr.splitlines()]
        assert done.stdout == "out\n"
        assert [event["event"] for event in events][:2] == ["campaigning", "elected"]
        assert events[0]["holder"] is None
        assert {event["holder"] for event in events[1:-1]} == {"w"}
        assert events[-1]["outcome"] == "completed"

    def test_events_to_a_file_descriptor_that_the_command_does_not_get(
        self, electctl: Electctl, redis_url: str, election: str, tmp_path: Path
    ) -> None:
        with (tmp_path / "events").open("w") as sink:
            campaign = electctl.popen(
                "campaign",
                election,
                "-b",
                redis_url,
                "--events",
                f"fd:{sink.fileno()}",
                "--",
                "sh",
                "-c",
                f"! test -e /proc/self/fd/{sink.fileno()}",
                pass_fds=(sink.fileno(),),
            )
            assert campaign.wait(20) == 0
        names = [
            json.loads(line)["event"] for line in (tmp_path / "events").read_text().splitlines()
        ]
        assert names[0] == "campaigning"
        assert names[-1] == "finished"

    def test_reader_that_does_not_read_delays_no_deadline(
        self, electctl: Electctl, redis_url: str, election: str, server: redis.Redis
    ) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 65536)
        os.set_blocking(writing, True)
        campaign = electctl.popen(
            "campaign",
            election,
            "-b",
            redis_url,
            "--ttl",
            "1500ms",
            "-v",
            "--",
            "sleep",
            "2",
            stderr=writing,
        )
        assert campaign.wait(20) == 0
        os.close(reading)
        os.close(writing)

    def test_result_of_an_earlier_campaign_is_not_left_to_mislead(
        self, electctl: Electctl, redis_url: str, election: str, tmp_path: Path
    ) -> None:
        target = tmp_path / "result"
        target.write_text("old")
        campaign = electctl.popen(
            "campaign", election, "-b", redis_url, "--result", str(target), "--", "sleep", "60"
        )
        wait_for(lambda: not target.exists())
        campaign.kill()
        campaign.wait(20)
        assert list(tmp_path.glob("*result*")) == []

    def test_result_to_a_device_is_written_through(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        argv = ("campaign", election, "-b", redis_url, "-q", "--result", "/dev/stdout")
        done = electctl.run(*argv, "--", "true", check=0)
        validate("result", json.loads(done.stdout))

    def test_result_to_a_redirected_stdout_keeps_what_the_command_printed(
        self, electctl: Electctl, redis_url: str, election: str, tmp_path: Path
    ) -> None:
        with (tmp_path / "out").open("w") as out:
            argv = ("campaign", election, "-b", redis_url, "--result", "/dev/stdout")
            assert electctl.popen(*argv, "--", "echo", "mine", stdout=out).wait(20) == 0
        mine, result = (tmp_path / "out").read_text().splitlines()
        assert mine == "mine"
        validate("result", json.loads(result))

    def test_result_through_a_link_keeps_the_link(self, start: Start, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "target")
        (tmp_path / "target").write_text("old")
        campaign = start("--result", str(link), command=("true",), result=False)
        assert campaign.process.wait(20) == 0
        assert link.is_symlink()
        validate("result", json.loads(link.read_text()))

    def test_quiet_says_errors_only(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        done = electctl.run("campaign", election, "-b", redis_url, "-q", "--", "nope", check=127)
        assert done.stderr == "electctl: nope: command not found\n"

    def test_quiet_host_that_need_not_run_says_nothing(
        self, electctl: Electctl, redis_url: str, election: str, server: redis.Redis
    ) -> None:
        server.set(election, "a-foreign-tool", px=60_000)
        argv = ("campaign", election, "-b", redis_url, "-q", "--no-wait", "-E", "0")
        assert electctl.run(*argv, "--", "true", check=0).stderr == ""

    def test_quiet_tells_a_loss_all_the_same(
        self, start: Start, server: redis.Redis, election: str
    ) -> None:
        campaign = start("-q", command=READY)
        campaign.printed("ready")
        server.delete(election)
        campaign.end(79)
        assert campaign.stderr.startswith("electctl: the store no longer holds our grant")

    def test_verbose_tells_renewals(self, start: Start) -> None:
        campaign = start("-v", command=("sleep", "1.5"))
        campaign.end(0)
        assert "the lease was renewed" in campaign.stderr
        assert "renewed" in campaign.names()
