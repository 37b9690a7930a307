"""The record's line format: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl.errors import UsageError
from electctl.record import history
from electctl.record.events import Event


@given(
    st.text(min_size=1),
    st.none() | st.text(),
    st.none() | st.integers(),
    st.dictionaries(st.text(min_size=1).filter(lambda k: k not in history._FIELDS), st.text()),
)
def test_what_is_written_is_read_back(
    election: str, holder: str | None, token: int | None, details: dict[str, object]
) -> None:
    event = Event("holder", election, "redis", holder, token, details)
    entry = history.parse_line(event.as_line(recorded=True).encode(), "x:1")
    assert (entry.election, entry.holder, entry.token) == (election, holder, token)
    assert entry.boottime_ns == event.at
    assert dict(entry.data) == details


GOOD = json.loads(Event("vacant", "a", "redis").as_line(recorded=True))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"ts": None}, "'ts' must be a text"),
        ({"ts": "yesterday"}, "'ts' must be RFC 3339"),
        ({"token": True}, "'token' must be a whole number or null"),
        ({"token": 1.5}, "'token' must be a whole number or null"),
        ({"token": "7"}, "'token' must be a whole number or null"),
        ({"holder": 7}, "'holder' must be a text or null"),
        ({"boottime_ns": -1}, "'boottime_ns' is negative"),
        ({"boottime_ns": 1e9}, "'boottime_ns' must be a whole number"),
        ({"event": ["x"]}, "'event' must be a text"),
    ],
)
def test_a_wrong_value_in_a_record(change: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        history.parse_line(json.dumps({**GOOD, **change}).encode() + b"\n", "r.jsonl:7")
    assert caught.value.message.startswith(f"r.jsonl:7: {cause}")
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(history._FIELDS))
def test_a_missing_field_in_a_record(name: str) -> None:
    line = json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()
    with pytest.raises(UsageError, match=f"r:1: '{name}' is missing"):
        history.parse_line(line + b"\n", "r:1")


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"#!/bin/sh\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"7\n", "not a JSON object"),
        (b"\n", "not JSON"),
        (b"\xff\n", "not JSON"),
        (b'{"a": 1, "a": 2}\n', "not JSON"),
        (b'{"a": NaN}\n', "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (json.dumps(GOOD).encode(), "cut off"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}\n', "over 1 MB"),
    ],
)
def test_what_is_no_record_line(raw: bytes, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        history.parse_line(raw, "r:1")


def test_a_record_is_never_appended_to_something_else(tmp_path: Path) -> None:
    script = tmp_path / "backup.sh"
    script.write_text("#!/bin/sh\n")
    torn = tmp_path / "torn.jsonl"
    torn.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:20])
    for path, cause in (
        (script, "backup.sh:1: this is not JSON"),
        (torn, "its last line is cut off"),
        (tmp_path, "is not a regular file"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / "missing" / "r.jsonl", "cannot be written: No such file"),
    ):
        with pytest.raises(UsageError, match=cause):
            history.Recorder(path)
    assert script.read_text() == "#!/bin/sh\n"
