"""The promises as Markdown, for a document of one's own and for ``docs/guarantees.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from electctl.compare import textbook
from electctl.compare.promises import ROWS, Promise, losses, schemes_of


def document(found: Sequence[Promise], *, opening: bool, level: int = 2) -> str:
    """A table of all promises, then assumptions, weaknesses and sources of each.

    ``opening`` puts leader election and consensus side by side first. ``level`` is that of the
    headings.
    """
    mark = "#" * level
    parts = []
    if opening:
        parts += [f"{mark} Leader election and consensus", table(textbook.HEADS, textbook.ROWS)]
    heads = ("", *(f"{each.traits.title}: {schemes_of(each)}" for each in found))
    rows = [(label, *(cell(each) for each in found)) for label, cell in ROWS.items()]
    parts += [f"{mark} What each backend promises", table(heads, rows)]
    for each in found:
        parts += _details(each, mark)
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold anything."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _details(promise: Promise, mark: str) -> Iterator[str]:
    traits = promise.traits
    yield f"{mark} {traits.title}"
    if traits.assumptions:
        yield "It assumes:"
        yield _list(_cited(claim.text, claim.source) for claim in traits.assumptions)
    if traits.weaknesses:
        yield "What breaks it:"
        yield _list(
            f"**{losses(weakness)}.** {_cited(weakness.text, weakness.source)}"
            for weakness in traits.weaknesses
        )
    if traits.sources:
        yield "Sources:"
        yield _list(_link(source) for source in traits.sources)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _cited(text: str, source: str) -> str:
    return f"{text} ({_link(source)})" if source else text


def _link(source: str) -> str:
    return f"<{source}>" if source.startswith("https://") else source


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
