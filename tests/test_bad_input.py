"""Malformed command lines, URLs, configs and records: one clear line, a hint, the right code.

Each row runs the real program. Whatever is wrong: no traceback, nothing on stdout, no control
characters, and never the secret that stands in many of the rows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from electctl.record.events import Event
from tests.processes import Electctl

SECRET = "s3cret"
URL = "redis://127.0.0.1:1/0"
WITH = ("-b", URL)
LONG = "x" * 1025
RECORD = Event("vacant", "a", "redis").as_line(recorded=True)


@dataclass(frozen=True)
class Bad:
    """A command line, the exit code, and what the message and the hint must say.

    ``files`` are written into the working directory first.
    """

    args: tuple[str, ...]
    code: int
    cause: str
    hint: str
    files: dict[str, bytes | str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def config(text: str, cause: str, hint: str, *args: str) -> Bad:
    """A bad config file, named on the command line of some command."""
    return Bad(args or ("holders", "a", "-c", "c.yaml"), 78, cause, hint, {"c.yaml": text})


def record(content: bytes | str, cause: str, hint: str = "record") -> Bad:
    """A file that ``--record`` must not append to."""
    args = ("watch", "a", *WITH, "--record", "r.jsonl")
    return Bad(args, 2, cause, hint, {"r.jsonl": content})


def url(text: str, cause: str, hint: str) -> Bad:
    """A malformed backend URL."""
    return Bad(("holders", "a", "-b", text), 2, cause, hint)


COMMAND_LINES = [
    Bad((), 2, "missing command", "electctl --help"),
    Bad(("holdrs", "a"), 2, "no command 'holdrs'", "did you mean holders?"),
    Bad(("help", "watch"), 2, "no command 'help'", "electctl COMMAND --help"),
    Bad(("xyzzy",), 2, "no command 'xyzzy'", "electctl --help"),
    Bad(("\x1b[31mred",), 2, "no command", "--help"),
    Bad(("lab", "stats"), 2, "no command 'stats'", "did you mean status?"),
    Bad(("lab",), 2, "missing command", "electctl lab --help"),
    Bad(("--jsn", "holders", "a"), 2, "no option --jsn", "did you mean --json?"),
    Bad(("holders", "a", "--jsn"), 2, "holders has no option --jsn", "did you mean --json?"),
    Bad(("holders", "a", "--xyzzy"), 2, "holders has no option --xyzzy", "holders --help"),
    Bad(("holders", "a", "-Z"), 2, "holders has no option -Z", "holders --help"),
    Bad(("watch", "a", "--until-hodler", "x"), 2, "no option --until-hodler", "--until-holder?"),
    Bad(("holders",), 2, "missing argument 'ELECTION...'", "holders --help"),
    Bad(("watch", *WITH), 2, "missing argument 'ELECTION...'", "watch --help"),
    Bad(("evict", *WITH), 2, "missing argument 'ELECTION'", "evict --help"),
    Bad(("campaign", *WITH), 2, "missing argument 'ELECTION'", "campaign --help"),
    Bad(("evict", "a", "b", *WITH), 2, "unexpected extra argument", "evict --help"),
    Bad(("backends", f"redis://:{SECRET}@h"), 2, "unexpected extra argument", "backends --help"),
    Bad(("holders", "a", "-b"), 2, "'-b' requires an argument", "holders --help"),
    Bad(("holders", "a", "--json=yes"), 2, "'--json' does not take a value", "holders --help"),
    Bad(("holders", "", *WITH), 2, "the election name is empty", "name"),
    Bad(("watch", LONG, *WITH), 2, "1025 bytes; 1024 are allowed", "shorten"),
    Bad(("holders", os.fsdecode(b"\xff"), *WITH), 2, "not valid UTF-8", "text"),
    Bad(("campaign", "", *WITH, "--", "true"), 2, "the election name is empty", "name"),
    Bad(("campaign", "a", *WITH, "--id", "", "--", "true"), 2, "candidate id is empty", "name"),
    Bad(("campaign", "a", *WITH, "--id", LONG, "--", "true"), 2, "1025 bytes", "shorten"),
    Bad(("campaign", "a", *WITH, "--", ""), 2, "the command is empty", "-- COMMAND"),
    Bad(("campaign", "a", *WITH, "--"), 2, "no command after --", "leave -- out"),
    Bad(("campaign", "a", *WITH, "--ttl", "soon"), 2, "--ttl: 'soon' is not a duration", "500ms"),
    Bad(("campaign", "a", *WITH, "--ttl", "-3s"), 2, "--ttl: '-3s' is not", "500ms"),
    Bad(("campaign", "a", *WITH, "--ttl", "1m30s"), 2, "--ttl: '1m30s' is not", "500ms"),
    Bad(("campaign", "a", *WITH, "--wait", "inf"), 2, "--wait: 'inf' is not", "500ms"),
    Bad(("campaign", "a", *WITH, "--wait", "1000000d"), 2, "a hundred years", "shorter"),
    Bad(("campaign", "a", *WITH, "--wait", "\u0661s"), 2, "is not a duration", "500ms"),
    Bad(("watch", "a", *WITH, "--for", "x"), 2, "--for: 'x' is not a duration", "500ms"),
    Bad(("watch", "a", *WITH, "--for", "0s"), 2, "--for 0 leaves no time", "holders"),
    Bad(("evict", "a", *WITH, "--wait", ""), 2, "--wait: '' is not a duration", "500ms"),
    Bad(("campaign", "a", *WITH, "--ttl", "0s"), 78, "not a positive time", "10s"),
    Bad(("campaign", "a", *WITH, "--ttl", "100ms"), 78, "unsafe", "raise --ttl"),
    Bad(("campaign", "a", *WITH, "--ttl", "10s", "--grace", "10s"), 78, "unsafe", "--grace"),
    Bad(("campaign", "a", *WITH, "--wait", "1s", "--no-wait"), 2, "contradict", "leave one"),
    Bad(("campaign", "a", *WITH, "-E", "x", "--", "true"), 2, "whole number", "campaign --help"),
    Bad(("campaign", "a", *WITH, "-E", "256", "--", "true"), 2, "255", ""),
    Bad(("campaign", "a", *WITH, "-E", "-1", "--", "true"), 2, "255", ""),
    Bad(("campaign", "a", *WITH, "ls", "-l"), 2, "has no option -l", "-- goes before"),
    Bad(("campaign", "a", *WITH, "--max-terms", "0", "--keep", "--", "true"), 2, "max-terms", ""),
    Bad(("campaign", "a", *WITH, "-b", "redis://h"), 2, "2 backends are named", "give one"),
    Bad(("campaign", "a", *WITH, "--result", "missing/r", "--", "true"), 2, "missing/r", ""),
    Bad(("campaign", "a", *WITH, "--events", "fd:99", "--", "true"), 2, "fd:99", ""),
    Bad(("check",), 2, "not a campaign's command", "campaign"),
    Bad(("check", "--id", "x"), 2, "--id is for a question to the store", "check ELECTION --id"),
    Bad(("check", "--least-token", "7"), 2, "--least-token is for", "check ELECTION"),
    Bad(("check", "a", "now", *WITH), 2, "unexpected extra argument", "check --help"),
    Bad(("check", "a", *WITH, "--timeout", "0s"), 2, "--timeout 0 leaves no time", "1s"),
    Bad(("check", "a", *WITH, "--least-token", "x"), 2, "whole number", "check --help"),
    Bad(("check", "a", *WITH, "--id", ""), 2, "candidate id is empty", "name"),
    Bad(("check", "", *WITH), 2, "election name is empty", "name"),
    Bad(("check", "a", *WITH, "-b", "redis://h"), 2, "2 backends are named", "give one"),
    Bad(("check", "a", *WITH), 69, "cannot be reached", "running"),
    Bad(("checkpoint", "set", "x"), 2, "not a campaign's command", "campaign"),
    Bad(("checkpoint", "gte"), 2, "no command 'gte'", "did you mean get?"),
    Bad(("explain", "xyzzy"), 2, "no entry for 'xyzzy'", "electctl explain lists"),
    Bad(("explain", "splt", "brain"), 2, "no entry for 'splt brain'", "did you mean split-brain"),
    Bad(("explain", "\x1b[31m"), 2, "no entry for", "electctl explain lists"),
    Bad(("compare", "-b", "redsi"), 2, "no backend is installed for redsi://", "redis"),
    Bad(("compare", "-b", f"{SECRET}@h"), 2, "starts with its scheme", "electctl backends"),
    Bad(("compare", "--ttl", "0s"), 2, "a lease of 0 s", "--ttl 10s"),
    Bad(("compare", "--json", "--markdown"), 2, "contradict", "leave one"),
    Bad(("lab", "up", "xyzzy"), 2, "no backend is installed for xyzzy://", "electctl backends"),
    Bad(("lab", "up", "redsi"), 2, "no backend is installed for redsi://", "did you mean redis"),
    Bad(("lab", "up", "redis", "--nodes", "many"), 2, "whole number", "lab up --help"),
]

URLS = [
    url("", "starts with its scheme", "electctl backends"),
    url(f":{SECRET}@host", "starts with its scheme", "electctl backends"),
    url(f"user:{SECRET}@host", "must be followed by //", "//host:port"),
    url("xyzzy://h", "no backend is installed for xyzzy://", "electctl backends"),
    url("reids://h", "no backend is installed for reids://", "did you mean redis"),
    url("REDIS://h", "starts with its scheme", "electctl backends"),
    url("redis:/h", "must be followed by //", "redis://host:port"),
    url("redis://h:0", "port 0 is not between", "host:port"),
    url(f"redis://:{SECRET}@h:99999", "port 99999 is not between", "host:port"),
    url(f"redis://:{SECRET}@h:{SECRET}", "a host that is not host or host:port", "%40"),
    url(f"redis://:{SECRET}@[::1", "a host that is not host or host:port", "brackets"),
    url(f"redis://:{SECRET}/x@h", "a host that is not host or host:port", "%2F"),
    url("redis://h/0?x", "not name=value pairs", "name=value"),
    url("redis://h/0?insecure=1&insecure=2", "given twice", "once"),
    url(f"redis://:{SECRET}@h/0?isnecure=1", "no option 'isnecure'", "did you mean insecure?"),
    url(f"redis://:{SECRET}@h/0?password_file=x", "both a password and a password_file", "leave"),
    url(f"redis://:{SECRET}@h 0", "white space", "%20"),
    url("redis://h/\x1b[31m", "control characters", "%20"),
    Bad(
        ("holders", "a", "-b", "redis://h?password_file=none"), 78, "cannot be read", "is it there"
    ),
    Bad(
        ("holders", "a"),
        2,
        "starts with its scheme",
        "electctl backends",
        env={"ELECTCTL_BACKEND": f"{SECRET}@h"},
    ),
    Bad(
        ("holders", "a"),
        2,
        "starts with its scheme",
        "backends",
        env={"ELECTCTL_BACKEND": f"{URL} nonsense"},
    ),
]

CONFIGS = [
    config("ttll: 1s", "c.yaml:1: unknown key 'ttll'", "did you mean ttl?"),
    config("ttl: 1s\nttl: 2s", "c.yaml:2: 'ttl' is given twice", "line 1"),
    config("elections:\n  a:\n    min-hold: 1s", "c.yaml:3: unknown key 'min-hold'", "min_hold?"),
    config("ttl: soon", "c.yaml:1: ttl: 'soon' is not a duration", "500ms"),
    config("ttl: [1]", "c.yaml:1: ttl must be a duration", "10s"),
    config("keep: 1", "c.yaml:1: keep must be true or false", "keep: true"),
    config("conflict_exit_code: 999", "c.yaml:1: conflict_exit_code must be between", "0"),
    config("- a", "c.yaml:1: the file must hold key: value", "10s"),
    config("ttl: 'x", "c.yaml:1: this is not YAML", "configuration.md"),
    config("ttl: \0", "a character that YAML forbids", "right file"),
    config(f"backend: redis://:{SECRET}@h:x", "c.yaml:1: the redis URL has a host", "IPv6"),
    config(f"backend: 'redis://:{SECRET}@h", "c.yaml:1: this is not YAML", "configuration.md"),
    config(f"redis://:{SECRET}@h: 1", "c.yaml:1: unknown key", "it knows"),
    config("backend: []", "c.yaml:1: backend is an empty list", "leave it out"),
    Bad(
        ("holders", "a", "-c", "b.yaml"),
        78,
        "b.yaml:2: this is not UTF-8",
        "UTF-8",
        {"b.yaml": b"ttl: 1s\n\xff"},
    ),
    Bad(("holders", "a", "-c", "none.yaml"), 78, "none.yaml cannot be read", "right"),
    Bad(("holders", "a", "-c", "."), 78, "Is a directory", "right"),
    Bad(
        ("holders", "a"),
        78,
        "none.yaml cannot be read",
        "right",
        env={"ELECTCTL_CONFIG": "none.yaml"},
    ),
    Bad(
        ("holders", "a"),
        78,
        "cannot be looked for: File name too long",
        "-c /dev/null",
        env={"XDG_CONFIG_HOME": "/" + "x" * 256},
    ),
    Bad(
        ("holders", "a"), 78, "electctl.yaml:1: unknown key 'x'", "knows", {"electctl.yaml": "x: 1"}
    ),
    config("grace: 10s\nttl: 10s", "unsafe", "--grace", "campaign", "a", *WITH, "-c", "c.yaml"),
]

LABS = [
    Bad(
        ("lab", "up", "redis"),
        78,
        "cannot be used for a lab",
        "STATE",
        env={"ELECTCTL_STATE": place},
    )
    for place in ("/proc/no", "/dev/null")
]

RECORDS = [
    record("#!/bin/sh\necho hello\n", "r.jsonl:1: this is not JSON"),
    record("[]\n", "r.jsonl:1: this is not a JSON object"),
    record("{}\n", "r.jsonl:1: 'ts' is missing"),
    record(RECORD.replace('"boot_id"', '"boot"'), "r.jsonl:1: 'boot_id' is missing"),
    record(RECORD.replace('"token": null', '"token": true'), "'token' must be a whole number"),
    record(RECORD.replace("T", " ", 1), "r.jsonl:1: 'ts' must be RFC 3339"),
    record(RECORD + RECORD[:30], "its last line is cut off", "remove it"),
    record(RECORD.rstrip(), "r.jsonl:1: the line is cut off", "remove it"),
    record(b"\xff\xfe\n", "r.jsonl:1: this is not JSON"),
    record(json.dumps({"ts": SECRET}) + "\n", "'event' is missing"),
    Bad(("watch", "a", *WITH, "--record", "."), 2, "is not a regular file", "file"),
    Bad(("watch", "a", *WITH, "--record", "/dev/null"), 2, "is not a regular file", "file"),
    Bad(("watch", "a", *WITH, "--record", "no/r"), 2, "cannot be written: No such", "right"),
]

#: Options of a node that could serve.
NODE = ("raft", "serve", "--id", "1", "--listen", "127.0.0.1:1", "--data", "d")
RAFT = [
    Bad(("raft", "sreve"), 2, "no command 'sreve'", "did you mean serve?"),
    Bad(("raft", "serve", "--data", "d"), 2, "missing option '--id'", "raft serve --help"),
    Bad((*NODE[:4], "--data", "d"), 2, "nobody could connect", "--listen"),
    Bad((*NODE, "--id", "x"), 2, "whole number", "raft serve --help"),
    Bad((*NODE, "--id", "0"), 2, "'0' is not the number of a node", "from 1"),
    Bad((*NODE, "--listen", "7400"), 2, "--listen: '7400' is not HOST:PORT", "127.0.0.1:7400"),
    Bad((*NODE, "--listen", "::1:7400"), 2, "is not HOST:PORT", "127.0.0.1:7400"),
    Bad((*NODE, "--listen", "\u0661:\u0661"), 2, "is not HOST:PORT", "127.0.0.1:7400"),
    Bad((*NODE, "--peer", "h:7400"), 2, "'h:7400' is not N=HOST:PORT", "2=127.0.0.1:7400"),
    Bad((*NODE, "--peer", "two=h:7400"), 2, "'two' is not the number of a node", "from 1"),
    Bad((*NODE, "--peer", "2=h"), 2, "--peer: 'h' is not HOST:PORT", "127.0.0.1:7400"),
    Bad((*NODE, "--peer", "1=h:1"), 2, "node 1 is this node", "others only"),
    Bad((*NODE, "--peer", "2=h:1", "--peer", "2=h:2"), 2, "node 2 is named twice", "once"),
    Bad((*NODE, "--peer", "2=h:1", "--peer", "3=h:1"), 2, "two nodes have one address", "own"),
    Bad((*NODE, "--election-timeout", "1ms"), 2, "from 50ms to 1m", "500ms"),
    Bad((*NODE, "--idle", "1m", "--peer", "2=h:1"), 2, "without peers", "leave one"),
    Bad((*NODE, "--tls-ca", "ca.pem"), 2, "go together", "both"),
    Bad((*NODE[:-1], "/dev/null"), 78, "/dev/null cannot be used", "directory of ours"),
    Bad((*NODE[:-1], "/proc/no/d"), 78, "/proc/no/d cannot be used", "directory of ours"),
    Bad((*NODE[:-1], "."), 78, "is not empty and holds no raft.db", "empty", {"my.txt": "x"}),
    Bad((*NODE[:-1], "."), 78, "raft.db is damaged", "do not repair it", {"raft.db": "x" * 999}),
    Bad((*NODE[:-1], "."), 78, "raft.db is empty", "restore all", {"raft.db": ""}),
    Bad((*NODE[:4], "--data", "d", "--socket", "x" * 200), 78, "too long", "short name"),
    Bad(("raft", "stop"), 1, "no embedded server runs", "starts it"),
    Bad(("holders", "a", "-b", "local://host"), 2, "local: names no host", "-b local:"),
    Bad(("holders", "a", "-b", "local:?state=/x"), 2, "no option 'state'", "idle"),
    Bad(("holders", "a", "-b", "local:?idle=x"), 2, "local:?idle=: 'x' is not", "500ms"),
    Bad(("raft", "status", *WITH), 2, "redis:// is not a cluster of electctl raft", "raft://"),
    Bad(("raft", "status", "--node", "h"), 2, "--node: 'h' is not HOST:PORT", "127.0.0.1:7400"),
    Bad((*NODE, "--peer", "2=a..b:1"), 2, "'a..b' is not the name of a host", "two dots"),
]

SAFE = ("audit=no", "actions=idempotent", "stakes=low", "partitions=rare")
ANSWERS = tuple(word for pair in SAFE for word in ("--set", pair))


def tree(text: bytes | str, cause: str, hint: str) -> Bad:
    """A broken tree of somebody's own."""
    return Bad(("advise", "--tree", "t.yaml"), 78, cause, hint, {"t.yaml": text})


def answers(text: bytes | str, cause: str, hint: str) -> Bad:
    """A bad answers file."""
    return Bad(("advise", "--answers", "a.yaml"), 78, cause, hint, {"a.yaml": text})


def judged(text: str, cause: str, hint: str, code: int = 78) -> Bad:
    """A config file whose elections cannot be judged."""
    return Bad(("advise", "--check-all", "-c", "c.yaml"), code, cause, hint, {"c.yaml": text})


ADVISE = [
    Bad(("advise",), 2, "answers are missing: audit, actions, stakes,", "audit=unknown"),
    Bad(("advise", *ANSWERS[:-2]), 2, "an answer is missing: partitions", "=rare|common"),
    Bad(("advise", "--set", "audit"), 2, "it must be key=value", "--set audit=no"),
    Bad(("advise", "--set", "audti=no"), 2, "there is no question 'audti'", "did you mean audit?"),
    Bad(("advise", "--set", "audit=nope"), 2, "'nope' does not answer audit", "did you mean no?"),
    Bad(("advise", "--set", "audit="), 2, "'' does not answer audit", "it knows no, unknown, yes"),
    Bad(("advise", "--set", "\x1b[31m=no"), 2, "there is no question", "it knows"),
    Bad(("advise", "--answers", "none.yaml"), 78, "none.yaml cannot be read", "right"),
    Bad(("advise", "--answers", "-"), 2, "answers are missing", "unknown"),
    answers("audit: no\naudti: no", "a.yaml:2: there is no question 'audti'", "mean audit?"),
    answers("audit: maybe", "a.yaml:1: 'maybe' does not answer audit", "it knows"),
    answers('{"audit": "no",\n "audit": "yes"}', "a.yaml:2: 'audit' is given twice", "line 1"),
    answers("audit: [no, yes]", "a.yaml:1: audit must be one answer", "audit: yes"),
    answers("audit: 'x", "a.yaml:1: this is not YAML", "audit: no"),
    answers(b"\xff", "a.yaml:1: this is not UTF-8", "UTF-8"),
    answers("- audit", "a.yaml:1: the file must hold key: value lines", "audit: no"),
    tree("", "t.yaml:1: the tree is empty", "docs/advise.md"),
    tree("format: 1\nqestions: {}", "t.yaml:2: unknown key 'qestions'", "mean questions?"),
    tree("format: [", "t.yaml:1: this is not YAML", "docs/advise.md"),
    tree(b"\x00", "a character that YAML forbids", "right file"),
    Bad(("advise", "--tree", "none.yaml"), 78, "tree none.yaml cannot be read", "right"),
    Bad(("advise", *ANSWERS, "--check", "nightly"), 2, "no election of that name", "redis://"),
    Bad(
        ("advise", "--check", "nihgtly", "-c", "c.yaml"),
        2,
        "no election of that name in c.yaml",
        "did you mean nightly?",
        {"c.yaml": "elections: {nightly: {}}"},
    ),
    Bad(("advise", *ANSWERS, "--check", f"reids://:{SECRET}@h"), 2, "no backend is inst", "redis"),
    Bad(("advise", *ANSWERS, "--check", f":{SECRET}@h"), 2, "starts with its scheme", "backends"),
    Bad(("advise", *ANSWERS, "--check", "redis://h?x=1"), 2, "has no option 'x'", "it knows"),
    Bad(("advise", *ANSWERS, "--check", URL, *WITH), 2, "-b is not for --check", "--check URL"),
    Bad(("advise", "--check-all"), 2, "there is no config file", "elections:"),
    judged("elections: {}", "c.yaml has none", "elections:", 2),
    judged("elections: {a: {}}", "no election in c.yaml has answers", "answers:", 2),
    judged(
        "backend: redis://h\nelections: {a: {answers: {audit: nope}}}", ":2: 'nope'", "mean no?"
    ),
    judged("backend: redis://h\nelections: {a: {answers: {audit: no}}}", "'a': answers", "set", 2),
    judged("elections:\n  a:\n    answers: no", "c.yaml:3: answers must hold", "ttl: 10s"),
    Bad(("advise", "--show", "--budget"), 2, "--show and --budget do not go together", "leave one"),
    Bad(("advise", "--json", "--markdown"), 2, "contradict each other", "leave one out"),
    Bad(("advise", "--ttl", "5s"), 2, "--ttl and --grace are for --budget", "-b redis"),
    Bad(("advise", "--budget", "-b", "reids"), 2, "starts with its scheme", "electctl backends"),
    Bad(("advise", "--budget", "-b", "redis", "--set", "a=b"), 2, "takes no answers", "leave"),
    Bad(("advise", "--budget", "-b", "redis", "--ttl", "100ms"), 78, "is unsafe", "raise --ttl"),
]

ALL = [*COMMAND_LINES, *URLS, *CONFIGS, *LABS, *RECORDS, *RAFT, *ADVISE]


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 60
    assert min(map(len, (COMMAND_LINES, URLS, CONFIGS, RECORDS))) >= 10


@pytest.mark.warm
@pytest.mark.parametrize("bad", ALL, ids=lambda bad: f"{' '.join(bad.args)[:40]!a}-{bad.cause}")
def test_bad_input(electctl: Electctl, tmp_path: Path, bad: Bad) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name, content in bad.files.items():
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        (here / name).chmod(0o600)
    done = electctl.run(*bad.args, cwd=here, env=bad.env, timeout=30)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("electctl: ")
    assert lines[1].startswith("hint: ")
    assert bad.cause in lines[0]
    assert bad.hint in lines[1]
    assert done.returncode == bad.code
    assert SECRET not in done.stderr
    assert all(line.isprintable() for line in lines)
    for name, content in bad.files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        assert (here / name).read_bytes() == raw, "a refused file is left as it was"
