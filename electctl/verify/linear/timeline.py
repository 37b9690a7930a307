"""Why a history is not linearizable, as text: the longest order that was found, and a timeline.

What this does not guarantee: that all of a long history is shown; its end is.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

from electctl.verify.linear.history import Operation
from electctl.verify.linear.judge import Violation

#: Operations of the order that are shown: the last ones.
_LAST: Final = 12
#: Columns of a value; the beginning and the end of a longer one.
_VALUE: Final = 40
_HEAD, _TAIL = 12, 24
_NARROWEST: Final = 20
_WIDEST: Final = 80


def words(operation: Operation) -> str:
    """An operation in words: ``read → 3``, ``cas 3 → 0 failed``."""
    given = operation.given
    match operation.kind:
        case "cas" | "failed cas" if isinstance(given, tuple):
            old, new = map(shown, given)
            failed = " failed" if operation.kind == "failed cas" else ""
            return f"cas {old} → {new}{failed}"
        case "read" | "get":
            return f"{operation.kind} → {shown(operation.answer)}"
    return f"{operation.kind} {shown(given)}"


def shown(value: Hashable) -> str:
    """A value or a state, as it is shown: one line, and of a long one the beginning and the end."""
    if value is None:
        return "nil"
    if not isinstance(value, str):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    text = "".join(ch if ch.isprintable() else ascii(ch)[1:-1] for ch in text)
    return text if len(text) <= _VALUE else f"{text[:_HEAD]} … {text[-_TAIL:]}"


def lines_of(operation: Operation) -> str:
    """From which line to which: ``7-9``; ``7-`` where there was no answer."""
    return f"{operation.call:g}-" + ("" if operation.back is None else f"{operation.back:g}")


def explanation(violation: Violation, width: int) -> str:
    """The longest order that was found, then who was open when; at most ``width`` columns wide.

    ``=`` is in that order, ``#`` cannot be put in it, ``-`` is not in it, ``>`` has no answer yet.
    """
    last = violation.order[-_LAST:]
    return "\n".join((*_table(violation, len(last)), "", *_lanes(violation, last, width)))


def _table(violation: Violation, last: int) -> Iterator[str]:
    order = violation.order
    part = f", its last {last} of {len(order)}" if last < len(order) else ""
    yield f"the longest order that was found{part}:"
    rows = [("lines", "process", "operation", "it holds")]
    if not last:
        rows.append(("", "", "(none)", shown(violation.state)))
    rows += [
        (lines_of(operation), operation.process, words(operation), shown(state))
        for operation, state in order[len(order) - last :]
    ]
    one = violation.operation
    rows.append((lines_of(one), one.process, words(one), "cannot follow"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  " + "  ".join(map(str.ljust, row, widths)).rstrip()


def _lanes(
    violation: Violation, last: Sequence[tuple[Operation, Any]], width: int
) -> Iterator[str]:
    drawn = [(operation, "=") for operation, _ in last]
    drawn += [(operation, "-") for operation in violation.left[-_LAST:]]
    drawn.append((violation.operation, "#"))
    drawn.sort(key=lambda lane: lane[0].call)
    labels = [f"{operation.process}  {words(operation)}" for operation, _ in drawn]
    label = max(map(len, labels))
    room = max(_NARROWEST, min(_WIDEST, width - label - 6))
    start = min(operation.call for operation, _ in last) if last else 1
    whole = max(1.0, violation.until - start)

    def column(line: float) -> int:
        return max(0, int((line - start) * (room - 1) / whole))

    for text, (operation, mark) in zip(labels, drawn, strict=True):
        first = column(operation.call)
        end = room - 1 if operation.back is None else column(operation.back)
        goes_on = ">" if operation.back is None else ""
        yield f"  {text.ljust(label)}  {' ' * first}{mark * (end - first + 1)}{goes_on}"
    scale = f"{start:g}"
    scale += f"{violation.until:g}".rjust(room - len(scale))
    yield f"  {'line'.ljust(label)}  {scale}"
    yield "  # cannot be put in order; = is in the order above; - is not in it; > had no answer yet"
