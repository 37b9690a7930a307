"""``electctl compare``: what each backend promises, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli import prose
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.compare.promises import Promise

app = new_app()

EXAMPLES = """
electctl compare
electctl compare --ttl 30s -b redis -b etcd
electctl compare --markdown > promises.md
"""
_LABEL = 18
#: Columns that side by side read well; with less room each backend gets a block of its own.
_NARROWEST = 34


@app.command("compare", cls=Command, epilog=EXAMPLES)
def compare(
    ctx: typer.Context,
    ttl: Annotated[
        float | None, Duration("--ttl", help="The TTL to put into the bounds on fail-over.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, to paste into a document.")
    ] = False,
) -> None:
    """What each installed backend promises, under which assumptions, and what breaks it.

    -b chooses the columns, by a scheme or a URL; nothing is contacted. Without it, leader election
    and consensus are set side by side first. All of it is what the backends declare: claims, not
    measurements. Fail-over is the longest time without a leader after its crash.
    """
    from electctl.compare.promises import promises

    frame = Frame.of(ctx)
    if ttl == 0:
        raise UsageError("--ttl: a lease of 0 s is none", hint="--ttl 10s is the default")
    if frame.json and markdown:
        raise UsageError("--json and --markdown contradict each other", hint="leave one out")
    found = promises(frame.backends, ttl)
    if frame.json:
        for promise in found:
            frame.emit(promise.as_dict())
    elif markdown:
        from electctl.compare.markdown import document

        frame.print(document(found, opening=not frame.backends))
    else:
        frame.print(_text(found, opening=not frame.backends))


def _text(found: list[Promise], *, opening: bool) -> str:
    from electctl.compare import textbook

    room = prose.width(most=_LABEL + 60 * len(found))
    parts = [prose.grid(textbook.HEADS, textbook.ROWS, min(room, 100))] if opening else []
    if len(found) > 1 and room >= _LABEL + (_NARROWEST + 2) * len(found):
        parts += [_side_by_side(found, room), *(_sources(each, room) for each in found)]
    else:
        parts += [_block(each, min(room, 100)) for each in found]
    return "\n\n".join(parts)


def _side_by_side(found: list[Promise], room: int) -> str:
    from electctl.compare.promises import ROWS, schemes_of

    rows = [(label, *(cell(each) for each in found)) for label, cell in ROWS.items()]
    rows.append(("assumes", *(_listed(_assumptions(each)) for each in found)))
    rows.append(("what breaks it", *(_listed(_weaknesses(each)) for each in found)))
    heads = ("", *(f"{each.traits.title}\n{schemes_of(each)}" for each in found))
    return prose.grid(heads, rows, room)


def _block(promise: Promise, room: int) -> str:
    from electctl.compare.promises import ROWS, schemes_of

    lines = [prose.wrapped(f"{promise.traits.title}  {schemes_of(promise)}", room)]
    for label, cell in ROWS.items():
        first = f"  {label}".ljust(_LABEL + 2)
        lines.append(prose.wrapped(cell(promise), room, " " * len(first), first))
    for label, texts in (("assumes", _assumptions(promise)), ("breaks", _weaknesses(promise))):
        lines.append(f"  {label}")
        lines += [prose.wrapped(text, room, "      ", "    - ") for text in texts]
    return "\n".join([*lines, _sources(promise, room, indent="  ")])


def _assumptions(promise: Promise) -> list[str]:
    return [claim.text for claim in promise.traits.assumptions]


def _weaknesses(promise: Promise) -> list[str]:
    from electctl.compare.promises import losses

    return [f"[{losses(weakness)}] {weakness.text}" for weakness in promise.traits.weaknesses]


def _listed(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _sources(promise: Promise, room: int, indent: str = "") -> str:
    head = f"{indent}sources" if indent else f"{promise.traits.title}: sources"
    lines = (
        prose.wrapped(source, room, f"{indent}    ", f"{indent}  - ")
        for source in promise.traits.sources
    )
    return "\n".join([head, *lines])
