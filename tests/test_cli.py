"""The frame of the command line: global options, errors, streams, completion, what is loaded."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import electctl as package
from electctl.cli import render
from electctl.cli.app import COMMANDS
from tests.processes import Electctl, wait_for

SCHEMAS = Path(package.__file__).parent / "schemas"
NOWHERE = "redis://127.0.0.1:1/0"


def valid(line: str, schema: str) -> dict[str, Any]:
    """The object on a line, checked against one of our schemas."""
    obj: dict[str, Any] = json.loads(line)
    jsonschema.validate(
        obj,
        json.loads((SCHEMAS / f"{schema}.schema.json").read_text()),
        cls=jsonschema.Draft202012Validator,
    )
    return obj


def test_version(electctl: Electctl) -> None:
    expected = f"electctl {package.__version__}\n"
    assert electctl.run("--version", check=0).stdout == expected
    assert electctl.run("-q", "--version", check=0).stdout == expected
    assert electctl.run("holders", "--version", check=0).stdout == expected
    module = subprocess.run(
        [sys.executable, "-m", "electctl", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == expected


# Global options ----------------------------------------------------------------------------------


def test_global_options_before_and_after_the_command(electctl: Electctl, redis_url: str) -> None:
    for args in (
        ["-b", redis_url, "--json", "holders", "a"],
        ["holders", "a", "-b", redis_url, "--json"],
        ["--json", "holders", f"--backend={redis_url}", "a"],
        ["holders", f"-b{redis_url}", "--json", "--", "a"],
    ):
        done = electctl.run(*args, check=0)
        assert valid(done.stdout, "holders")["election"] == "a"
        assert done.stderr == ""


def test_backends_given_before_and_after_add_up(electctl: Electctl, redis_url: str) -> None:
    other = redis_url.rpartition("/")[0] + "/5"
    done = electctl.run("-b", redis_url, "holders", "a", "-b", other, "--json", check=0)
    assert [json.loads(line)["url"] for line in done.stdout.splitlines()] == [redis_url, other]


def test_what_follows_two_dashes_is_never_an_option(electctl: Electctl, redis_url: str) -> None:
    done = electctl.run("holders", "-b", redis_url, "--json", "--", "--json", "-b", check=0)
    assert [json.loads(line)["election"] for line in done.stdout.splitlines()] == ["--json", "-b"]


def test_precedence_from_the_outside(electctl: Electctl, redis_url: str) -> None:
    (electctl.home / "electctl.yaml").write_text(f"backend: {NOWHERE}\n")
    electctl.run("holders", "a", check=69)
    electctl.run("holders", "a", env={"ELECTCTL_BACKEND": redis_url}, check=0)
    electctl.run("holders", "a", "-b", NOWHERE, env={"ELECTCTL_BACKEND": redis_url}, check=69)
    own = electctl.home / "own.yaml"
    own.write_text(f"elections:\n  a:\n    backend: {redis_url}\n")
    electctl.run("holders", "a", "-c", own, check=0)
    electctl.run("-c", own, "holders", "a", check=0)
    electctl.run("holders", "a", env={"ELECTCTL_CONFIG": str(own)}, check=0)
    nothing_named = electctl.run("raft", "status", "--json", "-c", own, check=69)
    assert json.loads(nothing_named.stdout)["address"].endswith("/electctl/local/socket")


def test_quiet_silences_warnings_and_not_errors(electctl: Electctl) -> None:
    config = electctl.home / "open.yaml"
    config.write_text("backend: redis://:s3cret@127.0.0.1:1/0")
    config.chmod(0o644)
    loud = electctl.run("holders", "a", "-c", config, check=69)
    quiet = electctl.run("holders", "a", "-c", config, "-q", check=69)
    assert "chmod 600" in loud.stderr
    assert "chmod 600" not in quiet.stderr
    assert "cannot be reached" in quiet.stderr
    assert "s3cret" not in loud.stdout + loud.stderr


# Errors and streams ------------------------------------------------------------------------------


def test_debug_gives_the_traceback_and_the_same_code(electctl: Electctl) -> None:
    done = electctl.run("holders", "", env={"ELECTCTL_DEBUG": "1"}, check=2)
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("hint: ")


def test_errors_are_text_also_with_json(electctl: Electctl) -> None:
    done = electctl.run("holders", "--json", "", check=2)
    assert done.stdout == ""
    assert done.stderr.startswith("electctl: the election name is empty\nhint: ")


def test_a_closed_pipe_ends_it_quietly(electctl: Electctl, redis_url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = electctl.popen("holders", "a", "-b", redis_url, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (141, "")


@pytest.mark.parametrize("args", [["--version"], ["backends"]])
def test_a_full_disk_is_one_line(electctl: Electctl, args: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = electctl.popen(*args, stdout=full)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 74
    assert stderr == "electctl: No space left on device\nhint: is there space left?\n"


def test_closed_streams_do_no_harm(electctl: Electctl) -> None:
    done = subprocess.run(
        ["bash", "-c", "electctl backends >&- 2>&-"], env=electctl.env, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_ascii_only_streams_do_no_harm(electctl: Electctl, redis_url: str) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    done = electctl.run("holders", "nächtlich", "-b", redis_url, env=env, check=0)
    assert "n\\xe4chtlich" in done.stdout


def test_ctrl_c_is_130_without_a_traceback(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    process = electctl.popen("watch", election, "-b", redis_url)
    assert process.stdout is not None
    assert "nobody leads" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "")


def test_nothing_of_a_hostile_name_reaches_the_terminal(electctl: Electctl, redis_url: str) -> None:
    name = "x\x1b]0;owned\x07\n\u202eelectctl: forged"
    for args in (["holders", name], ["evict", name], ["watch", name, "--for", "0.3"]):
        done = electctl.run(*args, "-b", redis_url)
        text = done.stdout + done.stderr
        assert "owned" in text
        assert all(ch.isprintable() or ch == "\n" for ch in text)
        assert not any(line.startswith("electctl: forged") for line in text.splitlines())


def test_arguments_that_are_not_utf8(electctl: Electctl, redis_url: str) -> None:
    done = electctl.run("holders", os.fsdecode(b"a\xff"), "-b", redis_url, check=2)
    assert "not valid UTF-8" in done.stderr


# What is loaded ----------------------------------------------------------------------------------


def _loaded(*args: str) -> set[str]:
    """The modules in memory after a run, beyond those of the bare interpreter."""
    code = f"""
import sys
bare = set(sys.modules)
from electctl.__main__ import run
run({list(args)!r})
print(*sorted(set(sys.modules) - bare), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_version_and_check_load_almost_nothing() -> None:
    heavy = {"typer", "rich", "yaml", "redis", "dataclasses", "inspect", "electctl.errors"}
    assert not _loaded("--version") & heavy
    assert not _loaded("check") & {"typer", "rich", "yaml", "redis", "electctl.core.registry"}


def test_only_what_a_command_needs_is_loaded() -> None:
    loaded = _loaded("backends")
    assert "electctl.cli.backends" in loaded
    others = {module for module, _ in COMMANDS.values()} - {"electctl.cli.backends"}
    assert not loaded & {*others, "rich", "yaml", "redis", "pydantic"}


def test_the_command_line_imports_no_backend() -> None:
    modules = " ".join(f"import {module};" for module, _ in COMMANDS.values())
    check = f"import sys; {modules} print(*(m for m in sys.modules if m.startswith('electctl_')))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Completion --------------------------------------------------------------------------------------


def _complete(electctl: Electctl, *words: str) -> list[str]:
    env = {
        "_ELECTCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("electctl", *words)),
        "COMP_CWORD": str(len(words)),
    }
    return electctl.run(env=env, check=0).stdout.split()


def test_completion_of_commands_and_options(electctl: Electctl) -> None:
    assert _complete(electctl, "ho") == ["holders"]
    assert set(_complete(electctl, "watch", "--un")) == {"--until-holder"}
    assert "--backend" in _complete(electctl, "holders", "--b")


def test_bash_completion_is_shown_and_installed(electctl: Electctl) -> None:
    def in_bash(command: str) -> str:
        # Not bash -c alone: it would replace itself by its last command, and not be seen.
        return subprocess.run(
            ["bash", "-c", f"{command}; true"],
            env=electctl.env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "complete -o default -F" in in_bash("electctl --show-completion")
    assert "bash completion installed" in in_bash("electctl --install-completion")
    found = in_bash(
        "source ~/.bash_completions/electctl.sh; COMP_WORDS=(electctl hol); COMP_CWORD=1; "
        "$(complete -p electctl | sed 's/.*-F //; s/ .*//') electctl hol; echo ${COMPREPLY[@]}"
    )
    assert found.split() == ["holders"]


# backends ----------------------------------------------------------------------------------------


def test_backends_lists_every_scheme_and_its_promises(electctl: Electctl) -> None:
    from electctl.core.registry import schemes

    table = electctl.run("backends", check=0).stdout
    lines = electctl.run("backends", "--json", check=0).stdout.splitlines()
    objects = [valid(line, "backends") for line in lines]
    assert sorted(scheme for obj in objects for scheme in obj["schemes"]) == schemes()
    for obj in objects:
        assert ", ".join(obj["schemes"]) in table
        assert obj["installed"]
        assert obj["example"] in table


# Rendering ---------------------------------------------------------------------------------------


@given(st.text())
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    assert render.shown(text).isprintable()
    assert render.message_text(text).isprintable()
    assert render.shown(text).encode("utf-8").decode() == render.shown(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 日本", "plain ä 日本"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202e\u200b\x7f", "\\u202e\\u200b\\x7f"),
        ("\udcff\ud800", "\\xff\\ud800"),
    ],
)
def test_how_it_is_shown(text: str, shown: str) -> None:
    assert render.shown(text) == shown


def test_tables_align_and_hold_hostile_cells() -> None:
    text = render.table(["A", "BB"], [["x\ny", ""], ["longer", "z"]])
    assert text == "A       BB\nx\\ny    -\nlonger  z\n"
    assert (
        render.table(["A", "BB"], [["x", ""], ["longer", "z"]], 10)
        == "A       BB\nx       -\nlonger  z\n"
    )
    narrow = render.table(["A", "BB"], [["x", ""], ["longer", "z"]], 9)
    assert narrow == "A   x\nBB  -\n\nA   longer\nBB  z\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0ms"),
        (0.85, "850ms"),
        (9.5, "9.5s"),
        (10.0, "10s"),
        (59.99, "60s"),
        (200.0, "3m20s"),
        (7500.0, "2h05m"),
        (-1.0, "0ms"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert render.seconds(value) == text


def test_live_output_only_on_a_capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    main, side = pty.openpty()
    with (
        os.fdopen(side, "w") as terminal,
        os.fdopen(main, "rb"),
        Path("/dev/null").open("w") as null,
    ):
        monkeypatch.setenv("TERM", "xterm")
        assert render.is_live(terminal)
        assert not render.is_live(null)
        monkeypatch.setenv("TERM", "dumb")
        assert not render.is_live(terminal)
        monkeypatch.delenv("TERM")
        assert not render.is_live(terminal)


# evict -------------------------------------------------------------------------------------------

LEADER = """
import sys, electctl
with electctl.connect(sys.argv[1]) as elector:
    with elector.campaign(sys.argv[2], sys.argv[3], ttl=4) as term:
        print(term.token, flush=True)
        (term.lost if sys.argv[4:] else term.stop_requested).wait()
"""


def _lead(url: str, election: str, name: str, *mode: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, url, election, name, *mode],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    return process


def test_evict_nobody(electctl: Electctl, redis_url: str, election: str) -> None:
    done = electctl.run("evict", election, "-b", redis_url, check=1)
    assert done.stderr.startswith(f"electctl: nobody leads '{election}'\nhint: ")


def test_evict_asks_and_waits(electctl: Electctl, redis_url: str, election: str) -> None:
    with _lead(redis_url, election, "worker\n1") as leader:
        done = electctl.run("evict", election, "-b", redis_url, "--wait", "15s", "--json", check=0)
        event = valid(done.stdout, "evict")
        assert (event["holder"], event["forced"]) == ("worker\n1", False)
        assert leader.wait(10) == 0
    assert "(nobody)" in electctl.run("holders", election, "-b", redis_url, check=0).stdout


def test_evict_gives_up_with_3_and_force_takes_it(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    with _lead(redis_url, election, "deaf", "ignores the request") as leader:
        done = electctl.run("evict", election, "-b", redis_url, "--wait", "2.5s", check=3)
        assert "electctl: waiting for the leader" in done.stderr
        assert "still leads" in done.stderr
        done = electctl.run("evict", election, "-b", redis_url, "--force", check=0)
        assert "can itself make two leaders" in done.stderr
        assert done.stdout.startswith("deaf (token ")
        assert leader.wait(10) == 0
    wait_for(lambda: electctl.run("evict", election, "-b", redis_url).returncode == 1)


def test_evict_on_two_backends_is_refused(electctl: Electctl, redis_url: str) -> None:
    done = electctl.run("evict", "a", "-b", redis_url, "-b", NOWHERE, check=2)
    assert "2 backends are named" in done.stderr
