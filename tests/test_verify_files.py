"""Records that were tampered with, cut off or mixed up: what is found in the files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from electctl.errors import UsageError
from electctl.record import chain
from electctl.record.events import Event
from electctl.record.history import Recorder
from electctl.verify import files
from electctl.verify.files import Histories
from tests.histories import MS, TERMS, Obj, did, good, line, sealed, seen, watched, write


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def tampered(path: Path) -> tuple[str, int] | None:
    found = Histories([path]).verify().violation
    return None if found is None else (found.kind, found.number)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Two runs of observers, the second among the lines of the first."""
    one = watched(*TERMS)
    two = [obj | {"observer": "eye-2"} for obj in watched(*TERMS)]
    return sealed(tmp_path / "r", [*one[:3], *two, *one[3:]])


#: The last lines of the two runs: without them it looks as if the observer had been killed.
LAST = (10, 14)


@pytest.mark.parametrize("number", range(1, 15))
def test_a_line_that_was_removed(record: Path, number: int) -> None:
    lines = lines_of(record)
    del lines[number - 1]
    record.write_bytes(b"".join(lines))
    if number in LAST:
        assert tampered(record) is None
        assert "no_end" in {doubt.kind for doubt in Histories([record]).verify().doubts}
    else:
        assert tampered(record) == ("line_removed", number)


def test_a_whole_run_that_was_removed(tmp_path: Path) -> None:
    runs = [[obj | {"observer": f"eye-{n}"} for obj in watched(*TERMS)] for n in range(3)]
    record = sealed(tmp_path / "r", [obj for run in runs for obj in run])
    lines = lines_of(record)
    record.write_bytes(b"".join(lines[:7] + lines[14:]))
    assert tampered(record) == ("line_removed", 8)


@pytest.mark.parametrize("number", range(1, 15))
def test_a_line_that_was_changed(record: Path, number: int) -> None:
    lines = lines_of(record)
    for old, new in ((b"boot-1", b"boot-9"), (b'"hash": "', b'"hash": "0'), (b", ", b",")):
        changed = lines[number - 1].replace(old, new, 1)
        assert changed != lines[number - 1]
        record.write_bytes(b"".join([*lines[: number - 1], changed, *lines[number:]]))
        if new.startswith(b'"hash') and number == 1:
            assert tampered(record) == ("line_removed", 2)  # the first has no link to judge by
        else:
            assert tampered(record) == ("line_changed", number)


def test_a_line_that_was_changed_and_sealed_anew(record: Path) -> None:
    lines = lines_of(record)
    obj = json.loads(lines[2])
    fields = {k: v for k, v in obj.items() if k not in ("observer", "n", "prev", "hash")}
    lines[2], _ = chain.seal(fields | {"holder": "z"}, obj["observer"], obj["n"], obj["prev"])
    record.write_bytes(b"".join(lines))
    # The run that began after it knows what it was.
    assert tampered(record) == ("line_removed", 4)
    record.write_bytes(b"".join([*lines[:3], *lines[10:]]))
    assert tampered(record) == ("line_changed", 3)


@pytest.mark.parametrize(("number", "to"), [(6, 9), (8, 5), (12, 13), (13, 11)])
def test_a_line_that_was_moved(record: Path, number: int, to: int) -> None:
    lines = lines_of(record)
    lines.insert(to - 1, lines.pop(number - 1))
    record.write_bytes(b"".join(lines))
    found = tampered(record)
    assert found is not None
    assert found[0] == "line_moved"
    assert min(number, to) <= found[1] <= max(number, to) + 1


def test_a_line_that_was_added(record: Path) -> None:
    lines = lines_of(record)
    record.write_bytes(b"".join([*lines[:6], lines[5], *lines[6:]]))
    assert tampered(record) == ("line_added", 7)
    plain = json.dumps(seen("vacant", 130 * MS, observer="eye-3")).encode() + b"\n"
    record.write_bytes(b"".join([*lines[:6], plain, *lines[6:]]))
    assert tampered(record) == ("line_added", 7)


def test_a_last_line_that_is_cut_off_is_no_tampering(record: Path) -> None:
    whole = record.read_bytes()
    record.write_bytes(whole[:-30])
    verdict = Histories([record]).verify()
    assert verdict.violation is None
    assert next(doubt.kind for doubt in verdict.doubts) == "cut_off"
    assert verdict.lines == 13
    # In the middle it is no line at all.
    lines = lines_of(record)
    record.write_bytes(b"".join([*lines[:3], lines[3][:-40], *lines[4:]]))
    with pytest.raises(UsageError, match="r:4: this is not JSON"):
        Histories([record]).verify()


def test_what_a_recorder_writes_is_sealed_also_after_older_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "r", watched(*TERMS))
    for _ in range(3):
        with Recorder(path) as one, Recorder(path) as two:
            for n in range(3):
                for recorder in (one, two):
                    recorder.write(Event("vacant", "nightly", "redis", details={"url": str(n)}))
    assert tampered(path) is None
    lines = lines_of(path)
    assert [b'"hash"' in raw for raw in lines] == [False] * 7 + [True] * 18
    # The next line of the same run shows it, or the run that began after it.
    for number, shown in ((7, 7), (8, 9), (10, 11), (13, 13)):
        path.write_bytes(b"".join([*lines[: number - 1], *lines[number:]]))
        assert tampered(path) == ("line_removed", shown)


def test_files_in_one_and_lines_out_of_order(tmp_path: Path) -> None:
    record, one, two = good()
    sealed(tmp_path / "record", record)
    pad = [did("warning", n, "a", message="") for n in range(10, 1500)]
    write(tmp_path / "all", [*two, *one, *pad, *two[:3], *pad])
    assert Histories([tmp_path / "record", tmp_path / "all"]).verify().word == "holds"
    down = [did("warning", n, "a", message="") for n in range(400_000, 0, -1)]
    write(tmp_path / "down", down)
    with pytest.raises(UsageError, match=r"down:\d+: the lines are in no order of time"):
        Histories([tmp_path / "down"]).verify()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"event": "begin"}, "'begin' needs 'view'"),
        ({"event": "begin", "view": "all", "holder": "a"}, "'view' must be one of store, belief"),
        ({"event": "end", "view": "store"}, "'end' needs a holder"),
        ({"event": "write", "outcome": "accepted"}, "'write' needs 'resource'"),
        ({"event": "write", "resource": "r", "outcome": []}, "'outcome' must be one of"),
        ({"event": "lost", "candidate": "a", "reason": 7}, "'reason' must be a text"),
        (
            {"event": "released", "candidate": "a", "led_until_ns": 1.5},
            "'led_until_ns' must be a whole number",
        ),
        ({"event": "elected"}, "'elected' needs 'candidate'"),
        ({"event": "recording", "observer": "x", "views": ["all"]}, "'views' must be a list of"),
        ({"ts": 7}, "'ts' must be a text"),
        ({"boottime_ns": -7}, "'boottime_ns' is negative"),
    ],
)
def test_what_is_no_line_of_a_history(tmp_path: Path, change: Obj, cause: str) -> None:
    write(tmp_path / "h", [did("campaigning", 1, "a"), line("gap", 2) | change])
    with pytest.raises(UsageError) as caught:
        Histories([tmp_path / "h"]).verify()
    assert caught.value.message.startswith(f"{tmp_path / 'h'}:2: {cause}")
    assert caught.value.hint


def test_more_elections_than_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read in shares; a name belongs to one, however it is escaped."""
    monkeypatch.setattr(files, "_AT_ONCE", 3)
    record, told = [], []
    for n in range(20):
        name = {"election": f"wörk-{n}"}
        one, two, three = ([obj | name for obj in lines] for lines in good())
        record += one
        told += [*two, *three]

    def in_order(lines: list[Obj]) -> list[Obj]:
        return sorted(lines, key=lambda obj: obj["boottime_ns"])

    paths = [sealed(tmp_path / "record", in_order(record)), tmp_path / "told"]
    raw = "".join(json.dumps(obj, ensure_ascii=False) + "\n" for obj in in_order(told))
    paths[1].write_text(raw)
    verdict = Histories(paths).verify()
    assert (verdict.word, verdict.elections, verdict.lines) == ("holds", 20, 20 * 21)
    told[-20]["token"] = 3
    write(paths[1], in_order(told))
    found = Histories(paths).verify().violation
    assert found is not None
    assert (found.kind, found.election) == ("token_falls", told[-20]["election"])
