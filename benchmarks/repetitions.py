"""How often each cell of the matrix had which verdict: the same drill, many times.

    python -m benchmarks.repetitions unpack results.jsonl
    electctl drill matrix --rounds 20 --results results.jsonl      (and --candidate each tool)
    python -m benchmarks.repetitions pack results.jsonl
    python -m benchmarks.repetitions

The last one prints what ``docs/drills.md`` shows. Rounds are kept without their lanes and marks,
which the reference run of the package has of three rounds of each; ``drill matrix`` plays only
what its file has no result of. What this does not show: why. Each round's ``command`` repeats it.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from electctl.compare.results import VIEWS, Result, parse, read
from electctl.drill.matrix import key_of

KEPT = Path(__file__).with_name("repetitions.jsonl.gz")
Cell = tuple[str, str, str]


def kept() -> list[Result]:
    """The rounds that are in this directory. Raises OSError."""
    return parse(gzip.decompress(KEPT.read_bytes()).decode().splitlines(keepends=True), KEPT.name)


def pack(results: list[Result]) -> None:
    """Keep these, the first of those that are played twice."""
    rounds = {key_of(result.data): _bare(result.data) for result in reversed(results)}
    lines = sorted(json.dumps(data, separators=(",", ":")) + "\n" for data in rounds.values())
    # Without a time in it the same rounds are the same bytes.
    KEPT.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def unpack(path: Path) -> None:
    """A file of results to go on from. Raises FileExistsError."""
    with path.open("x") as lines:
        lines.writelines(json.dumps(result.data) + "\n" for result in kept())


def table(results: list[Result]) -> Iterator[str]:
    """Markdown: the cells of one mind by their number, the others one by one."""
    cells: defaultdict[Cell, Counter[str]] = defaultdict(Counter)
    for result in results:
        cells[result.scheme, result.candidate, result.fault][result.verdict] += 1
    fewest = min(sum(counts.values()) for counts in cells.values())
    alike = [counts for counts in cells.values() if len(counts) == 1]
    yield (
        f"{len(results)} rounds of {len(cells)} cells, at least {fewest} of each; "
        f"{len(alike)} cells of one mind.\n"
    )
    yield "| scheme | candidate | fault | verdicts |"
    yield "|---|---|---|---|"
    for (scheme, candidate, fault), counts in sorted(cells.items()):
        if len(counts) > 1:
            said = ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
            yield f"| {scheme} | {candidate} | `{fault}` | {said} |"


def _bare(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"lanes": {view: [] for view in VIEWS}, "marks": []}


def main(words: list[str]) -> None:
    match words:
        case ["pack", path]:
            pack(read(Path(path)))
        case ["unpack", path]:
            unpack(Path(path))
        case []:
            print("\n".join(table(kept())))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
