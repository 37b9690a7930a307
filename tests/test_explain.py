"""``electctl explain``: the glossary hangs together, and is found by the words that people use."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest

import electctl as package
from electctl.cli.app import COMMANDS, invoke
from electctl.errors import UsageError
from electctl.explain.glossary import Entry, load
from tests.processes import Electctl

pytestmark = pytest.mark.warm

GLOSSARY = load()
SCHEMA = json.loads((Path(package.__file__).parent / "schemas" / "explain.schema.json").read_text())


def entry_id(entry: Entry) -> str:
    return entry.name


def test_there_is_an_entry_for_every_word_that_newcomers_meet() -> None:
    names = {name for term in GLOSSARY.terms for name in term.names}
    assert names >= {
        "leader election", "consensus", "quorum", "lease", "TTL", "TTL lock", "fencing token",
        "term", "epoch", "split-brain", "stale leader", "session", "candidate", "holder",
        "observer", "checkpoint", "guarded checkpoint", "clock skew", "pause", "partition", "Raft",
        "Paxos", "ZAB", "Redlock", "ephemeral znode", "Kubernetes Lease", "herd effect",
        "fail-over", "hand-over", "linearizable", "validity", "guardian", "eviction",
    }  # fmt: skip
    assert len(GLOSSARY.questions) == 7


def test_every_name_and_alias_means_one_entry() -> None:
    for entry in GLOSSARY.entries:
        for name in entry.names:
            assert GLOSSARY.find(name) == [entry], name


@pytest.mark.parametrize("entry", GLOSSARY.entries, ids=entry_id)
def test_an_entry_has_all_parts(entry: Entry) -> None:
    assert entry.brief
    assert entry.what.endswith(".")
    assert entry.commands
    assert all(example.run and example.shows for example in entry.commands)
    if entry.kind == "term":
        assert len(entry.brief) <= 64
        assert entry.wrong.rstrip(")").endswith(".")
        assert entry.said
        assert max(len(entry.what), len(entry.wrong)) < 500, "short enough to be read"
    else:
        assert entry.brief.endswith("?")


@pytest.mark.parametrize("entry", GLOSSARY.entries, ids=entry_id)
def test_every_link_leads_to_another_term(entry: Entry) -> None:
    names = {term.name for term in GLOSSARY.terms}
    assert set(entry.see) <= names - {entry.name}
    assert len(set(entry.see)) == len(entry.see) >= 2


def test_every_term_is_linked_to() -> None:
    linked = {name for entry in GLOSSARY.entries for name in entry.see}
    assert {term.name for term in GLOSSARY.terms} <= linked


RUNS = sorted({example.run for entry in GLOSSARY.entries for example in entry.commands})


@pytest.mark.parametrize("run", RUNS)
def test_only_commands_that_there_are(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *args = shlex.split(run)
    assert program == "electctl"
    assert args[0] in COMMANDS
    words = args[: 2 if args[0] in ("lab", "checkpoint", "drill") else 1]
    # --help is looked at after every option has been found to exist and to have its value.
    assert invoke([*words, "--help", *args[len(words) :]]) == 0


def test_what_one_example_says_to_explain_is_there() -> None:
    for run in RUNS:
        if run.startswith("electctl explain "):
            assert GLOSSARY.find(run.removeprefix("electctl explain "))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Split Brain", ["split-brain"]),
        ("FENCING", ["fencing token"]),
        ("dead man's switch", ["guardian"]),
        ("failover", ["fail-over"]),
        ("faq 5", ["faq quorum"]),
        ("why do people say that ZooKeeper does leader election?", ["faq zookeeper"]),
        ("is a quorum the same as consensus", ["faq quorum"]),
        ("faq split brain", ["faq split-brain"]),
        ("faq wrong", ["faq wrong"]),
        ("implement my own", ["faq own"]),
    ],
)
def test_how_people_ask(words: str, found: list[str]) -> None:
    assert [entry.name for entry in GLOSSARY.find(words)] == found


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("splt brain", "did you mean split-brain"),
        ("quroum", "did you mean quorum"),
        ("fencing tokne", "fencing token"),
        ("xyzzy", "electctl explain lists"),
        ("faq xyzzy", "did you mean faq"),
    ],
)
def test_unknown_words_get_the_nearest(words: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        GLOSSARY.find(words)
    assert hint in str(raised.value.hint)


def test_the_list_names_everything(electctl: Electctl) -> None:
    shown = electctl.run("explain", check=0).stdout
    for entry in GLOSSARY.entries:
        assert re.search(rf"^{re.escape(entry.name)} ", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80


def test_one_term_in_all_its_parts(electctl: Electctl) -> None:
    (entry,) = GLOSSARY.find("fencing token")
    shown = electctl.run("explain", "fencing", "token", check=0).stdout
    flat = " ".join(shown.split())
    for text in (entry.brief, entry.what, entry.wrong, *entry.said, *entry.see):
        assert text in flat
    for example in entry.commands:
        assert example.run in flat
        assert example.shows in flat
    assert shown.isascii()


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_it_fits_the_terminal(electctl: Electctl, columns: int) -> None:
    for words in (["explain"], ["explain", "validity"], ["explain", "faq"]):
        shown = electctl.run(*words, env={"COLUMNS": str(columns)}, check=0).stdout
        assert max(map(len, shown.splitlines())) <= min(columns, 80)


def test_faq_answers_all_seven(electctl: Electctl) -> None:
    flat = " ".join(electctl.run("explain", "faq", check=0).stdout.split())
    for question in GLOSSARY.questions:
        assert question.brief in flat
        assert question.what in flat


def test_json_is_every_entry_a_line(electctl: Electctl) -> None:
    lines = electctl.run("explain", "--json", check=0).stdout.splitlines()
    shown = [json.loads(line) for line in lines]
    for obj in shown:
        jsonschema.validate(obj, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert [obj["name"] for obj in shown] == [entry.name for entry in GLOSSARY.entries]
    (one,) = electctl.run("explain", "lease", "--json", check=0).stdout.splitlines()
    assert json.loads(one) == next(obj for obj in shown if obj["name"] == "lease")
