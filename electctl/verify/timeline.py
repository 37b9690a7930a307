"""A violation as text: the lines that show it in order of time, and who led from when to when.

What this does not guarantee: the right proportions of what is far shorter than the rest; it is
drawn one column wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from electctl.verify.verdict import Line, Stretch, Violation

_NARROWEST = 20
_WIDEST = 80


def timeline(violation: Violation, width: int) -> str:
    """At most ``width`` columns where that is possible. "" where there is nothing to draw.

    ``=`` is one leader, ``#`` two at once, ``>`` a leadership that goes on; so it needs no colour.
    """
    parts = [_table(violation.lines), _lanes(violation.stretches, width)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _table(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    boot, start = lines[0].entry.boot_id, lines[0].entry.boottime_ns
    rows = []
    for line in lines:
        entry = line.entry
        since = f"{(entry.boottime_ns - start) / 1e9:.6f} s" if entry.boot_id == boot else entry.ts
        token = "" if entry.token is None else f"token {entry.token}"
        rows.append((since, str(line.as_dict()["holder"] or "-"), token, _event(line), line.place))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:], widths[1:])]).rstrip()
        for row in (tuple(_plain(cell) for cell in row) for row in rows)
    ]


def _event(line: Line) -> str:
    entry = line.entry
    details = [
        str(entry.data[name])
        for name in ("view", "reason", "outcome", "resource")
        if name in entry.data
    ]
    if "version" in entry.data:
        details.append(f"version {entry.data['version']}")
    return entry.event + (f" ({', '.join(details)})" if details else "")


def _lanes(stretches: Sequence[Stretch], width: int) -> list[str]:
    if not stretches:
        return []
    start = min(stretch.since for stretch in stretches)
    ends = [stretch.since if stretch.until is None else stretch.until for stretch in stretches]
    whole = max(1, max(ends) - start)
    label = max(len(_plain(stretch.label)) for stretch in stretches)
    room = max(_NARROWEST, min(_WIDEST, width - label - 6))
    *leaders, overlap = stretches
    columns = [
        (
            (stretch.since - start) * room // whole,
            room if stretch.until is None else (stretch.until - start) * room // whole,
        )
        for stretch in stretches
    ]
    both = range(columns[-1][0], max(columns[-1][1], columns[-1][0] + 1))
    drawn = [
        f"  {_plain(stretch.label).ljust(label)}  "
        + "".join(_cells(span, both, stretch.until is None))
        for stretch, span in zip(leaders, columns, strict=False)
    ]
    length = 0 if overlap.until is None else overlap.until - overlap.since
    end = f"{whole / 1e9:.6g} s"
    scale = f"  {'':{label}}  0{end.rjust(room)}"
    return [*drawn, scale, f"  # two at once, for {length / 1e6:g} ms at least"]


def _cells(span: tuple[int, int], both: range, goes_on: bool) -> Iterator[str]:
    first, last = span[0], max(span[1], span[0] + 1)
    for column in range(max(last, both.stop)):
        if column in both and first <= column:
            yield "#"
        else:
            yield "=" if first <= column < last else " "
    if goes_on:
        yield ">"


def _plain(text: str) -> str:
    """One line, nothing that a terminal would take for an order."""
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)
