"""The promises as Markdown, for a document of one's own and for ``docs/guarantees.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from electctl.compare import textbook
from electctl.compare.evidence import ELECTCTL, NO_RUN, WORDS, Cell, Evidence, told
from electctl.compare.promises import ROWS, Promise, losses, schemes_of


def document(
    found: Sequence[Promise], evidence: Evidence | None = None, *, opening: bool, level: int = 2
) -> str:
    """A table of all promises, one of verdicts, then assumptions, weaknesses and sources of each.

    Without ``evidence`` only what is promised.
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
    if evidence is not None:
        parts += [f"{mark} What drills have shown", *_shown(found, evidence)]
    for each in found:
        parts += _details(each, mark)
    return "\n\n".join(parts) + "\n"


def _shown(found: Sequence[Promise], evidence: Evidence) -> Iterator[str]:
    columns = [pair for each in found for pair in evidence.candidates(each.schemes)]
    cells = {
        (cell.scheme, cell.candidate, cell.fault): cell
        for each in found
        for cell in evidence.of(each.schemes)
    }
    heads = [scheme if by == ELECTCTL else f"{scheme} by {by}" for scheme, by in columns]
    rows = (
        (f"`{fault}`", *(_verdict(cells.get((*pair, fault))) for pair in columns))
        for fault in evidence.rows(found)
    )
    yield table(("fault", *heads), rows)
    yield _list(text for each in found for text in told(evidence, each.schemes))


def _verdict(cell: Cell | None) -> str:
    if cell is None:
        return NO_RUN
    word = WORDS[cell.verdict]
    if len(cell.verdicts) > 1:
        word += f" ({cell.verdicts[cell.verdict]} of {cell.count})"
    return f"{word}; {cell.also}" if cell.also else word


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
