"""The live table of watch: it fits, and never says more than is known."""

from __future__ import annotations

import io
import os
import pty
import select
from contextlib import suppress

import pytest
from rich.console import Console

from electctl.base.clock import now
from electctl.cli.live import LiveTable
from electctl.contract.backend import Holder, View
from electctl.contract.url import BackendURL
from electctl.core.observe import Change
from electctl.record.watch import Sighting, Target
from tests.processes import Electctl, wait_for

NOWHERE = "redis://127.0.0.1:1/0"
URL = BackendURL.parse(NOWHERE)
OTHER = BackendURL.parse("redis://a-host-with-a-long-name.example.com:6379/0")
LONG = "a-host-with-a-long-name_9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"


def led(name: str, *waiting: str) -> Change:
    return Change("holder", View(Holder(name, 7, "key"), waiting), now())


def lost(change: Change, cause: str = "no route") -> Change:
    return Change("unreachable", change.view, now(), cause)


def drawn(table: LiveTable, width: int = 120, height: int = 40) -> list[str]:
    """What the terminal shows, a line at a time."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as shown:
        console.print(table.drawn(console))
    return shown.get().rstrip("\n").split("\n")


@pytest.mark.parametrize("width", range(24, 200, 7))
def test_leaders_are_shown_on_any_terminal(width: int) -> None:
    targets = [Target("nightly", URL), Target("a-rather-long-election-name", OTHER)]
    table = LiveTable(targets)
    table.show(Sighting(targets[0], led("w1", LONG, LONG, LONG, LONG)))
    table.show(Sighting(targets[1], led(LONG)))
    lines = drawn(table, width)
    assert max(map(len, lines)) <= width
    heads = lines[1].split()
    assert "…" not in lines[1], "a head is whole, or left out"
    assert {"ELECTION", "LEADER"} <= set(heads)
    assert len(lines) == 6, "one line a target"
    assert "w1" in lines[3]
    assert LONG[:8] in lines[4]


def test_nobody_is_said_to_lead_nothing_while_it_cannot_be_known() -> None:
    target, never = Target("nightly", URL), Target("reports", URL)
    table = LiveTable([target, never])
    assert [line.split()[1] for line in drawn(table)[3:5]] == ["(connecting)", "(connecting)"]
    table.show(Sighting(target, led("w1")))
    table.show(Sighting(target, lost(led("w1"))))
    table.show(Sighting(never, lost(Change("vacant", View(None), 0.0))))
    lines = drawn(table)
    assert "(was w1)" in lines[3]
    assert " 7 " not in lines[3], "nor is its token"
    assert "(unknown)" in lines[4]
    assert lines[-1] == "  nightly, reports: unreachable: no route"


def test_how_long_a_leader_has_been_seen_outlasts_an_outage() -> None:
    target = Target("nightly", URL)
    table = LiveTable([target])
    before = Change("holder", led("w1").view, now() - 3600)
    for change in (before, lost(before), Change("recovered", before.view, now())):
        table.show(Sighting(target, change))
    assert "1h00m" in drawn(table)[3]
    table.show(Sighting(target, Change("holder", View(Holder("w1", 8, "other")), now())))
    assert "1h00m" not in drawn(table)[3]


def test_what_there_is_no_room_for_is_counted() -> None:
    table = LiveTable([Target(f"e{number}", URL) for number in range(20)])
    lines = drawn(table, height=12)
    assert len(lines) <= 12
    assert lines[-1] == "  and 13 more: this window is too low"


def test_the_terminal_is_given_back_with_the_last_table_on_it(electctl: Electctl) -> None:
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as terminal:
        args = ("watch", "nightly", "-b", NOWHERE, "--for", "1s")
        env = {"TERM": "xterm", "COLUMNS": "80", "LINES": "20"}
        process = electctl.popen(*args, env=env, stdout=side)
        os.close(side)
        seen = b""

        def over() -> bool:
            nonlocal seen
            with suppress(OSError):  # EIO is how Linux says that the other side has closed
                while select.select([terminal], [], [], 0)[0]:
                    seen += terminal.read(4096)
            return process.poll() is not None

        wait_for(over)
        over()
    during, _, after = seen.partition(b"\x1b[?1049l")
    assert b"\x1b[?1049h" in during, "it is drawn on the other screen"
    assert b"(unknown)" in after
    assert b"(nobody)" not in seen
