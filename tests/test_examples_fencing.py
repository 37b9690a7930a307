"""The examples in which a stale leader writes too late, and is refused where it writes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.lab.cluster import make_cluster
from electctl.lab.server import find_program, tree
from tests.examples import Example, send
from tests.postgresql import PostgresCluster
from tests.processes import Electctl

TTL = ("--ttl", "3s")


@pytest.fixture(scope="module")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store whose tokens never repeat, as these examples ask for."""
    with make_cluster("etcd", tmp_path_factory.mktemp("lab") / "etcd", 1) as cluster:
        yield cluster.url


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    with PostgresCluster(tmp_path_factory.mktemp("lab") / "postgresql") as cluster:
        yield cluster


class Stale:
    """A leader that is paused with its guardian, as on a paused machine, until it is stale.

    ``resume`` lets its command go on, but neither electctl nor the guardian, which would kill it.
    """

    def __init__(self, example: Example, campaign: subprocess.Popen[str]) -> None:
        self._example = example
        self._campaign = campaign
        self._paused = tree(campaign.pid)
        for pid in self._paused:
            send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        command = [pid for pid in self._paused[1:] if not self._is_helper(pid)]
        assert len(command) == len(self._paused) - 3
        for pid in command:
            send(pid, signal.SIGCONT)

    @staticmethod
    def _is_helper(pid: int) -> bool:
        return Path(f"/proc/{pid}/comm").read_text() in ("leadguard\n", "leadrelease\n")

    def ends_as_lost(self) -> None:
        """Let the others go on too; the campaign finds out that it has lost."""
        for pid in self._paused:
            send(pid, signal.SIGCONT)
        self._example.ends(self._campaign, 79)


class TestPostgreSQL:
    def test_a_stale_leader_cannot_write_what_a_new_one_has_written(
        self, electctl: Electctl, etcd_url: str, database: PostgresCluster
    ) -> None:
        psql = find_program("psql", "postgresql-client")
        with Example(electctl, "postgresql", etcd_url) as example:
            example.env |= database.environment
            example.run(psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "fence.sql")
            gate = example.home / "gate"
            os.mkfifo(gate)
            late = f"./write.sh 1; echo written; read go <{gate}; ./write.sh 1000"
            campaign = ("electctl", "campaign", "bank", *TTL, "--")
            old = example.start(*campaign, "sh", "-c", late)
            example.says(old, "written")
            stale = Stale(example, old)
            # Elected when the lease of the first has run out. One token may write many times.
            example.run(*campaign, "sh", "-ec", "./write.sh 40; ./write.sh 2")
            stale.resume()
            gate.write_text("go\n")
            said = example.says(old, "refused: ")
            stale.ends_as_lost()

            found = re.search(r"token (\d+) is stale, (\d+) has written", said)
            assert found is not None
            assert int(found[1]) < int(found[2])
            query = "SELECT balance, by_token FROM account"
            shown = example.run(psql, "-X", "-q", "-A", "-t", "-c", query)
            assert shown.strip() == f"{1 + 40 + 2}|{found[2]}"

    def test_what_is_no_number_is_not_written_but_reported(
        self, electctl: Electctl, redis_url: str, database: PostgresCluster
    ) -> None:
        with Example(electctl, "postgresql", redis_url) as example:
            example.env |= database.environment | {"ELECTCTL_ELECTION": "bank"}
            injected = "0 WHERE false; DROP TABLE account; --"
            for amount, token in (("1", injected), (injected, str(2**62))):
                example.env["ELECTCTL_TOKEN"] = token
                said = example.run("./write.sh", amount, code=3)
                assert "invalid input syntax" in said
            example.env["ELECTCTL_TOKEN"] = ""
            assert "run it under electctl campaign" in example.run("./write.sh", "1", code=2)


class TestUpload:
    def store(self, example: Example) -> subprocess.Popen[str]:
        """A store that runs, and is known to what the example starts."""
        store = example.start(sys.executable, "store.py", "0")
        example.env["STORE"] = example.says(store, "http://").splitlines()[0]
        return store

    def content(self, example: Example, name: str) -> str:
        code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
        url = f"{example.env['STORE']}/{name}"
        return example.run(sys.executable, "-c", code, url).strip()

    def test_an_upload_that_was_begun_by_a_stale_leader_is_refused(
        self, electctl: Electctl, etcd_url: str
    ) -> None:
        with Example(electctl, "fenced-upload", etcd_url) as example:
            store = self.store(example)
            campaign = ("electctl", "campaign", "backup", *TTL, "--")
            upload = (*campaign, sys.executable, "upload.py", "nightly.tar")
            old = example.start(*upload, stdin=subprocess.PIPE)
            example.says(store, "HEAD /nightly.tar 404")  # it has looked: there is nothing yet
            stale = Stale(example, old)
            new = example.start(*upload, stdin=subprocess.PIPE)
            self.feed(new, "the new leader's")
            example.ends(new, 0)
            stale.resume()
            self.feed(old, "the stale leader's")
            said = example.says(old, "refused: ")
            stale.ends_as_lost()

            assert re.search(r"token \d+ is stale, \d+ has uploaded", said)
            assert "PUT /nightly.tar 412" in example.said(store)
            assert self.content(example, "nightly.tar") == "the new leader's"

    def feed(self, process: subprocess.Popen[str], text: str) -> None:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()

    def test_of_many_at_once_the_highest_token_stays(
        self, electctl: Electctl, redis_url: str
    ) -> None:
        with Example(electctl, "fenced-upload", redis_url) as example:
            store = self.store(example)
            tokens = random.sample(range(1, 100), 8)
            started = []
            for token in tokens:
                env = {**example.env, "ELECTCTL_TOKEN": str(token)}
                process = example.start(
                    *(sys.executable, "upload.py", "shared"), env=env, stdin=subprocess.PIPE
                )
                started.append((token, process))
            for token, process in started:
                self.feed(process, f"from {token}")
            for token, process in started:
                assert process.wait() in ({0} if token == max(tokens) else {0, 79})
            assert self.content(example, "shared") == f"from {max(tokens)}"
            log = example.said(store)
            stored = [int(token) for token in re.findall(r"PUT /shared 20[01] token (\d+)", log)]
            assert stored == sorted(stored)
