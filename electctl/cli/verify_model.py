"""``electctl verify --model``: is the log of a register or a map linearizable.

What this does not guarantee: that a log is true. A verdict is about what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from electctl.cli import prose, render
from electctl.cli.frame import Frame
from electctl.errors import Inconclusive, Negative, UsageError

if TYPE_CHECKING:
    from electctl.verify.linear.history import Operation
    from electctl.verify.linear.judge import Judgement, Violation

#: Seconds and megabytes where none are given.
MAX_TIME = 60.0
MAX_MEMORY = 500
_MEGABYTE = 1_000_000


def verify_model(
    frame: Frame, name: str, files: Sequence[str], max_time: float | None, max_memory: int | None
) -> None:
    """Judge each file, show it, and raise what the exit code is to be."""
    from electctl.base.clock import now
    from electctl.verify.linear.files import KINDS, judge_file
    from electctl.verify.linear.search import Limits

    if name not in KINDS:
        raise UsageError(f"--model: {name!r} is none of {', '.join(KINDS)}")
    seconds = MAX_TIME if max_time is None else max_time
    memory = MAX_MEMORY if max_memory is None else max_memory
    if memory < 1:
        raise UsageError("--max-memory must be 1 or more")
    first: tuple[str, Judgement] | None = None
    undecided: list[tuple[str, Judgement]] = []
    for file in files:
        until = now() + seconds
        limits = Limits(memory * _MEGABYTE, lambda until=until: now() >= until)  # type: ignore[misc]
        judgement = judge_file(Path(file), KINDS[name], limits)
        if frame.json:
            frame.emit(_as_dict(file, name, judgement))
        elif not frame.quiet:
            # One timeline is enough; the others come if their file is named alone.
            frame.print(_text(frame, file, judgement, drawn=first is None))
        if first is None and judgement.violation is not None:
            first = file, judgement
        if judgement.limit is not None and judgement.violation is None:
            undecided.append((file, judgement))
    if first is not None and first[1].violation is not None:
        raise Negative(
            f"{first[0]}: not linearizable: {_what(first[1].violation)}",
            hint="electctl explain linearizable",
        )
    if undecided:
        file, judgement = undecided[0]
        raise Inconclusive(
            f"{file}: no verdict within {_limit(judgement, seconds, memory)}",
            hint="--max-time and --max-memory allow more; such a search can also take for ever",
        )


def _limit(judgement: Judgement, seconds: float, memory: int) -> str:
    return f"{seconds:g} s" if judgement.limit == "time" else f"{memory} MB"


def _text(frame: Frame, file: str, judgement: Judgement, *, drawn: bool) -> str:
    from electctl.verify.linear.timeline import explanation

    keys = "" if judgement.keys < 2 else f", {judgement.keys} keys"
    head = (
        f"{render.shown(file)}: {judgement.verdict.replace('_', ' ')} "
        f"({judgement.operations} operations{keys})"
    )
    violation = judgement.violation
    if violation is None:
        if judgement.undecided and judgement.keys > 1:
            head += f": {_keys(judgement.undecided)} not decided"
        return head
    head += f": {_what(violation)}"
    if len(judgement.violated) > 1:
        head += f"; of {len(judgement.violated)} keys the first to show it"
    if not drawn:
        return head
    room = prose.width(most=120)
    return f"{head}\n\n{render.coloured(frame.stdout, explanation(violation, room))}\n"


def _keys(keys: Sequence[str]) -> str:
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"


def _what(violation: Violation) -> str:
    from electctl.verify.linear.timeline import lines_of, shown, words

    one = violation.operation
    key = f" on key {shown(violation.key)}" if violation.key else ""
    where = f"of the first {violation.until:g} lines"
    if not violation.shortest:
        where += " (or fewer)"
    return (
        f"{words(one)} of process {one.process}{key} (lines {lines_of(one)}) "
        f"fits into no order {where}"
    )


def _as_dict(file: str, name: str, judgement: Judgement) -> dict[str, Any]:
    violation = judgement.violation
    return {
        "file": file,
        "model": name,
        "verdict": judgement.verdict,
        "lines": judgement.lines,
        "operations": judgement.operations,
        "keys": judgement.keys,
        "configurations": judgement.configurations,
        "limit": judgement.limit,
        "undecided": list(judgement.undecided),
        "violated": list(judgement.violated),
        "violation": None if violation is None else _violation(violation),
    }


def _violation(violation: Violation) -> dict[str, Any]:
    return {
        "key": violation.key or None,
        "until_line": int(violation.until),
        "shortest": violation.shortest,
        "operation": _operation(violation.operation),
        "order": [
            {**_operation(operation), "state": state} for operation, state in violation.order
        ],
        "left": [_operation(operation) for operation in violation.left],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "process": operation.process,
        "kind": operation.kind,
        "given": operation.given,
        "answer": operation.answer,
        "called": int(operation.call),
        "answered": None if operation.back is None else int(operation.back),
    }
