"""Every ``--help`` as a snapshot. ``ELECTCTL_UPDATE_SNAPSHOTS=1`` rewrites them: read the diff."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from electctl.cli.app import root
from tests.processes import Electctl

HERE = Path(__file__).parent / "help"
_UPDATE = bool(os.environ.get("ELECTCTL_UPDATE_SNAPSHOTS"))


def _all_commands() -> list[tuple[str, ...]]:
    """Every command and subcommand as the words that call it; the empty one is ``electctl``."""
    found: list[tuple[str, ...]] = []

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found.append(words)
        if hasattr(command, "list_commands"):
            ctx = command.context_class(command)
            for name in command.list_commands(ctx):
                walk(command.get_command(ctx, name), (*words, name))

    walk(root(), ())
    return found


COMMANDS = _all_commands()


def _path(words: tuple[str, ...]) -> Path:
    return HERE / f"{'-'.join(('electctl', *words))}.txt"


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words) or "electctl")
def test_help(electctl: Electctl, words: tuple[str, ...]) -> None:
    # However wide the terminal: a page that is pasted into an issue must look like ours.
    done = electctl.run(*words, "--help", env={"COLUMNS": "200"}, check=0)
    assert done.stderr == ""
    if _UPDATE:
        HERE.mkdir(exist_ok=True)
        _path(words).write_text(done.stdout)
    assert done.stdout == _path(words).read_text()
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words) or "electctl")
def test_help_has_examples_that_call_what_exists(words: tuple[str, ...]) -> None:
    text = _path(words).read_text()
    if words and any(other[: len(words)] == words and other != words for other in COMMANDS):
        return  # a group: its commands have the examples
    _, found, examples = text.partition("\nExamples:\n")
    assert found
    calls = [line.strip() for line in examples.splitlines() if line.strip()]
    assert calls
    known = {" ".join(other) for other in COMMANDS}
    for call in calls:
        if match := re.search(r"\belectctl ([a-z]+(?: [a-z]+)?)", call):
            pair = match[1]
            assert pair in known or pair.split()[0] in known, call


def test_no_snapshot_is_left_over() -> None:
    assert {path.name for path in HERE.iterdir()} == {_path(words).name for words in COMMANDS}


def test_h_is_help(electctl: Electctl) -> None:
    done = electctl.run("holders", "-h", env={"COLUMNS": "200"}, check=0)
    assert done.stdout == _path(("holders",)).read_text()
