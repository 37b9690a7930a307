"""Answers from the command line, files and the config file, checked against a tree.

What this does not guarantee: that every question has an answer; see
:func:`electctl.advise.evaluator.missing`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from electctl.advise.evaluator import missing
from electctl.advise.model import UNKNOWN, Question, Tree
from electctl.base import nodes
from electctl.errors import ConfigError, UsageError


def from_settings(tree: Tree, pairs: Sequence[str]) -> dict[str, str]:
    """What ``--set key=value`` says; the last one wins. Raises UsageError."""
    said = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(
                f"--set {pair}: it must be key=value", hint=f"as in --set {_example(tree)}"
            )
        said[key] = value
        _check(tree, key, value, f"--set {pair}", UsageError)
    return said


def from_file(tree: Tree, raw: bytes, name: str) -> dict[str, str]:
    """What an answers file says, YAML or JSON. Raises ConfigError with file and line."""
    root = nodes.compose(raw, name, hint=f"key: value lines, as in {_example(tree, ': ')}")
    reader = nodes.Reader(name, _example(tree, ": "))
    said = {}
    for key, node in [] if root is None else reader.pairs(root, "the file"):
        said[key] = reader.answer(key, node)
        _check(tree, key, said[key], reader.place(node), ConfigError)
    return said


def from_config(tree: Tree, answers: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """What stands in the config file: key → (value, place). Raises ConfigError."""
    for key, (value, place) in answers.items():
        _check(tree, key, value, place, ConfigError)
    return {key: value for key, (value, _) in answers.items()}


def read(source: str) -> tuple[bytes, str]:
    """The content and the name of ``--answers FILE``; ``-`` is stdin. Raises ConfigError."""
    if source == "-":
        if sys.stdin is None:
            raise ConfigError("--answers -: stdin is closed", hint="--answers FILE reads a file")
        return nodes.read_stream(sys.stdin.buffer, "stdin"), "stdin"
    return nodes.read_bytes(Path(source), "answers file"), source


def require_all(tree: Tree, said: Mapping[str, str], whose: str = "") -> None:
    """Raise UsageError naming every question that has to be answered and is not."""
    absent = missing(tree, said)
    if not absent:
        return
    keys = ", ".join(question.key for question in absent)
    one = absent[0]
    raise UsageError(
        f"{whose}{'an answer is' if len(absent) == 1 else 'answers are'} missing: {keys}",
        hint=f"--set {one.key}={'|'.join(one.values)}, or {one.key}={UNKNOWN}; the same for each",
    )


def value_of(question: Question, text: str) -> str | None:
    """The value that a text means: itself, or ``unknown``; None if it is neither."""
    return text if text in question.values or text == UNKNOWN else None


def _check(
    tree: Tree, key: str, value: str, where: str, kind: type[UsageError] | type[ConfigError]
) -> None:
    question = tree.questions.get(key)
    if question is None:
        raise kind(
            f"{where}: there is no question {key!r}", hint=nodes.nearest(key, tuple(tree.questions))
        )
    if value_of(question, value) is None:
        known = (*question.values, UNKNOWN)
        raise kind(f"{where}: {value!r} does not answer {key}", hint=nodes.nearest(value, known))


def _example(tree: Tree, between: str = "=") -> str:
    question = next(iter(tree.questions.values()))
    return f"{question.key}{between}{next(iter(question.values))}"
