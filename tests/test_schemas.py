"""Every output of ``--json`` has a schema that ships, and real output is valid under it.

What this does not cover: the events of rare moments; the tests of each command hold those against
the same schemas.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from electctl.cli.app import COMMANDS
from tests.campaigns import Campaign, validate
from tests.processes import Electctl

SCHEMAS = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text())
    for path in (files("electctl") / "schemas").iterdir()
    if path.name.endswith(".schema.json")
}
#: Command → the schemas of what it prints or writes.
OF_COMMAND = {
    "campaign": {"campaign-event", "result"},
    "watch": {"watch-event", "record-line"},
    "holders": {"holders"},
    "evict": {"evict"},
    "sweep": {"sweep"},
    "check": {"check"},
    "checkpoint": {"checkpoint"},
    "backends": {"backends"},
    "compare": {"compare"},
    "verify": {"verify", "verify-model", "history-line"},
    "explain": {"explain"},
    "lab": {"lab", "lab-env"},
    "drill": {"drill-result", "drill-list"},
}
#: Commands with tests of their own for what they print.
ELSEWHERE = {"advise", "raft"}


def valid(schema: str, text: str) -> list[dict[str, Any]]:
    """The objects of JSON lines, each held against a schema; at least one."""
    found: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert found
    for obj in found:
        validate(schema, obj)
    return found


def _ours(schemas: Iterable[str]) -> set[str]:
    return {name for name in schemas if name.partition("-")[0] not in ELSEWHERE}


def test_every_command_has_its_schemas_and_every_schema_its_command() -> None:
    assert set(COMMANDS) - ELSEWHERE == set(OF_COMMAND)
    assert _ours(SCHEMAS) == set().union(*OF_COMMAND.values())


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_named_and_closed(name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:electctl:{name}"
    assert "electctl " in schema["title"]
    for part in _objects(schema):
        assert "additionalProperties" in part, "a field that is not described would pass"


@pytest.mark.parametrize("name", sorted(_ours(SCHEMAS)))
def test_every_field_is_described(name: str) -> None:
    for part in _objects(SCHEMAS[name]):
        for field, described in part["properties"].items():
            assert described is False or "description" in described or "$ref" in described, field


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object in a schema, its conditions aside."""
    if isinstance(node, list):
        for part in node:
            yield from _objects(part)
    elif isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node and "oneOf" not in node:
            yield node
        for key, part in node.items():
            if key not in ("if", "then", "else", "allOf"):
                yield from _objects(part)


def test_the_example_on_the_page_is_valid() -> None:
    page = (Path(__file__).parent.parent / "docs" / "json.md").read_text()
    (example,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    validate("holders", json.loads(example))


# Real output -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["backends", "compare", "explain"])
def test_what_needs_no_server(electctl: Electctl, command: str) -> None:
    valid(command, electctl.run(command, "--json", check=0).stdout)


def test_a_term_and_what_is_seen_of_it(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    def run(*args: str, check: int = 0) -> str:
        return electctl.run(*args, "-b", redis_url, "--json", check=check).stdout

    (vacant,) = valid("holders", run("holders", election))
    assert vacant["event"] == "vacant"
    script = "electctl check --json; electctl checkpoint set 42; electctl checkpoint get --json"
    campaign = Campaign(
        electctl,
        redis_url,
        election,
        *("--id", "host-a", "--on-elected", "false", "-v", "--json"),
        command=("sh", "-c", f"{script}; echo ready; sleep 60"),
        ttl="4s",
    )
    check, got, _ = campaign.printed("ready").splitlines()
    validate("check", json.loads(check))
    (value,) = valid("checkpoint", got)
    assert base64.b64decode(value["value"]) == b"42"
    assert valid("checkpoint", run("checkpoint", "get", election)) == [value]

    (held,) = valid("holders", run("holders", election))
    assert held["holder"] == "host-a"
    record = tmp_path / "record.jsonl"
    valid(
        "watch-event",
        run("watch", election, "--until-holder", "host-a", "--record", str(record)),
    )
    valid("record-line", record.read_text())
    campaign.event("renewed")
    (gone,) = valid("evict", run("evict", election))
    assert gone["holder"] == "host-a"
    campaign.end(79)  # which holds the result against its schema
    told = valid("campaign-event", campaign.stderr)
    assert [event["event"] for event in told] == campaign.names()
    names = {"elected", "warning", "renewed", "lost", "command_gone", "released", "finished"}
    assert names <= set(campaign.names())


def test_an_empty_checkpoint_is_no_line(electctl: Electctl, redis_url: str, election: str) -> None:
    done = electctl.run("checkpoint", "get", election, "-b", redis_url, "--json", check=1)
    assert done.stdout == ""


def test_who_cannot_be_reached(electctl: Electctl) -> None:
    done = electctl.run("holders", "a", "-b", "redis://127.0.0.1:1/0", "--json", check=69)
    (missed,) = valid("holders", done.stdout)
    assert missed["event"] == "unreachable"


@pytest.mark.server
def test_a_lab_from_up_to_down(electctl: Electctl) -> None:
    (up,) = valid("lab", electctl.run("lab", "up", "redis", "--json", check=0).stdout)
    (status,) = valid("lab", electctl.run("lab", "status", "--json", check=0).stdout)
    assert status["servers"][0]["pid"] == up["servers"][0]["pid"]
    (env,) = valid("lab-env", electctl.run("lab", "env", "--json", check=0).stdout)
    assert env["ELECTCTL_BACKEND"] == up["url"]
    (down,) = valid("lab", electctl.run("lab", "down", "--json", check=0).stdout)
    assert down["state"] == "removed"
