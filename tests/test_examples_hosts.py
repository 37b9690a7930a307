"""The examples for cron and systemd, run as these run them, against a real Redis."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from electctl.base.duration import parse_duration
from electctl.campaign.stopping import STUCK_LIMIT
from electctl.campaign.term import ANSWER_LIMIT
from electctl.errors import CannotRun, CommandNotFound, ConfigError, Refused, UsageError
from electctl.lab.server import find_program
from tests.examples import EXAMPLES, Example, lines
from tests.processes import Electctl, wait_for

BIN = str(Path(sys.executable).parent)


class TestCron:
    SETTING = re.compile(r"([A-Z_]+)=(.*)")

    def firing(self, example: Example, host: str) -> subprocess.Popen[str]:
        """What cron does when the time has come: see crontab(5)."""
        home = example.home.parent / host
        env = {"HOME": str(home), "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        (home / "nightly").mkdir(parents=True, exist_ok=True)
        for name in ("crontab", "report.sh"):
            target = home / "nightly" / name
            target.write_text((EXAMPLES / "cron" / name).read_text())
            target.chmod(0o755)
        job = ""
        for line in lines(home / "nightly" / "crontab"):
            if setting := self.SETTING.fullmatch(line):
                env[setting[1]] = setting[2]
            elif line and not line.startswith("#"):
                assert not job
                job = line.split(maxsplit=5)[5]
                assert "%" not in job
        assert env["ELECTCTL_BACKEND"].startswith("redis://")
        env["ELECTCTL_BACKEND"] = example.env["ELECTCTL_BACKEND"]
        env["PATH"] = f"{BIN}:{env['PATH']}"
        return example.start(env["SHELL"], "-c", job, env=env, cwd=home)

    def test_three_hosts_fire_and_one_runs_and_the_next_night_one_runs_again(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        with Example(electctl, "cron", redis_url) as example:
            assert self.reports_after_a_night(example) == 1
            assert self.reports_after_a_night(example) == 2

    def reports_after_a_night(self, example: Example) -> int:
        def reports() -> int:
            logs = example.home.parent.glob("host-*/nightly/reports.log")
            return sum(len(lines(log)) for log in logs)

        before = reports()
        fired = [self.firing(example, f"host-{name}") for name in "abc"]
        wait_for(lambda: reports() > before, what="a report")
        wait_for(lambda: [one.poll() is None for one in fired].count(True) == 1, what="one holds")
        (leader,) = (one for one in fired if one.poll() is None)
        # It holds the leadership for 30 s; this ends that early.
        os.killpg(leader.pid, signal.SIGTERM)
        leader.wait()
        for one in fired:
            assert example.said(one) == ""  # cron sends mail about anything else
            assert one is leader or one.returncode == 0
        return reports()


class TestSystemd:
    UNIT = "electctl-worker.service"

    def unit(self, folder: Path) -> dict[str, list[str]]:
        """What the unit says, each key with all its values."""
        said: dict[str, list[str]] = {}
        for line in lines(folder / self.UNIT):
            key, found, value = line.partition("=")
            if found and not line.startswith("#"):
                said.setdefault(key, []).append(value)
        return said

    def install(self, example: Example) -> None:
        """Put the places of this machine into the unit."""
        unit = example.home / self.UNIT
        text = unit.read_text()
        for place, real in (
            ("/usr/local/bin/electctl-worker", f"{example.home}/worker.sh"),
            ("/usr/local/bin/electctl", f"{BIN}/electctl"),
            ("/etc/electctl", str(example.home)),
        ):
            assert place in text
            text = text.replace(place, real)
        unit.write_text(text)

    def test_systemd_finds_nothing_wrong_with_the_unit(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        analyze = find_program("systemd-analyze", "systemd")
        with Example(electctl, "systemd", redis_url) as example:
            self.install(example)
            assert example.run(analyze, "verify", f"./{self.UNIT}") == ""
            broken = example.home / "broken.service"
            broken.write_text((example.home / self.UNIT).read_text().replace("KillMode", "KilMode"))
            assert "KilMode" in example.run(analyze, "verify", "./broken.service")

    def test_its_times_and_exit_codes_are_those_of_electctl(self) -> None:
        unit = self.unit(EXAMPLES / "systemd")
        (start,) = unit["ExecStart"]
        found = re.search(r"--grace (\S+)", start)
        assert found is not None
        stop = parse_duration(unit["TimeoutStopSec"][0])
        assert stop >= parse_duration(found[1]) + STUCK_LIMIT + ANSWER_LIMIT
        assert unit["KillMode"] == ["process"], "the guardian lives on if electctl is killed"
        assert unit["SuccessExitStatus"] == [str(128 + signal.SIGTERM)]
        hopeless = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
        errors = (UsageError, Refused, ConfigError, CannotRun, CommandNotFound)
        assert hopeless == {error.exit_code for error in errors}

    def test_the_second_host_works_when_the_first_is_stopped(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        setpriv = find_program("setpriv", "util-linux")
        with Example(electctl, "systemd", redis_url) as example:
            self.install(example)
            unit = self.unit(example.home)
            # systemd starts a service with little in its environment; see systemd.exec(5).
            env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
            for line in lines(Path(unit["EnvironmentFile"][0])):
                if line and not line.startswith("#"):
                    name, _, value = line.partition("=")
                    env[name] = value
            assert env["ELECTCTL_BACKEND"].startswith("redis://")
            env["ELECTCTL_BACKEND"] = redis_url
            env["PATH"] += f":{BIN}"
            service = [setpriv, "--no-new-privs", *unit["ExecStart"][0].split()]
            first = example.start(*service, env=env)
            example.says(first, "worker: begins")
            second = example.start(*service, env=env)
            first.terminate()  # to electctl alone, as KillMode=process says
            assert "worker: told to stop" in example.ends(first, 0)
            example.says(second, "worker: begins")
            second.terminate()
            example.ends(second, 0)
