"""watch, holders and the record, against a real Redis, through outages."""

from __future__ import annotations

import json
import os
import pty
import queue
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import electctl as package
from electctl.base.clock import boot_id, now, now_ns
from electctl.contract.url import BackendURL
from electctl.core.elector import connect
from electctl.errors import Unreachable
from electctl.lab.proxy import Proxy
from electctl.record import history
from electctl.record.watch import Target, Watcher
from tests.processes import Electctl, wait_for

SCHEMAS = Path(package.__file__).parent / "schemas"
NOWHERE = "redis://127.0.0.1:1/0"


def valid(obj: dict[str, Any], schema: str) -> dict[str, Any]:
    jsonschema.validate(
        obj,
        json.loads((SCHEMAS / f"{schema}.schema.json").read_text()),
        cls=jsonschema.Draft202012Validator,
    )
    return obj


@contextmanager
def leading(url: str, election: str, name: str) -> Iterator[int | None]:
    """Lead for as long as the block runs."""
    with connect(url) as elector, elector.campaign(election, name, ttl=5, wait=10) as term:
        yield term.token


class Lines:
    """The JSON lines of a running watch, one at a time, each checked against its schema."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def next(self) -> dict[str, Any]:
        return valid(json.loads(self._lines.get(timeout=20)), "watch-event")

    def until(self, event: str) -> dict[str, Any]:
        while (obj := self.next())["event"] != event:
            pass
        return obj


@pytest.fixture
def watching(electctl: Electctl) -> Callable[..., Lines]:
    """Start ``electctl watch --json`` with more arguments."""

    def start(*args: str | Path) -> Lines:
        return Lines(electctl.popen("watch", "--json", *args))

    return start


# What is seen ------------------------------------------------------------------------------------


def test_the_present_then_every_change(
    watching: Callable[..., Lines], redis_url: str, election: str
) -> None:
    lines = watching(election, "-b", redis_url)
    first = lines.next()
    assert (first["event"], first["election"], first["backend"]) == ("vacant", election, "redis")
    assert first["url"] == redis_url
    tokens = []
    for name in ("worker-1", "wörker\n2"):
        with leading(redis_url, election, name) as token:
            seen = lines.until("holder")
            assert (seen["holder"], seen["token"]) == (name, token)
            assert 0 < seen["expires_in"] <= seen["ttl"] == 5
            tokens.append(seen["token"])
        lines.until("vacant")
    assert tokens == sorted(set(tokens))


def test_the_present_is_shown_first_also_when_somebody_leads(
    watching: Callable[..., Lines], redis_url: str, election: str
) -> None:
    with leading(redis_url, election, "w"):
        seen = watching(election, "-b", redis_url).next()
        assert (seen["event"], seen["holder"]) == ("holder", "w")


def test_several_elections_on_several_backends(
    watching: Callable[..., Lines], redis_url: str, election: str
) -> None:
    other_url = redis_url.rpartition("/")[0] + "/9"
    names = [election, f"{election}-b"]
    lines = watching(*names, "-b", redis_url, "-b", other_url)
    seen = {(obj["election"], obj["url"]) for obj in (lines.next() for _ in range(4))}
    assert seen == {(name, url) for name in names for url in (redis_url, other_url)}
    with leading(other_url, names[1], "w"):
        obj = lines.until("holder")
        assert (obj["election"], obj["url"], obj["holder"]) == (names[1], other_url, "w")


def test_who_waits_is_shown(
    electctl: Electctl, watching: Callable[..., Lines], redis_url: str, election: str
) -> None:
    with leading(redis_url, election, "first"):
        lines = watching(election, "-b", redis_url)
        assert lines.next()["waiting"] == []
        electctl.popen("campaign", election, "-b", redis_url, "--id", "second", "--ttl", "5s")
        obj = lines.until("waiting")
        assert (obj["holder"], obj["waiting"]) == ("first", ["second"])
        table = electctl.run("holders", election, "-b", redis_url, check=0).stdout
        assert "1: second" in table


def test_an_outage_is_survived_and_told(
    watching: Callable[..., Lines], proxy: Proxy, proxied_url: str, redis_url: str, election: str
) -> None:
    lines = watching(election, "-b", proxied_url)
    lines.until("vacant")
    proxy.cut()
    gone = lines.until("unreachable")
    assert gone["cause"]
    assert gone["holder"] is None
    with leading(redis_url, election, "meanwhile") as token:
        proxy.forward()
        assert lines.until("recovered")["holder"] == "meanwhile"
        seen = lines.next()
        assert (seen["event"], seen["holder"], seen["token"]) == ("holder", "meanwhile", token)


def test_one_backend_that_answers_is_contact_enough(
    watching: Callable[..., Lines], redis_url: str, election: str
) -> None:
    lines = watching(election, "-b", redis_url, "-b", NOWHERE, "--for", "1s")
    assert {lines.next()["event"], lines.next()["event"]} == {"vacant", "unreachable"}
    assert lines.process.wait(20) == 0


# How it ends -------------------------------------------------------------------------------------


def test_no_contact_is_69_within_the_time_given(electctl: Electctl) -> None:
    began = now()
    done = electctl.run("watch", "a", "-b", NOWHERE, "--for", "1s", check=69)
    assert now() - began < 8
    assert "no contact with any backend" in done.stderr
    assert "hint: " in done.stderr


def test_no_contact_with_a_server_that_swallows_everything(
    electctl: Electctl, proxy: Proxy, proxied_url: str
) -> None:
    proxy.swallow()
    began = now()
    electctl.run("watch", "a", "-b", proxied_url, "--for", "2s", check=69)
    assert now() - began < 8


@pytest.mark.slow
def test_no_contact_is_69_after_ten_seconds_without_for(electctl: Electctl) -> None:
    began = now()
    electctl.run("watch", "a", "-b", NOWHERE, check=69)
    assert 9.5 < now() - began < 18


def test_for_ends_with_0(electctl: Electctl, redis_url: str, election: str) -> None:
    done = electctl.run("watch", election, "-b", redis_url, "--for", "500ms", check=0)
    assert done.stdout.endswith(f"{election}: nobody leads\n")
    assert done.stderr == ""


def test_until_holder(electctl: Electctl, redis_url: str, election: str) -> None:
    args = ["watch", election, "-b", redis_url, "--until-holder", "w"]
    done = electctl.run(*args, "--for", "500ms", check=1)
    assert "'w' was not seen leading within 0.5 s" in done.stderr
    process = electctl.popen(*args)
    assert process.stdout is not None
    assert "nobody leads" in process.stdout.readline()
    with leading(redis_url, election, "other"):
        assert "other leads (token " in process.stdout.readline()
    with leading(redis_url, election, "w"):
        assert process.wait(20) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_soon_and_cleanly(
    watching: Callable[..., Lines],
    redis_url: str,
    election: str,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    record = tmp_path / "r.jsonl"
    lines = watching(election, "-b", redis_url, "--record", record)
    lines.until("vacant")
    began = now()
    lines.process.send_signal(number)
    assert lines.process.wait(20) == code
    assert now() - began < 2
    assert lines.process.stderr is not None
    assert lines.process.stderr.read() == ""
    assert [entry.event for entry in history.read(record)] == ["recording", "vacant", "recorded"]


def test_wrong_credentials_are_77(electctl: Electctl, redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis://nobody:s3cret@")
    for args in (["watch", "a"], ["holders", "a"], ["evict", "a"]):
        done = electctl.run(*args, "-b", url, check=77)
        assert "s3cret" not in done.stdout + done.stderr


# For people --------------------------------------------------------------------------------------


def test_lines_name_the_backend_only_where_there_are_several(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    other = redis_url.rpartition("/")[0] + "/9"
    with leading(redis_url, election, "w"):
        one = electctl.run("watch", election, "-b", redis_url, "--for", "300ms", check=0).stdout
        two = electctl.run(
            "watch", election, "-b", redis_url, "-b", other, "--for", "300ms", check=0
        ).stdout
    assert re.fullmatch(rf"[\d:.TZ-]+  {election}: w leads \(token \d+\)\n", one)
    assert f"{election} on {redis_url}: w leads" in two
    assert f"{election} on {other}: nobody leads" in two


def test_the_live_table_on_a_terminal(electctl: Electctl, redis_url: str, election: str) -> None:
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as terminal:
        process = electctl.popen(
            "watch",
            election,
            f"{election}\x1b]0;owned\x07",
            "-b",
            redis_url,
            env={"TERM": "xterm", "COLUMNS": "120", "LINES": "20"},
            stdout=side,
        )
        os.close(side)
        seen = b""

        def shows(text: bytes) -> bool:
            nonlocal seen
            # EIO is how Linux says that the other side has closed.
            with suppress(OSError):
                while select.select([terminal], [], [], 0)[0]:
                    seen += terminal.read(4096)
            return text in seen

        wait_for(lambda: shows(b"(nobody)"))
        with leading(redis_url, election, "worker-1"):
            wait_for(lambda: shows(b"worker-1"))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert shows(b"LEADER")
        assert b"\x1b]0;" not in seen, "a name must not set the terminal's title"


# holders -----------------------------------------------------------------------------------------


def test_holders(electctl: Electctl, redis_url: str, election: str) -> None:
    other = f"{election}-vacant"
    with leading(redis_url, election, "w") as token:
        args = ["holders", election, other, "-b", redis_url]
        led, vacant = electctl.run(*args, "--json", check=0).stdout.splitlines()
        table = electctl.run(*args, check=0).stdout.splitlines()
    first, second = valid(json.loads(led), "holders"), valid(json.loads(vacant), "holders")
    assert (first["event"], first["holder"], first["token"]) == ("holder", "w", token)
    assert (second["event"], second["holder"]) == ("vacant", None)
    assert table[0].split() == ["ELECTION", "LEADER", "TOKEN", "EXPIRES", "IN", "SINCE", "WAITING"]
    assert table[1].split()[:3] == [election, "w", str(token)]
    assert table[2].split()[:2] == [other, "(nobody)"]


def test_holders_prints_what_it_can_and_ends_with_69(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    args = ["holders", election, "-b", NOWHERE, "-b", redis_url]
    done = electctl.run(*args, "--json", check=69)
    first, second = (valid(json.loads(line), "holders") for line in done.stdout.splitlines())
    assert (first["event"], first["url"]) == ("unreachable", NOWHERE)
    assert second["event"] == "vacant"
    assert "hint: " in done.stderr
    assert "(unknown)" in electctl.run(*args, check=69).stdout


def test_holders_shows_foreign_holders(electctl: Electctl, redis_url: str, election: str) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.set(election, "somebody's own lock", nx=True, px=60_000)
    done = electctl.run("holders", election, "-b", redis_url, "--json", check=0)
    obj = valid(json.loads(done.stdout), "holders")
    assert obj["event"] == "holder"
    assert obj["token"] is None
    assert 50 < obj["expires_in"] <= 60
    client.delete(election)
    client.close()


# The record --------------------------------------------------------------------------------------


def test_a_record_is_appended_and_placed_in_time(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    record = tmp_path / "r.jsonl"
    began = now_ns()
    with leading(redis_url, election, "w\udcff".replace("\udcff", "ÿ")):
        for _ in range(2):
            electctl.run(
                "watch", election, "-b", redis_url, "--for", "300ms", "--record", record, check=0
            )
    for line in record.read_text().splitlines():
        valid(json.loads(line), "record-line")
    entries = list(history.read(record))
    assert [entry.event for entry in entries] == ["recording", "holder", "recorded"] * 2
    assert len({entry.data["observer"] for entry in entries}) == 2
    times = [entry.boottime_ns for entry in entries]
    assert times == sorted(times)
    assert began < times[0]
    assert times[-1] < now_ns()
    assert {entry.boot_id for entry in entries} == {boot_id()}
    assert entries[1].holder == "wÿ"


def test_two_watches_share_one_record(
    watching: Callable[..., Lines], redis_url: str, election: str, tmp_path: Path
) -> None:
    record = tmp_path / "r.jsonl"
    both = [watching(election, "-b", redis_url, "--record", record) for _ in range(2)]
    for lines in both:
        lines.until("vacant")
    for number in range(5):
        with leading(redis_url, election, f"w{number}"):
            for lines in both:
                lines.until("holder")
    for lines in both:
        lines.process.send_signal(signal.SIGTERM)
        assert lines.process.wait(20) == 143
    seen: dict[str, list[str | None]] = {}
    for entry in history.read(record):
        if entry.event == "holder":
            seen.setdefault(entry.data["observer"], []).append(entry.holder)
    assert list(seen.values()) == [[f"w{number}" for number in range(5)]] * 2


def test_a_full_disk_ends_the_record_with_one_line(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    import resource

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    record = tmp_path / "r.jsonl"
    process = electctl.popen(
        "watch", election, "-b", redis_url, "--record", record, preexec_fn=small_files
    )
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 74
    assert stderr.startswith("electctl: ")
    assert "Traceback" not in stderr


# The stream, in process --------------------------------------------------------------------------


def test_the_watcher_says_why_there_was_no_contact() -> None:
    target = Target("a", BackendURL.parse(NOWHERE))
    with connect(NOWHERE) as elector, Watcher([(target, elector.backend)], limit=0.5) as watcher:
        first = watcher.next(5)
        assert first is not None
        assert first.change.kind == "unreachable"
        with pytest.raises(Unreachable, match=re.escape(first.change.cause)):
            watcher.next(5)


def test_nothing_new_is_none_in_time(redis_url: str, election: str) -> None:
    target = Target(election, BackendURL.parse(redis_url))
    with connect(redis_url) as elector, Watcher([(target, elector.backend)]) as watcher:
        first = watcher.next(10)
        assert first is not None
        assert first.change.kind == "vacant"
        began = now()
        assert watcher.next(0.2) is None
        assert 0.15 < now() - began < 2


def test_observe_of_the_interface_yields_changes(redis_url: str, election: str) -> None:
    with connect(redis_url) as elector:
        changes = elector.observe(election)
        assert next(changes).kind == "vacant"
        with leading(redis_url, election, "w"):
            holder = next(change for change in changes if change.kind == "holder").view.holder
            assert holder is not None
            assert holder.id == "w"
        assert next(change for change in changes if change.kind == "vacant")


def test_python_runs_it_as_a_module(redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "electctl", "holders", "a", "-b", redis_url, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert valid(json.loads(done.stdout), "holders")["event"] == "vacant"
