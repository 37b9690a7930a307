"""``electctl advise --check`` and ``--check-all``: is a choice made already strong enough.

What this does not guarantee: that the backend answers, or is what its URL says; nobody is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from electctl.advise.answers import from_config
from electctl.advise.evaluator import Judged, Option, Verdict, evaluate, judge
from electctl.cli import prose
from electctl.cli.advise_given import complete
from electctl.cli.advise_text import lack_dicts, need_dict, point_text
from electctl.cli.render import shown
from electctl.contract.url import BackendURL
from electctl.core.registry import plugin
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.advise.evaluator import Lack
    from electctl.advise.model import Tree
    from electctl.cli.frame import Frame


@dataclass(frozen=True, slots=True)
class _Choice:
    """A backend that somebody has chosen, for an election of the config file or for any."""

    election: str | None
    url: BackendURL
    verdict: Verdict
    judged: Judged


def check_choices(
    frame: Frame, tree: Tree, said: dict[str, str], named: str | None, *, ask: bool
) -> int:
    """Judge ``named`` (None: all elections of the config file); 0 if all are strong enough, or 1.

    ``said`` wins over the answers in the file. Raises UsageError, ConfigError.
    """
    if named is None:
        choices = _all(frame, tree, said, ask)
    elif named in frame.settings.elections:
        choices = _of_election(frame, tree, said, named, ask)
    else:
        url = _url(frame, named)
        choices = [_choice(tree, complete(frame, tree, said, ask=ask), None, url)]
    for choice in choices:
        if frame.json:
            frame.emit(_as_dict(choice))
        else:
            frame.print("\n".join(_lines(choice)))
    return 1 if any(choice.judged.lacks for choice in choices) else 0


def _all(frame: Frame, tree: Tree, said: dict[str, str], ask: bool) -> list[_Choice]:
    settings = frame.settings
    if not settings.elections:
        where = "there is no config file" if settings.path is None else f"{settings.path} has none"
        raise UsageError(
            f"--check-all judges the elections of the config file, and {where}",
            hint="elections: with a name, its backend and its answers; docs/advise.md has one",
        )
    judged = [name for name in settings.elections if said or settings.answers(name)]
    if not judged:
        raise UsageError(
            f"no election in {settings.path} has answers", hint="answers: beside its backend"
        )
    for election in settings.elections:
        if election not in judged:
            frame.note(f"{election!r} has no answers, so it is not judged")
    return [choice for name in judged for choice in _of_election(frame, tree, said, name, ask)]


def _of_election(
    frame: Frame, tree: Tree, said: dict[str, str], election: str, ask: bool
) -> list[_Choice]:
    settings = frame.settings
    urls = settings.configured_urls(election) or settings.backend_urls(election)
    whose = f"{election!r}: "
    answers = from_config(tree, settings.answers(election)) | said
    answers = complete(frame, tree, answers, ask=ask, whose=whose)
    return [_choice(tree, answers, election, url) for url in urls]


def _choice(tree: Tree, said: dict[str, str], election: str | None, url: BackendURL) -> _Choice:
    found = plugin(url.scheme)
    url.check_options(found.options)
    verdict = evaluate(tree, said)
    option = Option((url.scheme,), found.traits_of(url.scheme))
    return _Choice(election, url, verdict, judge(option, verdict.needs))


def _url(frame: Frame, text: str) -> BackendURL:
    if ":" in text:
        return BackendURL.parse(text)
    elections = frame.settings.elections
    near = get_close_matches(text, elections, 1)
    where = frame.settings.path or "a config file"
    raise UsageError(
        f"--check {text}: there is no election of that name in {where}",
        hint=f"did you mean {near[0]}?" if near else "a URL starts with its scheme, as in redis://",
    )


def _lines(choice: _Choice) -> list[str]:
    verdict = choice.verdict
    what = choice.url.masked()
    if choice.election is not None:
        what = f"{choice.election} on {what}"
    word = "too weak" if choice.judged.lacks else "strong enough"
    lines = [shown(f"{what}: {word} ({verdict.class_.title} is needed)")]
    for lack in choice.judged.lacks:
        lines.append(point_text(_reason(verdict, lack), prose.width()))
    return lines


def _reason(verdict: Verdict, lack: Lack) -> str:
    rule = verdict.wanted_by(lack.need)[0]
    answers = next(step.answers for step in verdict.path if step.rule == rule)
    by = ", ".join(f"{answer.question.key}={answer.value}" for answer in answers)
    return (
        f"{lack}; needed: {lack.need.text} (rule {rule.force}, {rule.id}{f': {by}' if by else ''})"
    )


def _as_dict(choice: _Choice) -> dict[str, Any]:
    verdict = choice.verdict
    return {
        "election": choice.election,
        "backend": choice.url.masked(),
        "scheme": choice.url.scheme,
        "fit": not choice.judged.lacks,
        "class": verdict.class_.key,
        "needs": [need_dict(verdict, need) for need in verdict.needs],
        "lacks": lack_dicts(choice.judged.lacks),
        "answers": {
            key: {"value": answer.value, "state": answer.state, "asked": answer.asked}
            for key, answer in verdict.answers.items()
        },
    }
