"""``electctl advise --show``: the tree drawn, the path taken marked.

What this does not guarantee: that every question is on it that a path asks; those are listed above
it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from electctl.advise.evaluator import Verdict, evaluate
from electctl.cli import prose
from electctl.cli.advise_text import point_text
from electctl.cli.render import shown

if TYPE_CHECKING:
    from electctl.advise.model import Condition, Rule, Tree
    from electctl.cli.frame import Frame


def show_tree(frame: Frame, tree: Tree, said: dict[str, str]) -> None:
    """Print it; with answers, the rules that fire are marked. What is missing counts as safe."""
    verdict = evaluate(tree, said) if said else None
    if frame.json:
        frame.emit(_as_dict(tree, verdict))
    else:
        frame.print(_drawn(tree, verdict))


def _drawn(tree: Tree, verdict: Verdict | None) -> str:
    columns = prose.width()
    lines = [shown(tree.title), "", "QUESTIONS, the values from the least demanding to the most"]
    for key, question in tree.questions.items():
        taken = None if verdict is None else verdict.answers[key].value
        values = " | ".join(f"[{v}]" if v == taken else v for v in question.values)
        only = f"  (asked if {question.when.text()})" if question.when.alternatives else ""
        default = f"  (default {question.default})" if question.default else ""
        lines.append(point_text(f"{key}: {values}{default}{only}", columns))
    lines += ["", "RULES, in order of force"]
    fired = {} if verdict is None else {step.rule.id: step for step in verdict.path}
    last = tree.rules[-1]
    for rule in tree.rules:
        mark = "===>" if rule.id in fired else "----"
        end = " (overruled)" if rule.id in fired and fired[rule.id].overruled else ""
        stem = f"  {' ' if rule is last else '|'}           "
        head = f"  +{mark} [{rule.force}] "
        lines.append(prose.wrapped(shown(_condition(rule)), columns, stem, head))
        for text in (rule.title + end, _outcome(tree, rule)):
            lines.append(prose.wrapped(shown(text), columns, stem))
    if verdict is not None:
        lines += ["", f"===> marks what the answers fire: {shown(verdict.class_.title)}."]
    return "\n".join(lines) + "\n"


def _condition(rule: Rule) -> str:
    if rule.none_of:
        rest = f"none of {', '.join(rule.none_of)}"
        return f"{rule.when.text()}, and {rest}" if rule.when.alternatives else rest
    return rule.when.text() or "always"


def _outcome(tree: Tree, rule: Rule) -> str:
    parts = []
    if rule.class_ is not None:
        parts.append(tree.classes[rule.class_].title)
    if rule.build is not None:
        parts.append(f"build {rule.build}")
    if rule.needs:
        parts.append(f"needs {', '.join(rule.needs)}")
    if rule.prefer:
        parts.append(f"prefers {', '.join(rule.prefer)}")
    return "; ".join(parts) or "a remark"


def _as_dict(tree: Tree, verdict: Verdict | None) -> dict[str, Any]:
    fired = None if verdict is None else {step.rule.id for step in verdict.path}
    return {
        "tree": tree.name,
        "title": tree.title,
        "class": None if verdict is None else verdict.class_.key,
        "questions": [
            {
                "key": key,
                "ask": question.ask,
                "why": question.why,
                "help": question.help,
                "values": dict(question.values),
                "safe": question.safe,
                "default": question.default,
                "kind": question.kind,
                "when": _alternatives(question.when),
                "answer": None if verdict is None else verdict.answers[key].value,
            }
            for key, question in tree.questions.items()
        ],
        "needs": [asdict(need) for need in tree.needs.values()],
        "classes": [
            {"class": found.key, "title": found.title, "needs": list(found.needs)}
            for found in tree.classes.values()
        ],
        "rules": [
            {
                "rule": rule.id,
                "force": rule.force,
                "title": rule.title,
                "when": _alternatives(rule.when),
                "none_of": list(rule.none_of),
                "class": rule.class_,
                "needs": list(rule.needs),
                "prefer": list(rule.prefer),
                "build": rule.build,
                "because": rule.because,
                "source": rule.source,
                "fault": rule.fault,
                "fired": None if fired is None else rule.id in fired,
            }
            for rule in tree.rules
        ],
        "conflicts": [
            {"when": _alternatives(found.when), "text": found.text, "wins": found.wins}
            for found in tree.conflicts
        ],
    }


def _alternatives(condition: Condition) -> list[dict[str, list[str]]]:
    return [
        {key: list(allowed) for key, allowed in alternative.items()}
        for alternative in condition.alternatives
    ]
