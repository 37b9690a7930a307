"""The examples in which one takes over from another: nothing lost, never two, told to the world."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from electctl.lab.server import tree
from tests.examples import Example, crash, lines, send
from tests.processes import Electctl, wait_for

TTL = "2s"


class TestCheckpointWorker:
    def test_each_leader_resumes_where_the_last_one_stopped(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        with Example(electctl, "checkpoint-worker", redis_url) as example:
            example.env["TTL"] = TTL
            log = example.home / "done.log"
            workers = [
                example.start("./worker.sh", "orders.txt", "done.log", cwd=example.home)
                for _ in range(3)
            ]
            for _ in range(2):
                leader = self.working(example, workers)
                self.more(log, 3)
                leader.kill()
                workers.remove(leader)
            (last,) = workers
            assert "all 20 are done" in example.ends(last, 0)
            done = [line.split() for line in lines(log)]
            numbers = [int(number) for number, _ in done]
            assert sorted(set(numbers)) == list(range(1, 21))
            assert all(order == f"order-{number}" for number, order in done)
            # Twice only what was not marked yet when its leader was killed, and only at a resume.
            steps = [later - earlier for earlier, later in pairwise(numbers)]
            assert set(steps) <= {0, 1}
            assert steps.count(0) <= 2

    def working(
        self, example: Example, workers: list[subprocess.Popen[str]]
    ) -> subprocess.Popen[str]:
        """The one that has begun to work."""
        found = wait_for(
            lambda: [one for one in workers if "resumes after" in example.said(one)],
            what="one resumes",
        )
        assert len(found) == 1
        return found[0]

    def more(self, log: Path, count: int) -> None:
        enough = len(lines(log)) + count
        wait_for(lambda: len(lines(log)) >= enough, what="work")


class TestBlueGreen:
    def test_the_other_slot_is_promoted_and_there_are_never_two(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        with Example(electctl, "blue-green", redis_url) as example:
            example.env["TTL"] = TTL
            blue = example.start("./slot.sh", "blue")
            self.becomes(example, "blue", 1)
            green = example.start("./slot.sh", "green")
            assert self.healthy(example) == ["blue"]

            # electctl alone is killed: its guardian sees to the demotion before green is promoted.
            blue.kill()
            self.becomes(example, "green", 1)
            assert self.healthy(example) == ["green"]
            blue = example.start("./slot.sh", "blue")

            # All of green is killed at once, as if its machine had lost power: nothing demotes it,
            # and yet its health check says no at once.
            crash(green)
            assert self.healthy(example) in ([], ["blue"])
            self.becomes(example, "blue", 2)
            assert self.healthy(example) == ["blue"]
            blue.terminate()
            example.ends(blue, 0)
            assert self.healthy(example) == []

            history = [line.split() for line in lines(example.home / "state" / "history")]
            assert [" ".join(line[:2]) for line in history] == [
                "blue standby",
                "blue primary",
                "green standby",
                "blue standby",  # by the guardian of the killed one
                "green primary",
                "blue standby",  # started again
                "blue primary",
                "blue standby",  # told to stop
            ]
            tokens = [int(line[2]) for line in history if line[1] == "primary"]
            assert tokens == sorted(set(tokens))

    def becomes(self, example: Example, slot: str, times: int) -> None:
        history = example.home / "state" / "history"
        wait_for(
            lambda: sum(line.startswith(f"{slot} primary") for line in lines(history)) == times,
            what=f"{slot} is promoted",
        )

    def healthy(self, example: Example) -> list[str]:
        found = []
        for slot in ("blue", "green"):
            check = example.start("./health.sh", slot)
            if check.wait() == 0:
                found.append(slot)
        return found


class TestNotifier:
    def test_each_change_of_leader_is_told_once(self, electctl: Electctl, redis_url: str) -> None:
        with Example(electctl, "notifier", redis_url) as example:
            # A program that gets the sentence as one argument, and appends it to a file.
            told = example.home / "told"
            tell = example.home / "tell.sh"
            # The second message cannot be delivered.
            tell.write_text(f'#!/bin/sh\necho "$#: $1" >>{told}; case $1 in *one*) exit 1; esac\n')
            tell.chmod(0o755)
            text = (example.home / "notify.py").read_text()
            (pipe,) = re.findall("^ +(electctl watch .*)$", text, re.MULTILINE)
            pipe = pipe.replace("NOTIFY='logger -t election'", f"NOTIFY={tell}")
            watching = example.start("sh", "-c", pipe)
            wait_for(lambda: lines(told) == ["1: billing: nobody leads"], what="vacant")
            first = example.start("electctl", "campaign", "billing", "--id", "one", "--ttl", TTL)
            wait_for(lambda: len(lines(told)) == 2, what="the first leader")
            second = example.start("electctl", "campaign", "billing", "--id", "two", "--ttl", TTL)
            example.says(second, "campaigning")
            first.kill()
            wait_for(lambda: "two" in lines(told)[-1], what="the second leader")
            second.terminate()
            example.ends(second, 0)
            wait_for(lambda: "nobody" in lines(told)[-1], what="vacant again")
            assert watching.poll() is None
            assert example.said(watching) == "notify.py: not delivered: billing: one leads\n"
            leaders = [line.removeprefix("1: billing: ") for line in lines(told)]
            # Between the first, which ran out, and the second the watcher may have looked or not.
            assert [leader for leader in leaders if leader != "nobody leads"] == [
                "one leads",
                "two leads",
            ]
            for pid in tree(watching.pid):
                send(pid, signal.SIGTERM)


class TestPython:
    def test_the_second_counts_on_from_where_the_first_was_killed(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        with Example(electctl, "python", redis_url) as example:
            code = (example.home / "leader.py").read_text().rpartition('"""')[2]
            assert len([line for line in code.splitlines() if line.strip()]) <= 20
            first = example.start(sys.executable, "leader.py")
            example.says(first, "leads from 0")
            second = example.start(sys.executable, "leader.py")
            counted = wait_for(lambda: self.count(electctl, redis_url, above=2))
            first.kill()
            said = example.says(second, "leads from")
            found = re.search(r"token (\d+) leads from (\d+)", said)
            assert found is not None
            assert int(found[1]) == 2
            assert int(found[2]) >= counted
            electctl.run("evict", "counter", "-b", redis_url, check=0)
            example.says(second, "token 3")  # it gave the leadership back, and campaigned again
            second.send_signal(signal.SIGINT)
            second.wait()
            assert electctl.run("holders", "counter", "-b", redis_url).stdout.count("nobody") == 1

    def count(self, electctl: Electctl, url: str, *, above: int) -> int:
        done = electctl.run("checkpoint", "get", "counter", "-b", url)
        return int(done.stdout) if done.returncode == 0 and int(done.stdout) > above else 0
