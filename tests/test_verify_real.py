"""verify on what real campaigns and observers of a real Redis have written."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from electctl.contract.url import BackendURL
from electctl.core.elector import connect
from electctl.record import history
from tests.campaigns import Campaign, validate
from tests.histories import SECOND, Obj, did, line, seen, write
from tests.processes import Electctl, wait_for


class Watched:
    """``electctl watch --record`` around what a test does."""

    def __init__(self, electctl: Electctl, url: str, election: str) -> None:
        self.path = electctl.home / "record.jsonl"
        self._process = electctl.popen("watch", election, "-b", url, "--record", self.path)
        self.saw("vacant")

    def saw(self, event: str, holder: str | None = None) -> None:
        """Wait until it has recorded that."""

        def found() -> bool:
            return self.path.exists() and any(
                entry.event == event and entry.holder == holder for entry in self._entries()
            )

        wait_for(found, what=f"{event} {holder} in the record")

    def _entries(self) -> list[history.Entry]:
        whole = self.path.read_bytes().rpartition(b"\n")[0] + b"\n"
        return [history.parse_line(raw + b"\n", "r") for raw in whole.splitlines() if raw]

    def end(self) -> Path:
        """Stop looking; the record."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        return self.path


def judged(electctl: Electctl, code: int, *files: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads(
        electctl.run("verify", *files, "--json", check=code).stdout
    )
    validate("verify", verdict)
    return verdict


def events(campaign: Campaign) -> Path:
    return campaign.home / "events"


def test_a_real_election_holds(electctl: Electctl, redis_url: str, election: str) -> None:
    """A command that ends, a hand-over, an eviction, a leader without a command."""
    watch = Watched(electctl, redis_url, election)
    one = Campaign(electctl, redis_url, election, "--id", "one", command=("sleep", "0.2"))
    one.event("command_started")
    two = Campaign(electctl, redis_url, election, "--id", "two", command=("sleep", "60"))
    one.end(0)
    two.event("command_started")
    three = Campaign(electctl, redis_url, election, "--id", "three")
    electctl.run("evict", election, "-b", redis_url, check=0)
    two.end(79)
    three.event("elected")
    watch.saw("holder", "three")
    three.process.send_signal(signal.SIGTERM)
    three.end(0)
    files = [watch.end(), *map(events, (one, two, three))]
    verdict = judged(electctl, 0, *files)
    assert (verdict["verdict"], verdict["elections"]) == ("holds", 1)
    text = electctl.run("verify", *files, check=0).stdout
    assert "at most one leader at a time" in text
    # Each of them is needed.
    for file in files:
        rest = [other for other in files if other is not file]
        assert judged(electctl, 3, *rest)["doubts"], file
    # And a line that is taken out is missed.
    lines = files[0].read_bytes().splitlines(keepends=True)
    files[0].write_bytes(b"".join(lines[:2] + lines[3:]))
    found = judged(electctl, 1, *files)["violation"]
    assert (found["kind"], found["file"], found["line"]) == ("line_removed", str(files[0]), 3)


@pytest.mark.parametrize("how", ["evict", "flush"])
def test_two_leaders_by_force_are_found(
    electctl: Electctl, redis_url: str, election: str, how: str
) -> None:
    """The holder is stopped, so it cannot hear; another one leads; the holder wakes and learns."""
    watch = Watched(electctl, redis_url, election)
    one = Campaign(electctl, redis_url, election, "--id", "one", command=("sleep", "60"), ttl="20s")
    one.event("command_started")
    one.process.send_signal(signal.SIGSTOP)
    if how == "evict":
        electctl.run("evict", election, "-b", redis_url, "--force", check=0)
    else:
        _flush(redis_url)
    two = Campaign(electctl, redis_url, election, "--id", "two", command=("sleep", "60"), ttl="20s")
    two.event("command_started")
    one.process.send_signal(signal.SIGCONT)
    one.end(79)
    assert one.event("lost")["reason"] == "deleted"
    two.process.send_signal(signal.SIGTERM)
    two.end(143)
    files = [watch.end(), events(one), events(two)]
    found = judged(electctl, 1, *files)["violation"]
    tokens = [one.event("elected")["token"], two.event("elected")["token"]]
    if tokens[1] > tokens[0]:
        assert (found["kind"], found["election"]) == ("two_leaders", election)
        assert found["overlap_ms"] > 0
        assert {obj["holder"] for obj in found["lines"]} == {"one", "two"}
    else:  # Redis forgot the counter too
        assert how == "flush"
        assert found["kind"] in ("token_falls", "token_repeats")


def test_a_leader_that_was_stopped_and_tells_late_is_not_accused(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    """Its guardian kept the deadline; it says so when another one has led and gone."""
    watch = Watched(electctl, redis_url, election)
    one = Campaign(electctl, redis_url, election, "--id", "one", command=("sleep", "60"))
    one.event("command_started")
    one.process.send_signal(signal.SIGSTOP)
    two = Campaign(electctl, redis_url, election, "--id", "two", command=("true",))
    two.end(0)
    one.process.send_signal(signal.SIGCONT)
    one.end(79)
    lost, after = one.event("lost"), two.event("elected")
    assert lost["led_until_ns"] < after["boottime_ns"] < lost["boottime_ns"]
    judged(electctl, 0, watch.end(), events(one), events(two))


def _flush(url: str) -> None:
    """FLUSHALL of this database, counters and all."""
    import redis

    address = BackendURL.parse(url)
    (host, port) = address.hosts[0]
    with redis.Redis(host=host, port=port or 6379, db=int(address.path or 0)) as client:
        client.flushdb()


def test_a_killed_leader_leaves_a_doubt_unless_somebody_saw_its_end(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    watch = Watched(electctl, redis_url, election)
    one = Campaign(electctl, redis_url, election, "--id", "one", command=("sleep", "60"))
    one.event("command_started")
    one.process.kill()
    one.process.wait()
    two = Campaign(electctl, redis_url, election, "--id", "two", command=("true",))
    two.end(0)
    files = [watch.end(), events(one), events(two)]
    verdict = judged(electctl, 3, *files)
    assert "no_end" in {doubt["kind"] for doubt in verdict["doubts"]}
    killed = one.event("command_started")
    ended = [
        {**killed, "event": "end", "view": view, "boottime_ns": killed["boottime_ns"] + 1000}
        for view in ("belief", "effect")
    ]
    judged(electctl, 0, *files, write(electctl.home / "harness", ended))


def test_a_python_leader_has_no_record(electctl: Electctl, redis_url: str, election: str) -> None:
    """Somebody leads who records nothing: that is said."""
    watch = Watched(electctl, redis_url, election)
    with (
        connect(redis_url) as elector,
        elector.campaign(election, "silent", ttl=5, wait=10),
    ):
        watch.saw("holder", "silent")
        record = watch.end()
    (doubt,) = judged(electctl, 3, record)["doubts"]
    assert doubt["kind"] == "no_campaign"
    assert "'silent'" in doubt["message"]


# For people --------------------------------------------------------------------------------------

OVERLAP = [
    line("begin", 1 * SECOND, "host-a", 5, view="effect"),
    line("begin", 3 * SECOND, "host-b", 6, view="effect"),
    line("end", 4 * SECOND, "host-a", 5, view="effect"),
    line("end", 5 * SECOND, "host-b", 6, view="effect"),
]


TIMELINE = """\
nightly on redis (effect): two leaders at once: 'host-a' (token 5) and 'host-b' (token 6) acted \
at the same time

0.000000 s  host-a  token 5  begin (effect)  h:1
2.000000 s  host-b  token 6  begin (effect)  h:2
3.000000 s  host-a  token 5  end (effect)    h:3
4.000000 s  host-b  token 6  end (effect)    h:4

  'host-a' (token 5)  ============================##############
  'host-b' (token 6)                              ##############==============
                      0                                                     4 s
  # two at once, for 1000 ms at least
"""


def test_the_timeline(electctl: Electctl) -> None:
    write(electctl.home / "h", OVERLAP)
    done = electctl.run("verify", "h", check=1)
    assert done.stdout == TIMELINE
    assert done.stderr.splitlines() == [
        f"electctl: {TIMELINE.splitlines()[0].removeprefix('nightly on redis (effect): ')}",
        "hint: electctl explain split-brain",
    ]


def test_names_cannot_give_orders_to_the_terminal(electctl: Electctl) -> None:
    evil = [
        obj | {"holder": obj["holder"] + "\x1b[2J\n", "election": "\x1b[31m"} for obj in OVERLAP
    ]
    write(electctl.home / "h\x1b", evil)
    done = electctl.run("verify", "h\x1b", check=1)
    assert "\x1b" not in done.stdout + done.stderr
    assert "host-a\\x1b[2J\\n" in done.stdout


def on_a_terminal(electctl: Electctl, *args: str, **env: str) -> str:
    """All that it writes to a terminal."""
    main, side = pty.openpty()
    process = electctl.popen(
        *args, stdout=side, stderr=side, env={"TERM": "xterm-256color", "COLUMNS": "100", **env}
    )
    os.close(side)
    seen_there = b""
    while select.select([main], [], [], 60)[0]:
        try:
            data = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        seen_there += data
    os.close(main)
    process.wait(20)
    return seen_there.decode()


def test_colour_is_for_terminals_that_want_it(electctl: Electctl) -> None:
    write(electctl.home / "h", OVERLAP)
    assert "\x1b[1;31m####" in on_a_terminal(electctl, "verify", "h")
    assert "\x1b[1;31m" not in on_a_terminal(electctl, "verify", "h", NO_COLOR="1")


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_when_it_takes_long(electctl: Electctl) -> None:
    lines: list[Obj] = [did("warning", n, "a", message="x" * 200) for n in range(1, 180_000)]
    write(electctl.home / "h", [*lines, seen("vacant", 180_001)])
    shown = on_a_terminal(electctl, "verify", "h")
    assert "verifying" in shown
    assert "%" in shown
    assert "verifying" not in on_a_terminal(electctl, "verify", "h", "-q")


def test_what_cannot_be_read(electctl: Electctl) -> None:
    for path, cause in (
        ("missing", "missing cannot be read: No such file or directory"),
        (".", ". is not a regular file"),
        ("/dev/null", "/dev/null is not a regular file"),
    ):
        done = electctl.run("verify", path, check=2)
        assert done.stderr.startswith(f"electctl: {cause}\nhint: ")
    (electctl.home / "script").write_text("#!/bin/sh\n")
    done = electctl.run("verify", "script", check=2)
    assert done.stderr.startswith("electctl: script:1: this is not JSON")
    done = electctl.run("verify", check=2)
    assert "hint: " in done.stderr
