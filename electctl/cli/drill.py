"""``electctl drill``: break something under real campaigns, and see what comes of it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from electctl.cli import drill_text, prose
from electctl.cli.app import Command, new_app
from electctl.cli.frame import Frame
from electctl.cli.options import Duration
from electctl.errors import Inconclusive, Negative, UsageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

app = new_app(help="Break something under real campaigns, and see what comes of it.")

RUN = """
electctl drill run redis --fault pause:tree
electctl drill run etcd --fault crash:electctl --expect safe
electctl drill run local: --fault pause:tree
electctl drill run redis --fault pause:tree --rounds 3 --json
"""
LIST = """
electctl drill list
electctl drill list redis
"""
VERDICTS = ("safe", "fenced", "split-brain", "not_injected", "inconclusive")
_UNKNOWN = ("not_injected", "inconclusive")
#: Seeds are small, to be typed again.
_SEEDS = 10_000


@app.command("run", cls=Command, epilog=RUN)
def run(
    ctx: typer.Context,
    place: Annotated[
        str,
        typer.Argument(metavar="URL|SCHEME", help="Servers to start, as in redis; or a store."),
    ],
    fault: Annotated[
        str, typer.Option("--fault", metavar="FAULT", help="One of those of drill list.")
    ],
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Decides what can be decided.  [default: any]"),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="How often.")] = 1,
    ttl: Annotated[float | None, Duration("--ttl", help="Of the election.  [default: 3s]")] = None,
    candidate: Annotated[
        str, typer.Option("--candidate", metavar="TOOL", help="What campaigns, see drill list.")
    ] = "electctl",
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect", metavar="VERDICT", help="Exit with 1 if it is another.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Keep each round's record there, for electctl verify.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start servers, candidates and commands, break one thing, and say what came of it.

    Three campaigns run a command that writes to three resources every few milliseconds: one that
    takes everything, one that refuses a token lower than it has seen, and the guarded checkpoint.
    The verdict is safe (no two acted at once, no stale write was tried), fenced (some were, all
    were refused), split-brain (one was taken), not_injected or inconclusive. Everything runs on
    this machine, and is removed again.

    With a URL the candidates campaign on a store that runs already, in an election of their own:
    what is broken there are candidates, never the store.

    Exit codes: 0; 1 if the verdict is not the one of --expect; 3 if the fault could not be
    injected, or the record says too little.
    """
    from electctl.drill import runner
    from electctl.faults import library

    frame = Frame.of(ctx)
    _check(rounds, ttl, expect)
    first = secrets.randbelow(_SEEDS) if seed is None else seed
    kept = None if keep is None else Path(keep).absolute()
    plans = [
        runner.Plan(
            place,
            library.find(fault).name,
            first + number,
            ttl or runner.TTL,
            candidate,
            number + 1,
            None if kept is None else kept / f"seed-{first + number}",
        )
        for number in range(rounds)
    ]
    results: list[dict[str, Any]] = []

    def tell(result: dict[str, Any]) -> None:
        results.append(result)
        if frame.json:
            frame.emit(result)
        elif not frame.quiet:
            frame.print(drill_text.shown(frame, result, prose.width(most=120)))

    def work(stop: threading.Event) -> None:
        runner.run(plans, stop, tell, frame.note)

    runner.in_order(work, frame.note)
    _conclude([result["verdict"] for result in results], expect)


def _scheme(text: str) -> str:
    """A scheme as it is typed. Raises UsageError for a URL: what is there is not ours to break."""
    scheme, _, rest = text.partition(":")
    if rest.strip("/"):
        raise UsageError(
            "a matrix is played on servers of its own, and breaks no others",
            hint=f"electctl drill matrix {scheme}, or electctl drill run {scheme}:… --fault FAULT",
        )
    return scheme


def _check(rounds: int, ttl: float | None, expect: str | None) -> None:
    from difflib import get_close_matches

    if rounds < 1:
        raise UsageError(f"--rounds: {rounds} is no number of rounds", hint="--rounds 1")
    if ttl is not None and ttl <= 0:
        raise UsageError("--ttl: a lease of 0 s is none", hint="--ttl 3s is the default")
    if expect is not None and expect not in VERDICTS:
        near = get_close_matches(expect, VERDICTS, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(VERDICTS)}"
        raise UsageError(f"--expect: there is no verdict {expect!r}", hint=hint)


def _conclude(verdicts: Iterable[str], expect: str | None) -> None:
    """The exit code: what was found against what was expected."""
    if expect is not None:
        other = [verdict for verdict in verdicts if verdict != expect]
        known = [verdict for verdict in other if verdict not in _UNKNOWN]
        if known:
            raise Negative(
                f"the verdict is {known[0]}, and {expect} was expected",
                hint="electctl explain split-brain",
            )
    else:
        other = [verdict for verdict in verdicts if verdict in _UNKNOWN]
    if other:
        raise Inconclusive(
            f"the verdict is {other[0]}: it says nothing of the scheme",
            hint="is the machine busy? --keep DIR keeps what was recorded",
        )


@app.command("list", cls=Command, epilog=LIST)
def list_faults(
    ctx: typer.Context,
    scheme: Annotated[
        str | None,
        typer.Argument(metavar="[SCHEME]", help="Only what applies to it.", show_default=False),
    ] = None,
) -> None:
    """What can be broken, and where."""
    from electctl.drill import catalogue

    frame = Frame.of(ctx)
    found = catalogue.faults(None if scheme is None else _scheme(scheme))
    if frame.json:
        for fault in found:
            frame.emit(fault)
        return
    frame.print_table(
        ("FAULT", "WHAT IS DONE", "SCHEMES"),
        [(each["fault"], each["does"], ", ".join(each["schemes"])) for each in found],
    )


MATRIX = """
electctl drill matrix --quick
electctl drill matrix redis etcd --rounds 3
electctl drill matrix --candidate etcdctl-lock --fault pause:electctl
electctl drill matrix --results drills.jsonl --json
"""
_ROUNDS = 3


@app.command("matrix", cls=Command, epilog=MATRIX)
def matrix(
    ctx: typer.Context,
    schemes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCHEME...]", help="These alone.", show_default=False),
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="FAULT", help="These alone; repeatable."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One round of each.")] = False,
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", help="Of each.  [default: 3]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the first round.")] = 1,
    ttl: Annotated[float | None, Duration("--ttl", help="Of the elections.  [default: 3s]")] = None,
    candidate: Annotated[
        str, typer.Option("--candidate", metavar="TOOL", help="What campaigns, as in drill run.")
    ] = "electctl",
    at_once: Annotated[
        int | None,
        typer.Option("--at-once", metavar="N", help="Labs.  [default: 2 a processor]"),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="Appended to.  [default: drill/results.jsonl in the state directory]",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Play also what the file has results of.")
    ] = False,
) -> None:
    """Play every fault on every scheme that it applies to.

    Each result is appended to a file as one line of JSON. What the file has a result of already, of
    this version, seed and TTL, is not played again; so it goes on where it was interrupted.

    Exit codes: 0; 3 if a fault could not be injected, or a record says too little.
    """
    from electctl.compare import results as recorded
    from electctl.drill import matrix as rounds_of
    from electctl.drill import runner
    from electctl.faults import library

    frame = Frame.of(ctx)
    if quick and rounds is not None:
        raise UsageError("--quick and --rounds contradict each other", hint="leave one out")
    number = 1 if quick else _ROUNDS if rounds is None else rounds
    _check(number, ttl, None)
    if at_once is not None and at_once < 1:
        raise UsageError(f"--at-once: {at_once} labs are none", hint="--at-once 2")
    names = [library.find(fault).name for fault in faults or ()]
    wanted = rounds_of.plans(
        [_scheme(scheme) for scheme in schemes or ()],
        names,
        number,
        seed,
        ttl or runner.TTL,
        candidate,
    )
    if not wanted:
        raise UsageError("none of these faults applies there", hint="electctl drill list")
    path = recorded.own_file() if results is None else Path(results)
    known = [each.data for each in recorded.read(path)] if path.exists() else []
    todo = wanted if again else rounds_of.left(wanted, known)
    if len(todo) < len(wanted):
        frame.note(f"{path} has {len(wanted) - len(todo)} of {len(wanted)} rounds already")
    file = rounds_of.Results(path)
    failures: list[rounds_of.Failure] = []
    with drill_text.progress(frame, len(todo)) as step:

        def tell(result: dict[str, Any]) -> None:
            file.add(result)
            known.append(result)
            if frame.json:
                frame.emit(result)
            step()

        def failed(failure: rounds_of.Failure) -> None:
            failures.append(failure)
            step()

        def work(stop: threading.Event) -> None:
            rounds_of.play(todo, at_once or rounds_of.labs_at_once(), stop, tell, failed)

        runner.in_order(work, frame.note)
    keys = {rounds_of.key_of_plan(plan) for plan in wanted}
    found = [result for result in known if rounds_of.key_of(result) in keys]
    if not frame.json and not frame.quiet:
        heads, rows = drill_text.grid(found)
        frame.print_table(heads, rows)
    for failure in failures:
        frame.note(f"{failure.plan.scheme} × {failure.plan.fault}: {failure.why}")
    frame.note(f"results: {path}")
    if failures:
        raise Inconclusive(f"{len(failures)} rounds gave no result", hint="is the machine busy?")
    _conclude([result["verdict"] for result in found], None)
