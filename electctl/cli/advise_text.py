"""A verdict as text, as Markdown and as JSON: one list of sections, three ways to print it.

What this does not guarantee: that a tree of somebody else's reads well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from electctl.cli import prose
from electctl.cli.app import COMMANDS
from electctl.cli.render import shown
from electctl.contract.url import written

if TYPE_CHECKING:
    from electctl.advise.evaluator import Answer, Change, Lack, Option, Step, Verdict
    from electctl.advise.model import Need

_STATES = {
    "given": "",
    "unknown": "not known, so it counts as the safe side",
    "default": "not given; this is the default",
    "missing": "not asked: nothing depends on it",
}
_DIFFERS = {
    "class": "the class",
    "build": "whether to build it",
    "needs": "what is needed",
    "best": "the first choice",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A title and its points; a ``code`` section is printed as it is."""

    title: str
    points: tuple[str, ...]
    code: bool = False


def sections(verdict: Verdict, changes: Sequence[Change]) -> list[Section]:
    """Everything that a verdict says; sections that would be empty are left out."""
    parts = [
        Section("Verdict", _headline(verdict)),
        Section("Conflicts", tuple(f"{c.text} Rule {_rule(c)} wins." for c in verdict.conflicts)),
        Section("Because", tuple(map(_step, verdict.path))),
        Section("Needed", tuple(f"{n.text}{_wanted(verdict, n)}" for n in verdict.needs)),
        Section("Fits, in order", tuple(map(_option, verdict.fits))),
        Section(
            "Refused",
            tuple(
                f"{_name(judged.option)}: {_lack(lack)}"
                for judged in verdict.refused
                for lack in judged.lacks
            ),
        ),
        Section("Given up", (*verdict.gives_up, *_weak_points(verdict))),
        Section("Fencing", (*verdict.fencing, *_token(verdict))),
        Section("Notes", verdict.notes),
        Section("Answers", tuple(map(_answer, verdict.answers.values()))),
        Section("What would change it", tuple(_sensitive(verdict, changes))),
        Section("Try it", commands(verdict), code=True),
        Section("See what it gives up", drills(verdict), code=True),
    ]
    return [part for part in parts if part.points]


def as_text(parts: Sequence[Section], columns: int) -> str:
    """Plain text: reads well without colour."""
    lines: list[str] = []
    for part in parts:
        lines += ["", part.title.upper()] if lines else [part.title.upper()]
        for point in part.points:
            lines.append(f"  {point}" if part.code else point_text(point, columns))
    return "\n".join(lines) + "\n"


def point_text(text: str, columns: int) -> str:
    """One point, indented, wrapped, safe to show."""
    return prose.wrapped(shown(text), columns, "    ", "  ")


def as_markdown(verdict: Verdict, changes: Sequence[Change]) -> str:
    """For a design document."""
    lines = ["## Leader election: " + _md(verdict.class_.title)]
    for part in sections(verdict, changes):
        lines += ["", f"### {part.title}", ""]
        if part.code:
            lines += ["```sh", *part.points, "```"]
        elif part.title == "Answers":
            lines += ["| question | answer | |", "|---|---|---|"]
            lines += [
                f"| {_md(a.question.ask)} | {_md(_said(a))} | {_STATES[a.state]} |"
                for a in verdict.answers.values()
            ]
        else:
            lines += [f"- {_md(point)}" for point in part.points]
    return "\n".join(lines) + "\n"


def as_dict(verdict: Verdict, changes: Sequence[Change]) -> dict[str, Any]:
    """For ``--json``; the schema is ``advise.schema.json``."""
    best = verdict.best
    return {
        "tree": verdict.tree.name,
        "class": verdict.class_.key,
        "build": verdict.build,
        "recommended": None if best is None else best.schemes[0],
        "answers": {
            key: {"value": answer.value, "state": answer.state, "asked": answer.asked}
            for key, answer in verdict.answers.items()
        },
        "path": [
            {
                "rule": step.rule.id,
                "force": step.rule.force,
                "title": step.rule.title,
                "answers": {answer.question.key: answer.value for answer in step.answers},
                "because": step.rule.because,
                "source": step.rule.source,
                "overruled": step.overruled,
            }
            for step in verdict.path
        ],
        "conflicts": [{"text": c.text, "wins": c.wins.id} for c in verdict.conflicts],
        "needs": [need_dict(verdict, need) for need in verdict.needs],
        "fits": [option_dict(option) for option in verdict.fits],
        "refused": [
            {**option_dict(judged.option), "lacks": lack_dicts(judged.lacks)}
            for judged in verdict.refused
        ],
        "gives_up": list(verdict.gives_up),
        "weaknesses": [] if best is None else [asdict(w) for w in best.traits.weaknesses],
        "fencing": [*verdict.fencing, *_token(verdict)],
        "notes": list(verdict.notes),
        "faults": list(verdict.faults),
        "drills": list(drills(verdict)),
        "sensitivity": [
            {
                "question": change.question.key,
                "value": change.value,
                "differs": list(change.differs),
                "class": change.verdict.class_.key,
                "build": change.verdict.build,
                "recommended": change.verdict.best.schemes[0] if change.verdict.best else None,
            }
            for change in changes
        ],
        "try": list(commands(verdict)),
    }


def need_dict(verdict: Verdict, need: Need) -> dict[str, Any]:
    """A need, and the rules that raise it."""
    rules = [rule.id for rule in verdict.wanted_by(need)]
    return {"need": need.key, "text": need.text, "trait": need.trait, "rules": rules}


def lack_dicts(lacks: Sequence[Lack]) -> list[dict[str, str]]:
    """Why a backend does not fit."""
    return [
        {
            "need": lack.need.key,
            "text": lack.need.text,
            "trait": lack.need.trait,
            "actual": lack.actual,
        }
        for lack in lacks
    ]


def option_dict(option: Option) -> dict[str, Any]:
    """A backend, in short; ``electctl backends --json`` has the rest."""
    traits = option.traits
    return {
        "schemes": list(option.schemes),
        "title": traits.title,
        "family": traits.family,
        "token": traits.token,
        "token_sound": traits.token_sound,
    }


def commands(verdict: Verdict) -> tuple[str, ...]:
    """What tries the first choice on this machine: commands that exist, and no others."""
    from electctl.core.registry import plugin

    if verdict.best is None:
        return ()
    scheme = verdict.best.schemes[0]
    found = plugin(scheme)
    if found.lab is None:
        return _existing(f"electctl campaign demo -b {found.example} -- sleep 60")
    return _existing(
        f"electctl lab up {scheme}",
        f'eval "$(electctl lab env {scheme})"',
        "electctl campaign demo -- sleep 60",
        f"electctl lab down {scheme}",
    )


def _existing(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line.partition("electctl ")[2].split()[0] in COMMANDS)


def _headline(verdict: Verdict) -> tuple[str, ...]:
    lines = [f"{verdict.class_.title}: {verdict.class_.text}"]
    if verdict.build:
        lines.append(f"To build it yourselves: {verdict.build}.")
    if verdict.best is None:
        lines.append(
            "None of the installed backends meets what the answers need: either install one that "
            "does, or see below which answer stands in the way."
        )
    else:
        traits = verdict.best.traits
        lines.append(f"Use {_name(verdict.best)}: {traits.mechanism}.")
        if verdict.surplus is not None:
            lines.append(f"It is {verdict.surplus.title}, which is more than the answers need.")
    unknown = [key for key, answer in verdict.answers.items() if answer.state == "unknown"]
    if unknown:
        lines.append(f"Not known, so counted as the safe side: {', '.join(unknown)}.")
    return tuple(lines)


def _rule(clash: Any) -> str:
    return f"{clash.wins.force} ({clash.wins.id})"


def _step(step: Step) -> str:
    answers = ", ".join(map(_said_by_key, step.answers))
    by = f" ({answers})" if answers else ""
    end = " Overruled by a stronger rule." if step.overruled else ""
    return f"[{step.rule.force}] {step.rule.title}{by}. {step.rule.because}{end}"


def _said_by_key(answer: Answer) -> str:
    return f"{answer.question.key}={_said(answer)}"


def _said(answer: Answer) -> str:
    return f"unknown, so {answer.value}" if answer.state == "unknown" else answer.value


def _answer(answer: Answer) -> str:
    state = _STATES[answer.state]
    meaning = answer.question.values[answer.value]
    return f"{answer.question.key}={answer.value}: {meaning}{f' ({state})' if state else ''}"


def _wanted(verdict: Verdict, need: Need) -> str:
    rules = ", ".join(rule.id for rule in verdict.wanted_by(need))
    return f" ({need.trait}; for {rules})"


def _name(option: Option) -> str:
    return f"{option.traits.title} ({written(option.schemes, option.example)})"


def _option(option: Option) -> str:
    traits = option.traits
    sound = "sound" if traits.token_sound else "not sound"
    token = "no token" if traits.token == "none" else f"token {traits.token}, {sound}"
    return f"{_name(option)}: {traits.family}, {token}; {traits.scope}"


def _lack(lack: Lack) -> str:
    return f"{lack}; needed: {lack.need.text}"


def _weak_points(verdict: Verdict) -> list[str]:
    """What makes two leaders on the first choice, in the words of its traits."""
    if verdict.best is None:
        return []
    title = verdict.best.traits.title
    return [
        f"{title}: {weakness.text}{f' (fault: {weakness.fault})' if weakness.fault else ''}"
        for weakness in verdict.best.traits.weaknesses
        if "exclusion" in weakness.breaks
    ]


def drills(verdict: Verdict) -> tuple[str, ...]:
    """The drills that show, on this machine, what the first choice does not promise.

    First those by which it can have two leaders, then those that the rules name.
    """
    from electctl.core.registry import plugin

    if verdict.best is None or plugin(verdict.best.schemes[0]).lab is None:
        return ()
    scheme, weaknesses = verdict.best.schemes[0], verdict.best.traits.weaknesses
    weak = [w.fault for w in weaknesses if w.fault and "exclusion" in w.breaks]
    unshown = {w.fault for w in weaknesses if w.unshown}
    wanted = dict.fromkeys(name for name in (*weak, *verdict.faults) if name not in unshown)
    return tuple(f"electctl drill run {scheme} --fault {name}" for name in wanted)


def _token(verdict: Verdict) -> list[str]:
    """What the token of the first choice is worth."""
    if verdict.best is None:
        return []
    traits = verdict.best.traits
    if traits.token == "none":
        return [f"{traits.title} has no token to check."]
    worth = (
        "only grows, over crashes and fail-overs too"
        if traits.token_sound
        else "can repeat or fall when the store fails, so it stops most stale writes and not all"
    )
    return [f"The token of {traits.title} ({traits.token}, in ELECTCTL_TOKEN) {worth}."]


def _sensitive(verdict: Verdict, changes: Sequence[Change]) -> list[str]:
    """The class first: what changes only the needs is in the JSON."""
    lines = []
    for change in sorted(changes, key=lambda found: "class" not in found.differs):
        differs = [name for name in change.differs if name != "needs"]
        if not differs:
            continue
        other = change.verdict
        use = "none of those installed" if other.best is None else _name(other.best)
        what = f"{other.class_.title}, {use}"
        if other.build and "build" in differs:
            what += f"; build {other.build}"
        lines.append(f"{change.question.key}={change.value}: {what}")
    return lines or ["No single answer."]


def _md(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
