"""``electctl explain``: the words of leader election, and the questions people ask about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from electctl.cli import prose
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame

if TYPE_CHECKING:
    from electctl.explain.glossary import Entry, Glossary

app = new_app()

EXAMPLES = """
electctl explain
electctl explain split-brain
electctl explain fencing token
electctl explain faq
electctl explain faq zookeeper
"""


@app.command("explain", cls=Command, epilog=EXAMPLES)
def explain(
    ctx: typer.Context,
    term: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TERM...]",
            help="A term, or words of a question; faq for all questions.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Explain a term of leader election: what it is, how it goes wrong, how engineers say it.

    Each entry names the electctl command that shows it, and the terms beside it. Without a TERM
    it lists all. faq answers the questions that are asked most; words of a question find it, too.
    """
    from electctl.explain.glossary import load

    frame = Frame.of(ctx)
    glossary = load()
    entries = glossary.find(" ".join(term)) if term else list(glossary.entries)
    if frame.json:
        for entry in entries:
            frame.emit(_as_dict(entry))
    elif term:
        frame.print("\n\n".join(_text(entry, prose.width()) for entry in entries))
    else:
        frame.print(_list(glossary, prose.width()))


def _list(glossary: Glossary, columns: int) -> str:
    """Every entry in a line or two."""
    indent = max(len(entry.name) for entry in glossary.entries) + 2

    terms = sorted(glossary.terms, key=lambda entry: entry.name.casefold())

    def lines(entries: Iterable[Entry]) -> list[str]:
        return [
            prose.wrapped(e.brief, columns, " " * indent, e.name.ljust(indent)) for e in entries
        ]

    return "\n".join([*lines(terms), "", *lines(glossary.questions)])


def _text(entry: Entry, columns: int) -> str:
    parts = [_head(entry, columns)]
    if entry.kind == "question":
        parts.append(prose.wrapped(entry.what, columns, "  "))
    else:
        parts += [
            prose.section("What it is", [entry.what], columns),
            prose.section("How it goes wrong", [entry.wrong], columns),
            prose.section("How engineers say it", (f'"{s}"' for s in entry.said), columns, "   "),
        ]
    shown = (text for each in entry.commands for text in (each.run, f"    {each.shows}"))
    parts.append(prose.section("See it", shown, columns, "      "))
    parts.append(prose.section("See also", [", ".join(entry.see)], columns))
    return "\n\n".join(parts)


def _head(entry: Entry, columns: int) -> str:
    if entry.kind == "question":
        return prose.wrapped(entry.brief, columns)
    also = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
    return prose.wrapped(f"{entry.name}: {entry.brief}{also}", columns)


def _as_dict(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "aliases": list(entry.aliases),
        "brief": entry.brief,
        "what": entry.what,
        "commands": [{"run": each.run, "shows": each.shows} for each in entry.commands],
        "see": list(entry.see),
    }
    if entry.kind == "term":
        shown |= {"wrong": entry.wrong, "said": list(entry.said)}
    return shown
