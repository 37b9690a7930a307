"""Answers and traits in, a verdict out. Pure: no clock, no files, no backend by name.

Monotone: one more demanding answer never gives a weaker class, fewer needs or more fitting
backends. That follows from the checks of the loader: a rule that demands something goes on firing.
And an answer that is not known counts as the most demanding one.

What this does not guarantee: that a backend keeps what its traits promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from electctl.advise.model import UNKNOWN, Class, Conflict, Need, Question, Rule, Tree
from electctl.contract.traits import Traits

#: How an answer came about: given, "unknown" was given, not given and it has a default, not given
#: and none.
State = Literal["given", "unknown", "default", "missing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What counts as the answer to one question."""

    question: Question
    value: str
    state: State
    #: Whether the other answers make it worth asking.
    asked: bool


@dataclass(frozen=True, slots=True)
class Option:
    """An installed backend: its URL schemes, what they promise, and a URL as an example."""

    schemes: tuple[str, ...]
    traits: Traits
    example: str = ""


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a backend does not fit: the need, and what the trait is instead."""

    need: Need
    actual: str

    def __str__(self) -> str:
        what = "what breaks it:" if self.need.test == "without" else f"{self.need.trait} is"
        return f"{what} {self.actual.rstrip('.')}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A backend, and what it lacks; it fits if that is nothing."""

    option: Option
    lacks: tuple[Lack, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that fired, and the answers that made it."""

    rule: Rule
    answers: tuple[Answer, ...]
    #: Its class is weaker than what the answers need: a stronger rule has won.
    overruled: bool


@dataclass(frozen=True, slots=True)
class Clash:
    """A conflict, and the rule that wins."""

    text: str
    wins: Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the answers. ``fits`` is in order, the best first; it may be empty."""

    tree: Tree
    answers: Mapping[str, Answer]
    class_: Class
    build: str | None
    needs: tuple[Need, ...]
    path: tuple[Step, ...]
    conflicts: tuple[Clash, ...]
    gives_up: tuple[str, ...]
    fencing: tuple[str, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]
    fits: tuple[Option, ...]
    refused: tuple[Judged, ...]

    @property
    def best(self) -> Option | None:
        """The first that fits; None if none of the installed ones does."""
        return self.fits[0] if self.fits else None

    @property
    def surplus(self) -> Class | None:
        """A stronger class than the answers need that the best meets too; the strongest such."""
        found = None
        if self.best is not None:
            for class_ in list(self.tree.classes.values())[
                self.tree.strength(self.class_.key) + 1 :
            ]:
                needs = [self.tree.needs[name] for name in self.tree.needs_of(class_.key)]
                if not judge(self.best, needs).lacks:
                    found = class_
        return found

    def wanted_by(self, need: Need) -> list[Rule]:
        """The rules that raise a need, the strongest first."""
        return _wanted_by(self.tree, need, [step.rule for step in self.path])


@dataclass(frozen=True, slots=True)
class Change:
    """One answer that would change the verdict if it were another."""

    question: Question
    value: str
    verdict: Verdict = field(repr=False)
    #: What would be different.
    differs: tuple[Literal["class", "build", "needs", "best"], ...]


def weigh(tree: Tree, said: Mapping[str, str]) -> dict[str, Answer]:
    """What counts as the answer to each question; ``said``: key → value or ``unknown``.

    A question that the answers before it make pointless counts like one that is not answered.
    """
    answers: dict[str, Answer] = {}
    values: dict[str, str] = {}
    for key, question in tree.questions.items():
        given = said.get(key)
        state: State
        if given == UNKNOWN:
            value, state = question.safe, "unknown"
        elif given is not None:
            value, state = given, "given"
        elif question.default is not None:
            value, state = question.default, "default"
        else:
            value, state = question.safe, "missing"
        answers[key] = Answer(question, value, state, question.when.holds(values))
        values[key] = value
    return answers


def missing(tree: Tree, said: Mapping[str, str]) -> list[Question]:
    """The questions that must be answered and are not."""
    return [
        answer.question
        for answer in weigh(tree, said).values()
        if answer.state == "missing" and answer.asked
    ]


def judge(option: Option, needs: Sequence[Need]) -> Judged:
    """A backend against needs."""
    lacks = (
        Lack(need, actual)
        for need in needs
        if (actual := _failing(option.traits, need)) is not None
    )
    return Judged(option, tuple(lacks))


def evaluate(tree: Tree, said: Mapping[str, str], options: Sequence[Option] = ()) -> Verdict:
    """The verdict. ``said``: key → value or ``unknown``; ``options``: what is installed."""
    answers = weigh(tree, said)
    values = {key: answer.value for key, answer in answers.items()}
    fired = _fired(tree, values)
    class_ = max(
        (tree.classes[rule.class_] for rule in fired if rule.class_ is not None),
        key=lambda found: tree.strength(found.key),
    )
    own = tree.needs_of(class_.key)
    names = dict.fromkeys([*own, *(need for rule in fired for need in rule.needs)])
    needs = tuple(tree.needs[name] for name in names)
    judged = [judge(option, needs) for option in options]
    ranked = sorted(judged, key=lambda found: _preference(found.option, fired, class_))
    refused = tuple(found for found in ranked if found.lacks)
    return Verdict(
        tree=tree,
        answers=answers,
        class_=class_,
        build=next((rule.build for rule in fired if rule.build is not None), None),
        needs=needs,
        path=tuple(_step(tree, rule, answers, values, class_) for rule in fired),
        conflicts=(*_conflicts(tree, answers, values), *_unfit(tree, fired, refused)),
        gives_up=_unique([*class_.gives_up, *(text for rule in fired for text in rule.gives_up)]),
        fencing=_unique([class_.fencing, *(rule.fencing for rule in fired)]),
        notes=(
            *(note.text for rule in fired for note in rule.notes if note.when.holds(values)),
            *_absent(tree, fired, options),
        ),
        faults=_unique(rule.fault for rule in fired),
        fits=tuple(found.option for found in ranked if not found.lacks),
        refused=refused,
    )


def sensitivity(
    tree: Tree, said: Mapping[str, str], options: Sequence[Option] = ()
) -> list[Change]:
    """Which single answer, if it were another one, would change the verdict, and to what."""
    base = evaluate(tree, said, options)
    changes = []
    for key, answer in base.answers.items():
        for value in answer.question.values:
            if value == answer.value:
                continue
            other = evaluate(tree, {**said, key: value}, options)
            differs: list[Literal["class", "build", "needs", "best"]] = []
            if other.class_ != base.class_:
                differs.append("class")
            if other.build != base.build:
                differs.append("build")
            if set(other.needs) != set(base.needs):
                differs.append("needs")
            if other.best != base.best:
                differs.append("best")
            if differs:
                changes.append(Change(answer.question, value, other, tuple(differs)))
    return changes


def _fired(tree: Tree, values: Mapping[str, str]) -> list[Rule]:
    fired: dict[str, Rule] = {}
    for rule in tree.rules:
        if rule.when.holds(values) and not any(id_ in fired for id_ in rule.none_of):
            fired[rule.id] = rule
    return list(fired.values())


def _step(
    tree: Tree, rule: Rule, answers: Mapping[str, Answer], values: Mapping[str, str], class_: Class
) -> Step:
    keys = rule.when.met_by(values) or ()
    weaker = rule.class_ is not None and tree.strength(rule.class_) < tree.strength(class_.key)
    return Step(rule, tuple(answers[key] for key in keys), weaker)


def _preference(option: Option, fired: Sequence[Rule], class_: Class) -> tuple[int, int, str]:
    """Where a backend stands in the order: by scheme, by family, by title."""
    schemes = [scheme for rule in fired for scheme in rule.prefer] + list(class_.prefer)
    place = min((schemes.index(s) for s in option.schemes if s in schemes), default=len(schemes))
    family = option.traits.family
    kinds = class_.families
    return (
        place,
        kinds.index(family) if family in kinds else len(kinds),
        option.traits.title.casefold(),
    )


def _failing(traits: Traits, need: Need) -> str | None:
    """What the trait is instead; None if the need is met."""
    if need.test == "without":
        breaks, fault = need.values
        for weakness in traits.weaknesses:
            if breaks in weakness.breaks and weakness.fault.partition(":")[0] == fault:
                return weakness.text
        return None
    actual = getattr(traits, need.trait)
    if (actual in need.values) == (need.test == "is"):
        return None
    return {True: "yes", False: "no"}.get(actual, str(actual))


def _conflicts(tree: Tree, answers: Mapping[str, Answer], values: Mapping[str, str]) -> list[Clash]:
    """Among answers that were given: what is only assumed contradicts nobody."""
    rules = {rule.id: rule for rule in tree.rules}
    given = {key: values[key] for key, answer in answers.items() if answer.state == "given"}

    def clash(conflict: Conflict) -> Clash:
        return Clash(conflict.text, rules[conflict.wins])

    return [clash(found) for found in tree.conflicts if found.when.met_by(given) is not None]


def _unfit(tree: Tree, fired: Sequence[Rule], refused: Sequence[Judged]) -> Iterator[Clash]:
    """What is there already, and too weak for what a stronger rule needs."""
    for rule in filter(partial(_states_a_preference, tree), fired):
        for judged in refused:
            if set(rule.prefer).isdisjoint(judged.option.schemes):
                continue
            lack = judged.lacks[0]
            title = judged.option.traits.title
            yield Clash(
                f"{rule.title}, yet {title} is too weak: {lack}.",
                _wanted_by(tree, lack.need, fired)[0],
            )


def _absent(tree: Tree, fired: Sequence[Rule], options: Sequence[Option]) -> Iterator[str]:
    """What is there already, and nobody has installed a backend for."""
    installed = {scheme for option in options for scheme in option.schemes}
    for rule in filter(partial(_states_a_preference, tree), fired):
        if installed.isdisjoint(rule.prefer):
            yield f"{rule.title}, but no backend for {rule.prefer[0]}:// is installed."


def _states_a_preference(tree: Tree, rule: Rule) -> bool:
    """Whether a rule prefers something because the answers do."""
    keys = {key for alternative in rule.when.alternatives for key in alternative}
    return bool(rule.prefer) and any(tree.questions[key].kind == "preference" for key in keys)


def _wanted_by(tree: Tree, need: Need, fired: Sequence[Rule]) -> list[Rule]:
    return [
        rule
        for rule in fired
        if need.key in rule.needs
        or (rule.class_ is not None and need.key in tree.needs_of(rule.class_))
    ]


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
