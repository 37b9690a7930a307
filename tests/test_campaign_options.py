"""The options of ``electctl campaign``: hooks, run once, --keep, reports; and the examples."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from electctl.cli import campaign as campaign_cli
from electctl.cli import check, checkpoint
from electctl.lab.cluster import make_cluster
from tests.campaigns import Campaign, validate
from tests.processes import Electctl, wait_for

#: Prints "ready", then waits for a signal that ends it.
READY = ("sh", "-c", "echo ready; exec sleep 60")
#: Prints "ready", ends with 5 when told to stop.
POLITE = ("sh", "-c", "trap 'exit 5' TERM INT; echo ready; while :; do sleep 0.05; done")

SCRIPTS = ("report.sh", "serve.sh", "cron-job.sh", "take-ip.sh", "drop-ip.sh")
#: In an order in which each finds what it needs.
EXAMPLES = tuple(
    line
    for text in (
        campaign_cli.EXAMPLES,
        check.EXAMPLES,
        checkpoint.SET_EXAMPLES,
        checkpoint.GET_EXAMPLES,
    )
    for line in text.strip().splitlines()
    if line.startswith("electctl campaign")
)
#: Those that ask the store who leads, from outside.
OUTSIDE = tuple(
    line for line in check.EXAMPLES.strip().splitlines() if line.startswith("electctl check")
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
        campaign = start("--min-hold", "5s", command=("true",))
        campaign.event("command_gone")
        other = start("--no-wait", "-E", "0", command=("echo", "ran"))
        assert other.end(0)["outcome"] == "not_elected"
        campaign.end(0)
        elected, released = campaign.event("elected"), campaign.event("released")
        assert released["boottime_ns"] - elected["boottime_ns"] >= 5_000_000_000

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
        assert done.stderr == (
            "electctl: nope: command not found\nhint: is it installed on this host, and in PATH?\n"
        )

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


class TestExamples:
    """Every line under "Examples" in the help of campaign, check and checkpoint."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where the scripts of the examples are."""
        home = tmp_path_factory.mktemp("examples")
        for name in SCRIPTS:
            (home / name).write_text("#!/bin/sh\necho ran\n")
            (home / name).chmod(0o755)
        return home

    @pytest.mark.parametrize("line", EXAMPLES)
    def test_runs(self, electctl: Electctl, redis_url: str, folder: Path, line: str) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            env={**electctl.env, "ELECTCTL_BACKEND": redis_url},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        goes_on = any(word in line for word in ("--keep", "--min-hold", "--on-elected"))
        with process:
            assert process.stdout is not None
            first = process.stdout.readline() if "checkpoint set" not in line else "nothing"
            if goes_on:
                process.terminate()
            code = process.wait(20)
        assert first, line
        # The command may not have ended when it is told to stop.
        assert code in ((0, 143) if goes_on else (0,)), line

    @pytest.mark.parametrize("line", OUTSIDE)
    def test_asks_from_outside(self, electctl: Electctl, redis_url: str, line: str) -> None:
        leader = Campaign(electctl, redis_url, "nightly", "--id", "host-a")
        leader.event("elected")
        try:
            asked = line.replace("etcd://127.0.0.1:2379", redis_url)
            code = electctl.run(
                *shlex.split(asked.replace("--least-token 42", "--least-token 1"))[1:],
                env={"ELECTCTL_BACKEND": redis_url},
            ).returncode
        finally:
            leader.process.terminate()
            leader.end(0)

        assert code == 0, line
