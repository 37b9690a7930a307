"""``electctl advise``: is a lock enough, or do we need consensus, and which one.

What this does not guarantee: that a backend is as good as its traits say, or that the answers are
true.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import UsageError

if TYPE_CHECKING:
    from electctl.advise.model import Tree

app = new_app()

EXAMPLES = """
electctl advise
electctl advise --set actions=idempotent --set stakes=low --set audit=no --set partitions=rare
electctl advise --answers answers.yaml --markdown
electctl advise --answers answers.yaml --check redis://127.0.0.1:6379/0
electctl advise --check-all -c electctl.yaml
electctl advise --budget -b redis --ttl 5s
electctl advise --show
"""


@app.command("advise", cls=Command, epilog=EXAMPLES)
def advise(
    ctx: typer.Context,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An answer; may be repeated. KEY=unknown counts as the safe side.",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(
            "--answers",
            metavar="FILE",
            help="Answers as YAML or JSON, KEY: VALUE; - is stdin. --set wins.",
            show_default=False,
        ),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option("--tree", metavar="FILE", help="A tree of your own.", show_default=False),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it for a design document.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Draw the tree; the path taken is marked.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="URL|NAME",
            help="Judge a backend, or that of an election in the config file.",
            show_default=False,
        ),
    ] = None,
    check_all: Annotated[
        bool, typer.Option("--check-all", help="Judge every election in the config file.")
    ] = False,
    budget: Annotated[
        bool, typer.Option("--budget", help="The timing budget of -b URL (or a bare scheme).")
    ] = False,
    ttl: Annotated[
        float | None, Duration("--ttl", help="With --budget. [default: the scheme's]")
    ] = None,
    grace: Annotated[
        float | None, Duration("--grace", help="With --budget. [default: ttl/3, at most 5s]")
    ] = None,
) -> None:
    """Is a lock enough, or do we need consensus, and which of the installed backends fit.

    Asks on a terminal what --set and --answers leave open; elsewhere that is an error. Prints the
    class (lock-based or consensus-backed), the backends that fit in order, each refusal with the
    trait that fails, the rules that led there in order of force, what the choice gives up, the
    advice on fencing, and which single answer would change it. An answer may be "unknown": it
    counts as the most demanding one. --show lists the questions and their values.

    --check, for CI, prints whether a choice made already is strong enough. Answers can stand in
    electctl.yaml, under "answers:" beside an election or at the top: --check NAME and --check-all
    use them, and the backends that the file names.

    --budget prints when a campaign renews, notices, sends SIGTERM and SIGKILL, and when another may
    lead; timing that a campaign would refuse is refused here in the same words.

    \b
    Exit codes:
      0   done; --check: strong enough
      1   --check, --check-all: too weak
      2   usage; an answer is missing, or is none
      78  the tree, an answers file or the config file is bad; --budget: the timing is unsafe
    """
    frame = Frame.of(ctx)
    modes = {
        "--show": show,
        "--check": check is not None,
        "--check-all": check_all,
        "--budget": budget,
        "--markdown": markdown,
    }
    chosen = [name for name, given in modes.items() if given]
    if len(chosen) > 1:
        raise UsageError(f"{chosen[0]} and {chosen[1]} do not go together", hint="leave one out")
    if frame.json and markdown:
        raise UsageError("--json and --markdown contradict each other", hint="leave one out")
    if not budget and (ttl is not None or grace is not None):
        raise UsageError("--ttl and --grace are for --budget", hint="--budget -b redis --ttl 5s")
    if budget:
        from electctl.cli.advise_budget import show_budget

        if pairs or answers or tree:
            raise UsageError("--budget takes no answers", hint="leave them out")
        show_budget(frame, ttl, grace)
        return
    found, said = _read(pairs or [], answers, tree)
    if check is not None or check_all:
        from electctl.cli.advise_check import check_choices

        if frame.backends:
            raise UsageError("-b is not for --check", hint="--check URL judges a URL")
        raise typer.Exit(check_choices(frame, found, said, check, ask=_may_ask(frame, answers)))
    if show:
        from electctl.cli.advise_show import show_tree

        show_tree(frame, found, said)
        return
    from electctl.cli.advise_given import complete

    said = complete(frame, found, said, ask=_may_ask(frame, answers))
    _advise(frame, found, said, markdown)


def _read(pairs: list[str], source: str | None, path: str | None) -> tuple[Tree, dict[str, str]]:
    from electctl.advise import answers, loader

    tree = loader.load(None if path is None else Path(path))
    said = {} if source is None else answers.from_file(tree, *answers.read(source))
    return tree, said | answers.from_settings(tree, pairs)


def _may_ask(frame: Frame, source: str | None) -> bool:
    """Whether somebody is there to answer: a terminal to type on, and one to read from."""
    return (
        not frame.quiet
        and source != "-"
        and sys.stdin is not None
        and sys.stdin.isatty()
        and frame.stderr.isatty()
    )


def _advise(frame: Frame, tree: Tree, said: dict[str, str], markdown: bool) -> None:
    from electctl.advise.evaluator import evaluate, sensitivity
    from electctl.cli import advise_text, prose, render
    from electctl.cli.advise_given import installed

    options = installed()
    verdict = evaluate(tree, said, options)
    changes = sensitivity(tree, said, options)
    if frame.json:
        frame.emit(advise_text.as_dict(verdict, changes))
    elif markdown:
        frame.print(advise_text.as_markdown(verdict, changes))
    elif render.is_live(frame.stdout):
        from electctl.cli.advise_panel import print_panel

        print_panel(frame, verdict, advise_text.sections(verdict, changes))
    else:
        frame.print(advise_text.as_text(advise_text.sections(verdict, changes), prose.width()))
