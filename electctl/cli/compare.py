"""``electctl compare``: what each backend promises, side by side, and what drills have shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli import prose
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.cli.render import shown
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.compare.evidence import Evidence
    from electctl.compare.promises import Promise

app = new_app()

EXAMPLES = """
electctl compare
electctl compare --ttl 30s -b redis -b etcd
electctl compare --markdown > promises.md
electctl compare --html report.html
electctl compare --results nightly-drills.jsonl -b etcd --json
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
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a report with timelines, one file that needs no network.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="Results of drills, instead of this user's own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """What each installed backend promises, what breaks it, and what drills have shown of it.

    -b chooses the columns, by a scheme or a URL; nothing is contacted. Without it, leader election
    and consensus are set side by side first. Promises are what the backends declare: claims, whose
    fail-over is the longest time without a leader after its crash. What drills have shown on real
    servers is from the reference run that ships with electctl, replaced cell by cell by your own
    runs (drill/results.jsonl in the directory for state). Where there is no run, it says so.
    """
    from electctl.compare.promises import promises

    frame = Frame.of(ctx)
    if ttl == 0:
        raise UsageError("--ttl: a lease of 0 s is none", hint="--ttl 10s is the default")
    forms = [("--json", frame.json), ("--markdown", markdown), ("--html", html is not None)]
    given = [name for name, is_given in forms if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", hint="leave one out")
    found = promises(frame.backends, ttl)
    evidence = _evidence(frame, results)
    if frame.json:
        from electctl.compare.evidence import as_dict

        for promise in found:
            frame.emit(as_dict(promise, evidence))
    elif markdown:
        from electctl.compare.markdown import document

        frame.print(document(found, evidence, opening=not frame.backends))
    elif html is not None:
        _write(html, found, evidence)
        frame.note(f"{html} is written")
    else:
        frame.print(_text(found, evidence, opening=not frame.backends))


def _evidence(frame: Frame, given: Path | None) -> Evidence:
    from electctl.compare.evidence import Evidence
    from electctl.compare.results import own_file, read, reference
    from electctl.core.registry import schemes

    path = own_file() if given is None else given
    own = read(path) if given is not None or path.exists() else []
    evidence = Evidence(reference(), own)
    if unknown := sorted(evidence.schemes() - set(schemes())):
        frame.note(f"left out, because no such scheme is installed: {', '.join(unknown)}")
    return evidence


def _write(path: Path, found: list[Promise], evidence: Evidence) -> None:
    from electctl import __version__
    from electctl.base.clock import timestamp
    from electctl.compare.report import render

    at = timestamp()[:16].replace("T", " ") + " UTC"
    page = render(found, evidence, version=__version__, at=at)
    try:
        # A name in a result may hold half a surrogate pair, which UTF-8 cannot.
        path.write_bytes(page.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="--html FILE names a file"
        ) from None


def _text(found: list[Promise], evidence: Evidence, *, opening: bool) -> str:
    from electctl.compare import textbook

    room = prose.width(most=_LABEL + 60 * len(found))
    parts = [prose.grid(textbook.HEADS, textbook.ROWS, min(room, 100))] if opening else []
    if len(found) > 1 and room >= _LABEL + (_NARROWEST + 2) * len(found):
        parts += [_side_by_side(found, evidence, room), *(_sources(each, room) for each in found)]
    else:
        parts += [_block(each, evidence, min(room, 100)) for each in found]
    return "\n\n".join(parts)


def _side_by_side(found: list[Promise], evidence: Evidence, room: int) -> str:
    from electctl.compare.promises import ROWS, schemes_of

    rows = [(label, *(cell(each) for each in found)) for label, cell in ROWS.items()]
    rows.append(("assumes", *(_listed(_assumptions(each)) for each in found)))
    rows.append(("what breaks it", *(_listed(_weaknesses(each)) for each in found)))
    rows.append(("what drills show", *(_listed(_seen(each, evidence)) for each in found)))
    heads = ("", *(f"{each.traits.title}\n{schemes_of(each)}" for each in found))
    return prose.grid(heads, rows, room)


def _block(promise: Promise, evidence: Evidence, room: int) -> str:
    from electctl.compare.promises import ROWS, schemes_of

    lines = [prose.wrapped(f"{promise.traits.title}  {schemes_of(promise)}", room)]
    for label, cell in ROWS.items():
        first = f"  {label}".ljust(_LABEL + 2)
        lines.append(prose.wrapped(cell(promise), room, " " * len(first), first))
    for label, texts in (
        ("assumes", _assumptions(promise)),
        ("breaks", _weaknesses(promise)),
        ("drills show", _seen(promise, evidence)),
    ):
        lines.append(f"  {label}")
        lines += [prose.wrapped(text, room, "      ", "    - ") for text in texts]
    return "\n".join([*lines, _sources(promise, room, indent="  ")])


def _assumptions(promise: Promise) -> list[str]:
    return [claim.text for claim in promise.traits.assumptions]


def _weaknesses(promise: Promise) -> list[str]:
    from electctl.compare.promises import losses

    return [f"[{losses(weakness)}] {weakness.text}" for weakness in promise.traits.weaknesses]


def _seen(promise: Promise, evidence: Evidence) -> list[str]:
    from electctl.compare.evidence import told

    # Versions and the like are from a file, where anything can stand.
    return [shown(text) for text in told(evidence, promise.schemes)]


def _listed(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _sources(promise: Promise, room: int, indent: str = "") -> str:
    head = f"{indent}sources" if indent else f"{promise.traits.title}: sources"
    lines = (
        prose.wrapped(source, room, f"{indent}    ", f"{indent}  - ")
        for source in promise.traits.sources
    )
    return "\n".join([head, *lines])
