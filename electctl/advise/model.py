"""The tree in memory: questions, needs, classes, rules, conflicts. Built by the loader alone.

What this does not guarantee: that a tree made by hand is sound; the loader checks that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: What an answer may be beside the question's own values.
UNKNOWN = "unknown"

Test = Literal["is", "not", "without"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds where one of its alternatives does; with no alternatives, always.

    An alternative holds where each of its questions has one of the values named.
    """

    alternatives: tuple[Mapping[str, tuple[str, ...]], ...] = ()

    def holds(self, values: Mapping[str, str]) -> bool:
        """Whether it holds for these values; a question without one does not fit."""
        return not self.alternatives or self.met_by(values) is not None

    def met_by(self, values: Mapping[str, str]) -> tuple[str, ...] | None:
        """The questions of the first alternative that holds; None where none does."""
        for alternative in self.alternatives:
            if all(values.get(key) in allowed for key, allowed in alternative.items()):
                return tuple(alternative)
        return None

    def text(self) -> str:
        """As people read it: ``stakes=low and actions=idempotent, or audit=yes``."""
        return ", or ".join(
            " and ".join(f"{key}={'|'.join(allowed)}" for key, allowed in alternative.items())
            for alternative in self.alternatives
        )


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask. ``values`` go from the least demanding to the most.

    ``safe`` stands for an answer that is not known; ``default`` for one that is not given (None:
    it has to be given). A ``preference`` demands nothing, so its values have no order.
    """

    key: str
    ask: str
    why: str
    help: str
    values: Mapping[str, str]
    safe: str
    default: str | None
    kind: Literal["demand", "preference"]
    when: Condition

    def rank(self, value: str) -> int:
        """How demanding a value is."""
        return list(self.values).index(value)


@dataclass(frozen=True, slots=True)
class Need:
    """Something asked of a backend's traits."""

    key: str
    text: str
    trait: str
    test: Test
    #: For ``is`` and ``not`` the values; for ``without`` what is broken, and by which fault.
    values: tuple[str | bool, ...]


@dataclass(frozen=True, slots=True)
class Class:
    """How strong the election must be."""

    key: str
    title: str
    text: str
    needs: tuple[str, ...]
    families: tuple[str, ...]
    prefer: tuple[str, ...]
    gives_up: tuple[str, ...]
    fencing: str


@dataclass(frozen=True, slots=True)
class Note:
    """A remark that a rule makes under a further condition."""

    when: Condition
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from answers. Fires where ``when`` holds and none of ``none_of`` has fired."""

    id: str
    force: int
    title: str
    when: Condition
    none_of: tuple[str, ...]
    class_: str | None
    needs: tuple[str, ...]
    prefer: tuple[str, ...]
    build: str | None
    because: str
    source: str
    gives_up: tuple[str, ...]
    fencing: str
    notes: tuple[Note, ...]
    #: The fault that shows what the rule is about.
    fault: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Answers that do not go well together, and the rule that wins."""

    when: Condition
    text: str
    wins: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree; ``name`` is the file it is from. ``classes`` go from the weakest up."""

    name: str
    title: str
    questions: Mapping[str, Question]
    needs: Mapping[str, Need]
    classes: Mapping[str, Class]
    rules: tuple[Rule, ...]
    conflicts: tuple[Conflict, ...]

    def strength(self, class_: str) -> int:
        """How strong a class is: its place in ``classes``."""
        return list(self.classes).index(class_)

    def needs_of(self, class_: str) -> tuple[str, ...]:
        """What a class needs: its own needs, and those of every weaker one."""
        upto = list(self.classes.values())[: self.strength(class_) + 1]
        return tuple(dict.fromkeys(need for found in reversed(upto) for need in found.needs))
