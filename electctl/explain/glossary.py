"""The vocabulary of leader election, as data: ``terms.yaml`` beside this file.

What this does not guarantee: completeness. It has the words that electctl's messages use and that
people search for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

from electctl.errors import UsageError

FAQ = "faq"
_WORD = re.compile(r"[a-z0-9]+")
#: Words of a question that say nothing of what it is about.
_FILLERS = frozenset(re.findall(r"\w+", "a an and are be can do does i in is it my of the to what"))


@dataclass(frozen=True, slots=True)
class Example:
    """A command, and what it shows."""

    run: str
    shows: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A term, or a question that is often asked.

    A term has ``what``, ``wrong`` and ``said``. A question has ``brief``, the question itself, and
    ``what``, the answer. ``see`` are names of other entries.
    """

    kind: Literal["term", "question"]
    name: str
    aliases: tuple[str, ...]
    brief: str
    what: str
    wrong: str
    said: tuple[str, ...]
    commands: tuple[Example, ...]
    see: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Glossary:
    """All entries, and how one is found."""

    entries: tuple[Entry, ...]

    @cached_property
    def terms(self) -> tuple[Entry, ...]:
        """The terms, in the order of the file: related ones stand together."""
        return tuple(entry for entry in self.entries if entry.kind == "term")

    @cached_property
    def questions(self) -> tuple[Entry, ...]:
        """The questions."""
        return tuple(entry for entry in self.entries if entry.kind == "question")

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {_key(name): entry for entry in self.entries for name in entry.names}

    def find(self, words: str) -> list[Entry]:
        """The entries that are meant: one by its name or an alias, else questions by their words.

        ``faq`` is all questions; words find those that have all of them in the question or its
        names. Raises UsageError with the nearest names.
        """
        key = _key(words)
        if key == FAQ:
            return list(self.questions)
        if key in self._by_name:
            return [self._by_name[key]]
        wanted = _words(words) - {FAQ}
        if wanted and (found := [q for q in self.questions if wanted <= _words_of(q)]):
            return found
        raise UsageError(f"there is no entry for {words!r}", hint=self._nearest(key))

    def _nearest(self, key: str) -> str:
        near = get_close_matches(key, self._by_name, 3)
        # A part of a name ("split", "zookeeper's lease") is as good a clue as a slip of the pen.
        near += [name for name in self._by_name if _words(key) & _words(name)]
        names = list(dict.fromkeys(self._by_name[name].name for name in near))[:3]
        if not names:
            return "electctl explain lists the terms"
        return f"did you mean {' or '.join(names)}?"


def load() -> Glossary:
    """The glossary that ships with the package."""
    import yaml

    text = (files("electctl.explain") / "terms.yaml").read_text(encoding="utf-8")
    # The parser in C, where PyYAML was built with it: a tenth of a second less to wait.
    return Glossary(
        tuple(_entries(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))))
    )


def _entries(data: dict[str, list[dict[str, Any]]]) -> Iterator[Entry]:
    for item in data["terms"]:
        yield _entry("term", item, item["brief"], item["what"], item["wrong"], item["said"])
    for item in data["questions"]:
        yield _entry("question", item, item["question"], item["answer"], "", [])


def _entry(
    kind: Literal["term", "question"],
    item: dict[str, Any],
    brief: str,
    what: str,
    wrong: str,
    said: list[str],
) -> Entry:
    commands = tuple(Example(**command) for command in item["commands"])
    names = tuple(item["aliases"])
    return Entry(
        kind, item["name"], names, brief, what, wrong, tuple(said), commands, tuple(item["see"])
    )


def _key(text: str) -> str:
    """A name as it is looked up: case, hyphens, apostrophes and double blanks do not matter."""
    return " ".join(re.sub(r"['’]", "", text.casefold()).replace("-", " ").split())


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_key(text))) - _FILLERS


def _words_of(question: Entry) -> frozenset[str]:
    return _words(" ".join((question.brief, *question.names)))
