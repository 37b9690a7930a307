"""A checkpoint that was accepted and is gone, told by what campaigns record of their commands."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from electctl.core.elector import connect
from electctl.verify.files import Histories
from electctl.verify.verdict import Verdict
from tests.campaigns import Campaign
from tests.histories import Obj, did, write
from tests.processes import Electctl


def put(at: int, token: int, version: int, outcome: str = "accepted", value: str = "") -> Obj:
    told = did("checkpoint_set", at, "a", token, outcome=outcome, began_ns=at - 1)
    told["value"] = value or f"v{token}.{version}"
    return told | ({"version": version} if outcome == "accepted" else {})


def got(at: int, value: str | None, token: int = 9) -> Obj:
    return did("checkpoint_got", at, "a", token, value=value, began_ns=at - 1)


def judged(tmp_path: Path, lines: list[Obj]) -> Verdict:
    return Histories([write(tmp_path / "told", lines)]).verify()


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("lost_write", [put(10, 5, 1), got(20, None)]),
        ("lost_write", [put(10, 5, 1), put(20, 5, 2), got(30, "v5.1")]),
        ("lost_write", [put(10, 5, 7), put(20, 6, 1), got(30, "v5.7")]),
        ("stale_write", [put(10, 6, 1), put(20, 5, 2)]),
        ("stale_write", [put(10, 6, 2), put(20, 6, 1)]),
    ],
)
def test_a_checkpoint_that_must_not_be(tmp_path: Path, kind: str, lines: list[Obj]) -> None:
    found = judged(tmp_path, lines).violation
    assert found is not None
    assert found.kind == kind
    assert "the checkpoint" in found.message


@pytest.mark.parametrize(
    "lines",
    [
        [got(5, None), put(10, 5, 1), got(20, "v5.1"), put(30, 6, 1), got(40, "v6.1")],
        [put(10, 6, 1), put(20, 5, 2, "refused"), got(30, "v6.1")],
        # It may have been written at any time, as long as nobody else has said so.
        [put(10, 5, 1), put(20, 5, 2, "unknown"), got(30, "v5.2"), got(40, "v5.1")],
        # Written by somebody whose events are not here.
        [put(10, 5, 1), got(20, "v6.1")],
        # Under way at once: either order.
        [put(10, 5, 1), put(30, 5, 2), got(31, "v5.1") | {"began_ns": 29}],
        # The same value twice: the later one may have been read.
        [put(10, 5, 1, value="x"), put(20, 5, 2), put(30, 5, 3, value="x"), got(40, "x")],
    ],
)
def test_a_checkpoint_that_may_be(tmp_path: Path, lines: list[Obj]) -> None:
    assert judged(tmp_path, lines).violation is None


def test_one_that_a_real_store_forgets(electctl: Electctl, redis_url: str, election: str) -> None:
    """Its keys are deleted between two reads of one leader's command."""
    script = (
        'electctl checkpoint set "$ELECTCTL_ID"; electctl checkpoint get; '
        "touch written; until [ -e gone ]; do sleep 0.02; done; electctl checkpoint get; exit 0"
    )
    leader = Campaign(
        electctl, redis_url, election, "--id", "one", command=("sh", "-c", script), ttl="20s"
    )
    leader.event("checkpoint_got")
    events = leader.home / "events"
    assert judged_events(electctl, events, 3) is None, "nothing was lost yet"
    with connect(redis_url) as elector:
        assert elector.backend.read_checkpoint(election, "") == b"one"
    forget(redis_url, election)
    (electctl.home / "gone").touch()
    leader.end(0)
    told = [event for event in leader.events() if event["event"].startswith("checkpoint")]
    value = sha256(b"one").hexdigest()
    assert [(event["event"], event["value"]) for event in told] == [
        ("checkpoint_set", value),
        ("checkpoint_got", value),
        ("checkpoint_got", None),
    ]
    assert (told[0]["outcome"], told[0]["version"]) == ("accepted", 1)
    assert judged_events(electctl, events, 1) == "lost_write"


def judged_events(electctl: Electctl, path: Path, code: int) -> str | None:
    verdict = json.loads(electctl.run("verify", path, "--json", check=code).stdout)
    violation = verdict["violation"]
    return None if violation is None else str(violation["kind"])


def forget(url: str, election: str) -> None:
    """Delete the checkpoint, and leave the leadership."""
    import redis

    with redis.Redis.from_url(url) as client:
        keys = [key for key in client.scan_iter(match="*") if election.encode() in key]
        gone = [key for key in keys if b"checkpoint" in key]
        assert gone, keys
        assert client.delete(*gone) == len(gone)
