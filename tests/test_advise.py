"""The tree: its branches and rules, what an evaluator must keep, and what a loader must refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.advise import loader
from electctl.advise.evaluator import Option, Verdict, evaluate, judge, missing, sensitivity, weigh
from electctl.advise.model import UNKNOWN, Tree
from electctl.cli.app import COMMANDS
from electctl.contract.traits import Exclusion, Family, Traits, Weakness
from electctl.core.registry import plugins
from electctl.errors import ConfigError

TREE = loader.load()
TEXT = Path(loader.__file__).with_name(loader.OWN).read_text()
#: Answers that demand as little as there is to demand.
LEAST = {key: next(iter(q.values)) for key, q in TREE.questions.items() if q.kind == "demand"}


#: Where it is something else than a lease.
EXCLUSION: dict[Family, Exclusion] = {"consensus": "quorum", "no-quorum": "best effort"}


def backend(scheme: str, family: Family, **changes: object) -> Option:
    """A backend that is as good as its family can be, but for ``changes``."""
    strong = family == "consensus"
    base = Traits(
        scheme=scheme,
        title=scheme.title(),
        mechanism="",
        family=family,
        exclusion=EXCLUSION.get(family, "lease"),
        scope="",
        judge="store",
        expiry_decided_by="",
        clocks="",
        token="index" if strong else "counter",
        token_sound=strong,
        order="fifo" if strong else "none",
        wakeup="notify",
        herd="one",
        checkpoint=True,
        failover="ttl",
    )
    return Option((scheme,), replace(base, **changes))  # type: ignore[arg-type]


SKEWED = Weakness("the clock can be set", breaks=("exclusion",), fault="clock")
LOCK = backend("redis", "ttl-lock", weaknesses=(SKEWED,))
OPTIONS = [
    backend("dynamodb", "managed-lock"),
    backend("zk", "consensus"),
    LOCK,
    backend("bully", "no-quorum"),
    backend("etcd", "consensus"),
    backend(
        "k8s", "consensus", order="none", judge="observer", needs_observation=True, wakeup="poll"
    ),
    backend("raft", "consensus"),
    backend("local", "consensus", reach="host"),
    backend("theirs", "consensus", checkpoint=False),
]


def advice(said: Mapping[str, str], tree: Tree = TREE) -> Verdict:
    return evaluate(tree, said, OPTIONS)


def fired(verdict: Verdict) -> list[str]:
    return [step.rule.id for step in verdict.path]


def schemes(verdict: Verdict) -> list[str]:
    return [option.schemes[0] for option in verdict.fits]


# The tree that ships -----------------------------------------------------------------------------

JOB = {"audit": "no", "actions": "reversible", "stakes": "medium", "partitions": "rare"}
NIGHTLY = {**JOB, "actions": "idempotent", "stakes": "low"}


@pytest.mark.parametrize(
    ("said", "class_", "build", "best", "rule"),
    [
        (NIGHTLY, "lock", None, "redis", "enough"),
        (JOB | {"actions": "irreversible"}, "consensus", None, "etcd", "costly"),
        (JOB | {"existing": "kubernetes"}, "lock", None, "k8s", "has-kubernetes"),
        (JOB | {"existing": "etcd"}, "lock", None, "etcd", "has-etcd"),
        (JOB | {"building": "yes"}, "consensus", "Raft", "raft", "building"),
        (JOB, "lock", None, "redis", "acceptable"),
        (JOB | {"audit": "yes"}, "consensus", None, "etcd", "audited"),
    ],
    ids=["low-stakes", "irreversible", "kubernetes", "etcd", "primitive", "rare", "audited"],
)
def test_the_branches_of_the_short_tree(
    said: dict[str, str], class_: str, build: str | None, best: str, rule: str
) -> None:
    verdict = advice(said)
    assert (verdict.class_.key, verdict.build, schemes(verdict)[0]) == (class_, build, best)
    assert fired(verdict)[0] == rule


@pytest.mark.parametrize(
    ("force", "change", "rule", "class_", "needs", "best"),
    [
        (1, {"audit": "yes"}, "audited", "consensus", {"quorum", "sound-token"}, "etcd"),
        (2, {"actions": "irreversible"}, "costly", "consensus", {"quorum", "sound-token"}, "etcd"),
        (2, {"stakes": "high"}, "costly", "consensus", {"quorum", "sound-token"}, "etcd"),
        (3, {"building": "yes"}, "building", "consensus", {"quorum"}, "raft"),
        (4, {"partitions": "common"}, "partitions", "consensus", {"steady-clock"}, "etcd"),
        (5, {"existing": "kubernetes"}, "has-kubernetes", "lock", set(), "k8s"),
        (5, {"existing": "etcd"}, "has-etcd", "lock", set(), "etcd"),
        (5, {"existing": "zookeeper"}, "has-zookeeper", "lock", set(), "zk"),
        (5, {"existing": "cloud"}, "has-cloud", "lock", set(), "dynamodb"),
        (5, {"existing": "redis"}, "has-redis", "lock", set(), "redis"),
        (6, {"stakes": "low", "actions": "idempotent"}, "enough", "lock", {"exclusive"}, "redis"),
        (7, {}, "acceptable", "lock", {"exclusive"}, "redis"),
        (
            8,
            {"audit": "yes", "resource": "cannot"},
            "unfenced",
            "consensus",
            {"checkpoint"},
            "etcd",
        ),
        (8, {"resume": "yes"}, "resume", "lock", {"checkpoint"}, "redis"),
        (8, {"order": "fifo"}, "in-order", "lock", {"fifo"}, "etcd"),
        (8, {"handover": "prompt"}, "handover", "lock", {"notify"}, "redis"),
        (8, {"hosts": "several"}, "several-hosts", "lock", {"network"}, "redis"),
        (8, {"hosts": "one"}, "one-host", "lock", set(), "local"),
    ],
)
def test_every_rule(
    force: int, change: dict[str, str], rule: str, class_: str, needs: set[str], best: str
) -> None:
    verdict = advice(JOB | change)
    step = next(step for step in verdict.path if step.rule.id == rule)
    assert step.rule.force == force
    assert {answer.question.key for answer in step.answers} <= set(change) | set(JOB)
    assert verdict.class_.key == class_
    assert needs <= {need.key for need in verdict.needs}
    assert schemes(verdict)[0] == best
    assert [step.rule.force for step in verdict.path] == sorted(s.rule.force for s in verdict.path)


def test_no_rule_is_left_out_of_the_table() -> None:
    mark = next(m for m in test_every_rule.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    tried = {row[2] for row in mark.args[1]}
    assert tried | {"has-database"} == {rule.id for rule in TREE.rules}
    assert {rule.force for rule in TREE.rules} == set(range(1, 9))


@pytest.mark.parametrize(
    ("said", "words", "wins"),
    [
        (NIGHTLY | {"audit": "yes"}, "Low stakes, yet audited", "audited"),
        (JOB | {"audit": "yes", "actions": "idempotent"}, "Low stakes, yet audited", "audited"),
        (NIGHTLY | {"actions": "irreversible"}, "Low stakes, yet irreversible", "costly"),
        (NIGHTLY | {"stakes": "high"}, "Idempotent, yet two leaders", "costly"),
        (NIGHTLY | {"building": "yes"}, "yet others will build on it", "building"),
        (NIGHTLY | {"partitions": "common"}, "yet partitions are common", "partitions"),
        (
            JOB | {"priority": "speed", "audit": "yes"},
            "Speed before safety, yet audited",
            "audited",
        ),
        (JOB | {"priority": "speed", "stakes": "high"}, "yet the actions are irr", "costly"),
        (JOB | {"priority": "speed", "partitions": "common"}, "Speed before safety", "partitions"),
        (JOB | {"existing": "redis", "audit": "yes"}, "Redis is too weak: exclusion", "audited"),
        (JOB | {"existing": "redis", "order": "fifo"}, "too weak: order is none", "in-order"),
        (JOB | {"existing": "cloud", "partitions": "common"}, "too weak: exclusion", "partitions"),
    ],
)
def test_conflicts_are_named_and_the_stronger_rule_wins(
    said: dict[str, str], words: str, wins: str
) -> None:
    verdict = advice(said)
    (found,) = [clash for clash in verdict.conflicts if words in clash.text]
    assert found.wins.id == wins
    assert wins in fired(verdict)
    overruled = [step.rule.force for step in verdict.path if step.overruled]
    assert all(force > found.wins.force for force in overruled)
    assert verdict.class_.key == ("lock" if wins == "in-order" else "consensus")


def test_every_conflict_of_the_tree_is_tried() -> None:
    for conflict in TREE.conflicts:
        for alternative in conflict.when.alternatives:
            said = {key: allowed[0] for key, allowed in alternative.items()}
            assert (conflict.text, conflict.wins) in [
                (clash.text, clash.wins.id) for clash in advice(said).conflicts
            ]


def test_what_is_only_assumed_contradicts_nobody() -> None:
    assert not advice({"stakes": "low"}).conflicts
    assert not advice({"stakes": "low", "audit": UNKNOWN}).conflicts


def test_unknown_is_the_safe_side() -> None:
    said = dict.fromkeys(TREE.questions, UNKNOWN)
    verdict = advice(said)
    assert verdict.class_.key == "consensus"
    assert {answer.state for answer in verdict.answers.values()} == {"unknown"}
    most = advice({key: list(q.values)[-1] for key, q in TREE.questions.items() if key in LEAST})
    assert set(verdict.needs) == set(most.needs)


def test_each_refusal_names_the_trait() -> None:
    verdict = advice(JOB | {"audit": "yes", "partitions": "common", "resource": "cannot"})
    refused = {
        judged.option.schemes[0]: {lack.need.trait: lack.actual for lack in judged.lacks}
        for judged in verdict.refused
    }
    assert refused == {
        "redis": {"exclusion": "lease", "token_sound": "no", "weaknesses": SKEWED.text},
        "dynamodb": {"exclusion": "lease", "token_sound": "no"},
        "bully": {"exclusion": "best effort", "token_sound": "no"},
        "local": {"reach": "host"},
        "theirs": {"checkpoint": "no"},
    }


def test_what_a_scheme_is_worth_is_not_read_off_its_family() -> None:
    weak = backend("weak", "consensus", exclusion="lease")
    strong = backend("strong", "row-ttl", exclusion="quorum", token_sound=True)
    verdict = evaluate(TREE, JOB | {"audit": "yes"}, [weak, strong])
    assert verdict.fits == (strong,)
    assert [lack.need.trait for lack in verdict.refused[0].lacks] == ["exclusion"]


def test_what_a_latency_minded_job_is_told() -> None:
    assert "shorter TTL" in " ".join(advice(NIGHTLY | {"priority": "speed"}).notes)
    assert "more likely" in " ".join(advice(JOB | {"priority": "speed"}).notes)
    assert not advice(NIGHTLY).notes


def test_what_is_there_already_and_not_installed_is_said() -> None:
    verdict = evaluate(TREE, JOB | {"existing": "kubernetes"}, [LOCK])
    assert verdict.notes == (
        "Kubernetes is there already, but no backend for k8s:// is installed.",
    )


def test_more_than_is_needed_is_said() -> None:
    surplus = advice(JOB | {"existing": "etcd"}).surplus
    assert surplus is not None
    assert surplus.key == "consensus"
    assert advice(JOB).surplus is None
    assert advice(JOB | {"audit": "yes"}).surplus is None


def test_none_fits() -> None:
    verdict = evaluate(TREE, JOB | {"audit": "yes"}, [LOCK])
    assert verdict.best is None
    assert verdict.path


def test_sensitivity_tells_what_one_answer_would_change() -> None:
    found = {(c.question.key, c.value): c for c in sensitivity(TREE, NIGHTLY, OPTIONS)}
    for key, value in [
        ("audit", "yes"),
        ("actions", "irreversible"),
        ("stakes", "high"),
        ("building", "yes"),
        ("partitions", "common"),
    ]:
        assert found[key, value].verdict.class_.key == "consensus"
        assert "class" in found[key, value].differs
    assert found["building", "yes"].verdict.build == "Raft"
    assert found["existing", "etcd"].differs == ("best",)
    assert ("stakes", "medium") not in found
    assert ("priority", "speed") not in found


@pytest.mark.parametrize("order", ["fifo", "any"])
def test_every_installed_backend_is_judged(order: str) -> None:
    installed = [Option(plugin.schemes, plugin.traits) for plugin in plugins()]
    verdict = evaluate(TREE, JOB | {"order": order}, installed)
    judged = [*verdict.fits, *(refused.option for refused in verdict.refused)]
    assert sorted(map(str, judged)) == sorted(map(str, installed))
    assert verdict.best is not None


def test_what_need_not_be_asked_changes_nothing() -> None:
    """A question that is left out counts as its safe side: that must not demand anything."""
    keys = ["audit", "actions", "stakes", "partitions"]
    for values in product(*(TREE.questions[key].values for key in keys)):
        said = dict(zip(keys, values, strict=True))
        for key, answer in weigh(TREE, said).items():
            if not answer.asked:
                outcomes = {
                    (verdict.class_, frozenset(verdict.needs), tuple(schemes(verdict)))
                    for verdict in (advice(said | {key: v}) for v in answer.question.values)
                }
                assert len(outcomes) == 1, (said, key)


def test_only_what_matters_must_be_answered() -> None:
    assert [q.key for q in missing(TREE, {})] == [
        *("audit", "actions", "stakes", "partitions", "resource"),
    ]
    assert not missing(TREE, NIGHTLY)
    assert [q.key for q in missing(TREE, NIGHTLY | {"audit": "yes"})] == ["resource"]


def test_the_tree_names_no_command_that_does_not_exist() -> None:
    named = re.findall(r"electctl\s+([a-z]+)", TEXT.partition("format:")[2])
    assert named
    assert set(named) <= set(COMMANDS)


def test_the_evaluator_names_no_backend() -> None:
    ours = {scheme for plugin in plugins() for scheme in plugin.schemes} - {"local"}
    for path in Path(loader.__file__).parent.glob("*.py"):
        words = set(re.findall(r"[a-z0-9+]+", path.read_text()))
        assert not words & ours, path


# Monotone, whatever the answers, and whatever the tree -------------------------------------------


def _answers(tree: Tree) -> st.SearchStrategy[dict[str, str]]:
    each = {key: st.sampled_from([*q.values, UNKNOWN]) for key, q in tree.questions.items()}
    return st.fixed_dictionaries({}, optional=each)


def _stays_strong(tree: Tree, said: Mapping[str, str], options: list[Option]) -> None:
    """Each answer in turn made more demanding: never weaker, always a reason, always honest."""
    base = evaluate(tree, said, options)
    assert any(step.rule.class_ == base.class_.key for step in base.path)
    assert all(step.rule.because for step in base.path)
    assert len(base.fits) + len(base.refused) == len(options)
    assert (base.best is None) == all(judge(option, base.needs).lacks for option in options)
    for key, answer in base.answers.items():
        question = answer.question
        values = list(question.values)
        if question.kind == "preference":
            stronger = values
        else:
            stronger = [*values[question.rank(answer.value) :], UNKNOWN]
        for value in stronger:
            other = evaluate(tree, {**said, key: value}, options)
            assert tree.strength(other.class_.key) >= tree.strength(base.class_.key)
            assert set(other.needs) >= set(base.needs)
            assert set(other.fits) <= set(base.fits)


def _is_clear(error: ConfigError, name: str) -> None:
    assert error.message.startswith(name)
    assert error.hint


@settings(deadline=None, max_examples=60)
@given(said=_answers(TREE))
def test_a_more_demanding_answer_never_gives_a_weaker_verdict(said: dict[str, str]) -> None:
    _stays_strong(TREE, said, OPTIONS)


@st.composite
def _trees(draw: st.DrawFn) -> str:
    """Trees as text: any of them is refused or sound."""
    questions = {
        f"q{number}": [f"v{n}" for n in range(draw(st.integers(2, 3)))]
        for number in range(draw(st.integers(1, 3)))
    }
    lines = ["format: 1", "title: any", "questions:"]
    for number, (key, values) in enumerate(questions.items()):
        kind = draw(st.sampled_from(["demand", "demand", "preference"]))
        lines += [f"  {key}:", "    ask: a", "    why: w", f"    kind: {kind}"]
        lines += ["    values:", *(f"      {value}: m" for value in values)]
        lines += [f"    safe: {draw(st.sampled_from([values[-1], values[-1], values[0]]))}"]
        if draw(st.booleans()):
            lines += [f"    default: {draw(st.sampled_from(values))}"]
        if number and draw(st.booleans()):
            lines += [f"    when: {{q0: {draw(st.sampled_from(questions['q0']))}}}"]
    lines += ["needs:"]
    lines += [
        "  a: {text: a, trait: family, is: consensus}",
        "  b: {text: b, trait: order, is: fifo}",
    ]
    lines += ["  c: {text: c, trait: token_sound, is: true}"]
    lines += ["classes:", "  weak: {title: weak, text: t, families: [ttl-lock]}"]
    lines += ["  strong: {title: strong, text: t, needs: [a], families: [consensus]}", "rules:"]
    ids: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(sorted(questions)))
        allowed = draw(st.lists(st.sampled_from(questions[key]), min_size=1, unique=True))
        lines += [f"  - id: r{number}", "    force: 1", "    title: t", "    because: b"]
        lines += [f"    when: {{{key}: [{', '.join(allowed)}]}}"]
        if class_ := draw(st.sampled_from(["", "weak", "strong"])):
            lines += [f"    class: {class_}"]
            ids.append(f"r{number}")
        if need := draw(st.sampled_from(["", "", "a", "b", "c"])):
            lines += [f"    needs: [{need}]"]
    lines += ["  - {id: last, force: 2, title: t, because: b, class: weak"]
    lines[-1] += f", none_of: [{', '.join(ids)}]}}" if ids else "}"
    return "\n".join(lines) + "\n"


@settings(deadline=None, max_examples=60)
@given(text=_trees(), data=st.data())
def test_any_tree_is_refused_or_monotone(text: str, data: st.DataObject) -> None:
    try:
        tree = loader.parse(text.encode(), "any.yaml")
    except ConfigError as error:
        _is_clear(error, "any.yaml")
        return
    _stays_strong(tree, data.draw(_answers(tree)), OPTIONS)
