"""Reads a tree, strictly. docs/advise.md describes the format.

What a tree that was read is known to be: complete (some rule always decides), monotone (a more
demanding answer never fires fewer of the rules that demand something), and free of names that do
not exist. What is not known: that its advice is good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from electctl.advise.model import (
    UNKNOWN,
    Class,
    Condition,
    Conflict,
    Need,
    Note,
    Question,
    Rule,
    Test,
    Tree,
)
from electctl.base import nodes
from electctl.contract.traits import Family, Traits, Weakness
from electctl.errors import ConfigError

if TYPE_CHECKING:
    from yaml.nodes import Node

FORMAT = "1"
OWN = "tree.yaml"
_KEY = re.compile(r"[a-z][a-z0-9_-]*")
_TESTS: tuple[Test, ...] = get_args(Test)
_FILE = ("format", "title", "questions", "needs", "classes", "rules", "conflicts")
_QUESTION = ("ask", "why", "help", "values", "safe", "default", "kind", "when")
_CLASS = ("title", "text", "needs", "families", "prefer", "gives_up", "fencing")
_RULE = (
    *("id", "force", "title", "when", "none_of", "class", "needs", "prefer", "build", "because"),
    *("source", "gives_up", "fencing", "notes", "fault"),
)


def load(path: Path | None = None) -> Tree:
    """The tree in ``path``, or our own. Raises ConfigError with file, line and cause."""
    if path is None:
        raw = files("electctl.advise").joinpath(OWN).read_bytes()
    else:
        raw = nodes.read_bytes(path, "tree")
    return parse(raw, OWN if path is None else str(path))


def parse(raw: bytes, name: str) -> Tree:
    """The tree in a text. Raises ConfigError with ``name``, line and cause."""
    root = nodes.compose(raw, name, hint="docs/advise.md has the format")
    reader = _Reader(name, "key: value, as in docs/advise.md")
    if root is None:
        raise reader.broken("the tree is empty")
    return reader.tree(root)


class _Reader(nodes.Reader):
    """Turns nodes into a tree. The parts that others refer to are read first."""

    def broken(self, cause: str) -> ConfigError:
        """An error of the whole file."""
        return ConfigError(f"{self.name}:1: {cause}", hint="docs/advise.md has the format")

    def tree(self, root: Node) -> Tree:
        """The whole file."""
        entries = self.entries(root, "the tree", _FILE)
        for key in _FILE[:-1]:
            if key not in entries:
                raise self.broken(f"{key!r} is missing")
        version = self.text(entries["format"], "format")
        if version != FORMAT:
            raise self.error(
                entries["format"], f"format {version} is not known", f"format: {FORMAT}"
            )
        self._questions: dict[str, Question] = {}
        for key, node in self._named(entries["questions"], "questions"):
            self._questions[key] = self._question(key, node)
        self._needs = {
            key: self._need(key, node) for key, node in self._named(entries["needs"], "needs")
        }
        self._classes = {
            key: self._class(key, node) for key, node in self._named(entries["classes"], "classes")
        }
        self._rules: list[Rule] = []
        for node in self._items(entries["rules"], "rules"):
            self._rules.append(self._rule(node))
        self._decides_always(entries["rules"])
        conflicts = entries.get("conflicts")
        return Tree(
            self.name,
            self.text(entries["title"], "title"),
            self._questions,
            self._needs,
            self._classes,
            tuple(self._rules),
            ()
            if conflicts is None
            else tuple(self._conflict(node) for node in self._items(conflicts, "conflicts")),
        )

    # Parts ---------------------------------------------------------------------------------------

    def _question(self, key: str, node: Node) -> Question:
        what = f"question {key!r}"
        entries = self.entries(node, what, _QUESTION)
        self._required(node, entries, what, "ask", "why", "values", "safe")
        values = {
            name: self.text(child, f"value {name!r} of {what}")
            for name, child in self._named(entries["values"], f"values of {what}")
        }
        if len(values) < 2:
            raise self.error(entries["values"], f"{what} has fewer than two values", "add one")
        if UNKNOWN in values:
            raise self.error(
                entries["values"], f"{what} has a value 'unknown'", "everybody may say that already"
            )
        kind = (
            self.one_of(entries["kind"], "kind", ("demand", "preference"))
            if ("kind" in entries)
            else "demand"
        )
        safe = self.one_of(entries["safe"], f"safe of {what}", tuple(values))
        if kind == "demand" and safe != list(values)[-1]:
            raise self.error(
                entries["safe"],
                f"the safe side of {what} must be its most demanding value, the last one",
                "put the values in order, or say kind: preference",
            )
        return Question(
            key,
            self.text(entries["ask"], "ask"),
            self.text(entries["why"], "why"),
            self._text_or_nothing(entries, "help"),
            values,
            safe,
            self.one_of(entries["default"], f"default of {what}", tuple(values))
            if "default" in entries
            else None,
            "demand" if kind == "demand" else "preference",
            self._when(entries, f"when of {what}"),
        )

    def _need(self, key: str, node: Node) -> Need:
        what = f"need {key!r}"
        entries = self.entries(node, what, ("text", "trait", *_TESTS))
        self._required(node, entries, what, "text", "trait")
        hints = get_type_hints(Traits)
        trait = self.one_of(entries["trait"], f"trait of {what}", tuple(hints))
        tests = [test for test in _TESTS if test in entries]
        if len(tests) != 1:
            raise self.error(node, f"{what} must have one of is, not, without", "is: quorum")
        (test,) = tests
        if (test == "without") != (trait == "weaknesses"):
            raise self.error(
                entries[test],
                f"{what}: 'without' goes with trait: weaknesses, and that with nothing else",
                "without: {breaks: exclusion, fault: clock}",
            )
        values: tuple[str | bool, ...]
        if test == "without":
            values = self._weakness(entries[test], what)
        else:
            values = self._trait_values(entries[test], trait, hints[trait])
        return Need(key, self.text(entries["text"], "text"), trait, test, values)

    def _weakness(self, node: Node, what: str) -> tuple[str, ...]:
        entries = self.entries(node, f"without of {what}", ("breaks", "fault"))
        self._required(node, entries, what, "breaks", "fault")
        kinds = get_args(get_args(get_type_hints(Weakness)["breaks"])[0])
        return (
            self.one_of(entries["breaks"], "breaks", kinds),
            self.text(entries["fault"], "fault"),
        )

    def _trait_values(self, node: Node, trait: str, hint: Any) -> tuple[str | bool, ...]:
        if hint is bool:
            return (self.one_of(node, trait, ("true", "false")) == "true",)
        if get_origin(hint) is not Literal:
            raise self.error(
                node, f"the trait {trait!r} is not one of a few values", "family, order, wakeup, …"
            )
        return tuple(self._names(node, trait, get_args(hint)))

    def _class(self, key: str, node: Node) -> Class:
        what = f"class {key!r}"
        entries = self.entries(node, what, _CLASS)
        self._required(node, entries, what, "title", "text", "families")
        return Class(
            key,
            self.text(entries["title"], "title"),
            self.text(entries["text"], "text"),
            self._list(entries, "needs", tuple(self._needs)),
            self._list(entries, "families", get_args(Family)),
            self._list(entries, "prefer"),
            self._list(entries, "gives_up"),
            self._text_or_nothing(entries, "fencing"),
        )

    def _rule(self, node: Node) -> Rule:
        entries = self.entries(node, "a rule", _RULE)
        self._required(node, entries, "a rule", "id", "force", "title", "because")
        earlier = tuple(rule.id for rule in self._rules)
        id_ = self.text(entries["id"], "id")
        what = f"rule {id_!r}"
        if id_ in earlier:
            raise self.error(entries["id"], f"{what} is given twice", "every rule has its own id")
        force = self.text(entries["force"], "force")
        if not re.fullmatch(r"[0-9]{1,3}", force):
            raise self.error(entries["force"], "force must be a number up to 999", "force: 1")
        if self._rules and int(force) < self._rules[-1].force:
            raise self.error(
                entries["force"],
                f"{what} comes after a rule of force {self._rules[-1].force}",
                "the rules go in order of force, 1 first",
            )
        class_ = (
            self.one_of(entries["class"], f"class of {what}", tuple(self._classes))
            if "class" in entries
            else None
        )
        rule = Rule(
            id_,
            int(force),
            self.text(entries["title"], "title"),
            self._when(entries, f"when of {what}"),
            self._list(entries, "none_of", earlier),
            class_,
            self._list(entries, "needs", tuple(self._needs)),
            self._list(entries, "prefer"),
            self._text_or_nothing(entries, "build") or None,
            self.text(entries["because"], "because"),
            self._text_or_nothing(entries, "source"),
            self._list(entries, "gives_up"),
            self._text_or_nothing(entries, "fencing"),
            tuple(map(self._note, self._items(entries["notes"], "notes")))
            if "notes" in entries
            else (),
            self._text_or_nothing(entries, "fault"),
        )
        self._is_monotone(rule, node, entries)
        return rule

    def _note(self, node: Node) -> Note:
        entries = self.entries(node, "a note", ("when", "text"))
        self._required(node, entries, "a note", "text")
        return Note(self._when(entries, "when of a note"), self.text(entries["text"], "text"))

    def _conflict(self, node: Node) -> Conflict:
        entries = self.entries(node, "a conflict", ("when", "text", "wins"))
        self._required(node, entries, "a conflict", "when", "text", "wins")
        when = self._when(entries, "when of a conflict")
        rules = {rule.id: rule for rule in self._rules}
        wins = self.one_of(entries["wins"], "wins", tuple(rules))
        for alternative in when.alternatives:
            if len(alternative) < 2:
                raise self.error(
                    entries["when"], "a conflict is between two answers or more", "add one"
                )
            if rules[wins].none_of or not _implies(alternative, rules[wins].when):
                raise self.error(
                    entries["wins"],
                    f"rule {wins!r} does not fire for every answer in this conflict",
                    "the rule that wins must follow from one of the answers",
                )
        return Conflict(when, self.text(entries["text"], "text"), wins)

    # What makes a tree sound ---------------------------------------------------------------------

    def _is_monotone(self, rule: Rule, node: Node, entries: Mapping[str, Node]) -> None:
        """A rule that demands must go on firing when an answer becomes more demanding."""
        weakest = next(iter(self._classes))
        if rule.none_of and rule.class_ is None:
            raise self.error(
                entries["none_of"], "none_of is for a rule that has a class", "class: …"
            )
        demands = rule.needs or rule.build or rule.class_ not in (None, weakest)
        if not demands:
            return
        if rule.none_of:
            raise self.error(
                entries["none_of"],
                f"rule {rule.id!r} demands something, so no other rule may silence it",
                "leave none_of out",
            )
        for alternative in rule.when.alternatives:
            for key, allowed in alternative.items():
                question = self._questions[key]
                if question.kind == "preference":
                    raise self.error(
                        entries["when"],
                        f"rule {rule.id!r} demands something for a mere preference ({key})",
                        "a rule for a preference may only have prefer",
                    )
                lowest = min(map(question.rank, allowed))
                left_out = [v for v in list(question.values)[lowest:] if v not in allowed]
                if left_out:
                    raise self.error(
                        entries["when"],
                        f"rule {rule.id!r} would demand less for {key}={left_out[0]} than for "
                        f"{key}={list(question.values)[lowest]}",
                        f"name every value from there on: {key}: "
                        f"[{', '.join(list(question.values)[lowest:])}]",
                    )

    def _decides_always(self, node: Node) -> None:
        """Some rule with a class fires whatever the answers are."""
        deciding = {rule.id for rule in self._rules if rule.class_ is not None}
        for rule in self._rules:
            if rule.class_ and not rule.when.alternatives and deciding.issuperset(rule.none_of):
                return
        raise self.error(
            node,
            "no rule decides where none of the others does",
            "let the last rule with a class have none_of (rules with a class) and no when",
        )

    # Values --------------------------------------------------------------------------------------

    def text(self, node: Node, what: str) -> str:
        """A text that is not empty, as it is written."""
        if not nodes.is_scalar(node) or not node.value:
            raise self.error(node, f"{what} must be a text", f"{what.split()[0]}: …")
        return str(node.value)

    def one_of(self, node: Node, what: str, known: tuple[str, ...]) -> str:
        """A word that is known."""
        word = self.text(node, what)
        if word not in known:
            raise self.error(node, f"{what}: {word!r} is not known", nodes.nearest(word, known))
        return word

    def _names(self, node: Node, what: str, known: tuple[str, ...] | None = None) -> list[str]:
        """One word or a list of them."""
        items = node.value if nodes.is_sequence(node) else [node]
        if not items:
            raise self.error(node, f"{what} is an empty list", "leave it out, or name one")
        if known is None:
            return [self.text(item, what) for item in items]
        return [self.one_of(item, what, known) for item in items]

    def _list(
        self, entries: Mapping[str, Node], key: str, known: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        return tuple(self._names(entries[key], key, known)) if key in entries else ()

    def _text_or_nothing(self, entries: Mapping[str, Node], key: str) -> str:
        return self.text(entries[key], key) if key in entries else ""

    def _when(self, entries: Mapping[str, Node], what: str) -> Condition:
        """One mapping or a list of them; questions that were read already, with their values."""
        if "when" not in entries:
            return Condition()
        node = entries["when"]
        alternatives = []
        for item in node.value if nodes.is_sequence(node) else [node]:
            alternative = {}
            for key, child in self.pairs(item, what):
                if key not in self._questions:
                    raise self.error(
                        child,
                        f"{what} names the question {key!r}, which is not there yet",
                        nodes.nearest(key, tuple(self._questions)),
                    )
                known = tuple(self._questions[key].values)
                alternative[key] = tuple(self._names(child, key, known))
            if not alternative:
                raise self.error(item, f"{what} is empty", "leave it out, or name an answer")
            alternatives.append(alternative)
        if not alternatives:
            raise self.error(node, f"{what} is empty", "leave it out, or name an answer")
        return Condition(tuple(alternatives))

    # Structure -----------------------------------------------------------------------------------

    def _named(self, node: Node, what: str) -> list[tuple[str, Node]]:
        pairs = self.pairs(node, what)
        if not pairs:
            raise self.error(node, f"{what} must not be empty", "docs/advise.md has the format")
        for key, _ in pairs:
            if not _KEY.fullmatch(key):
                raise self.error(
                    nodes.key_node(node, key),
                    f"{key!r} in {what} is not a name",
                    "small letters, digits, - and _; a letter first",
                )
        return pairs

    def _items(self, node: Node, what: str) -> list[Node]:
        if not nodes.is_sequence(node) or not node.value:
            raise self.error(node, f"{what} must be a list", "- …")
        return list(node.value)

    def _required(self, node: Node, entries: Mapping[str, Node], what: str, *keys: str) -> None:
        for key in keys:
            if key not in entries:
                raise self.error(node, f"{what} has no {key!r}", f"add {key}: …")


def _implies(alternative: Mapping[str, tuple[str, ...]], condition: Condition) -> bool:
    """Whether ``condition`` holds wherever ``alternative`` does."""
    return not condition.alternatives or any(
        all(
            key in alternative and set(alternative[key]) <= set(allowed)
            for key, allowed in other.items()
        )
        for other in condition.alternatives
    )
