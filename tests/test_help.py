"""Every ``--help`` as a snapshot. ``ELECTCTL_UPDATE_SNAPSHOTS=1`` rewrites them: read the diff."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from electctl.cli.app import invoke, root
from tests.processes import Electctl

pytestmark = pytest.mark.warm

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


def _examples(words: tuple[str, ...]) -> list[str]:
    _, _, examples = _path(words).read_text().partition("\nExamples:\n")
    return [line.strip() for line in examples.splitlines() if line.strip()]


def _is_group(words: tuple[str, ...]) -> bool:
    return any(len(other) > len(words) and other[: len(words)] == words for other in COMMANDS)


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if not _is_group(words)], ids="-".join
)
def test_every_command_has_examples_that_parse(words: tuple[str, ...]) -> None:
    found = _examples(words)
    assert found
    for example in found:
        words_of_it = shlex.split(example)
        args = words_of_it[words_of_it.index("electctl") + 1 :]
        command = next(
            w for w in sorted(COMMANDS, key=len, reverse=True) if args[: len(w)] == list(w)
        )
        assert command, example
        # --help is looked at after every option has been found to exist and to have its value.
        assert invoke([*command, "--help", *args[len(command) :]]) == 0, example


def test_no_snapshot_is_left_over() -> None:
    assert {path.name for path in HERE.iterdir()} == {_path(words).name for words in COMMANDS}


def test_h_is_help(electctl: Electctl) -> None:
    done = electctl.run("holders", "-h", env={"COLUMNS": "200"}, check=0)
    assert done.stdout == _path(("holders",)).read_text()
