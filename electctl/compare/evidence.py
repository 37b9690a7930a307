"""What drills have shown: results gathered into cells, one for each scheme, candidate and fault.

What this does not guarantee: that what was not seen cannot happen. A cell is as good as its rounds
are many, on the machine and with the versions that stand in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, Literal, get_args

from electctl.compare.promises import Promise, in_words
from electctl.compare.results import VIEWS, Result, Verdict

Origin = Literal["reference", "own"]
#: The worst first: what was seen to break stands, whatever other rounds show; and a cell is safe
#: only if every round of it was.
ORDER: tuple[Verdict, ...] = get_args(Verdict)
#: The candidate that is electctl itself; all others are native tools.
ELECTCTL = "electctl"


@dataclass(frozen=True)
class Cell:
    """The rounds of one fault, on one scheme, with one kind of candidate."""

    scheme: str
    candidate: str
    fault: str
    origin: Origin
    rounds: tuple[Result, ...]

    @cached_property
    def verdicts(self) -> dict[Verdict, int]:
        """Verdict → in how many rounds, the worst first."""
        counted = Counter(each.verdict for each in self.rounds)
        return {verdict: counted[verdict] for verdict in ORDER if counted[verdict]}

    @property
    def count(self) -> int:
        """How many rounds there are."""
        return len(self.rounds)

    @property
    def verdict(self) -> Verdict:
        """The worst of the rounds."""
        return next(iter(self.verdicts))

    @property
    def shown(self) -> Result:
        """The round that stands for the cell: the newest with its verdict."""
        alike = [each for each in self.rounds if each.verdict == self.verdict]
        return max(alike, key=lambda each: each.started)

    @property
    def failovers(self) -> list[float]:
        """Milliseconds from the fault to the next leader's first act, of each round with one."""
        times = (each.data["failover"] for each in self.rounds)
        return [time for time in times if time is not None]

    @property
    def handovers(self) -> list[float]:
        """Milliseconds from a SIGTERM to the next leader's first act, of each round with one."""
        times = (each.data["handover"] for each in self.rounds)
        return [time for time in times if time is not None]

    @property
    def breaks(self) -> list[str]:
        """What was seen to break in some round, in the words of ``Weakness.breaks``."""
        return sorted({loss for each in self.rounds for loss in each.data["breaks"]})

    @property
    def also(self) -> str:
        """What broke that the verdict does not say, in words: ``safe`` says nothing of tokens."""
        said = {"exclusion"} if self.verdict in ("fenced", "split-brain") else set()
        return in_words(loss for loss in self.breaks if loss not in said)

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it. Of several rounds the worst figures, and one round in full."""
        data = [each.data for each in self.rounds]
        without = [each["without_leader"] for each in data if each["without_leader"] is not None]
        margins = [each["margin"] for each in data if each["margin"] is not None]
        return {
            "scheme": self.scheme,
            "candidate": self.candidate,
            "fault": self.fault,
            "origin": self.origin,
            "verdict": self.verdict,
            "rounds": self.count,
            "verdicts": self.verdicts,
            "failover": self.failovers,
            "handover": self.handovers,
            "without_leader": max(without, default=None),
            "margin": min(margins, default=None),
            "overlap": {view: max(each["overlap"][view] for each in data) for view in VIEWS},
            "stale": {
                resource: {
                    outcome: sum(each["stale"][resource][outcome] for each in data)
                    for outcome in ("tried", "accepted")
                }
                for resource in data[0]["stale"]
                if all(resource in each["stale"] for each in data)
            },
            "breaks": self.breaks,
            "shown": self.shown.data,
        }


class Evidence:
    """All cells. Runs of the reader's own replace those of the reference run, cell by cell."""

    def __init__(self, reference: Iterable[Result] = (), own: Iterable[Result] = ()) -> None:
        found = _cells(reference, "reference") | _cells(own, "own")
        self._cells = [found[key] for key in sorted(found, key=_place)]

    def of(self, schemes: Sequence[str]) -> list[Cell]:
        """The cells of some schemes: electctl's first, then by candidate and fault."""
        return [cell for cell in self._cells if cell.scheme in schemes]

    def schemes(self) -> set[str]:
        """Those that there is any run of."""
        return {cell.scheme for cell in self._cells}

    def candidates(self, schemes: Sequence[str]) -> list[tuple[str, str]]:
        """Scheme and candidate of each column; one without a run where there is no cell."""
        found = dict.fromkeys((cell.scheme, cell.candidate) for cell in self.of(schemes))
        return list(found) or [(schemes[0], ELECTCTL)]

    def faults(self) -> list[str]:
        """Every fault of which there is a run, by name."""
        return sorted({cell.fault for cell in self._cells})

    def rows(self, found: Iterable[Promise]) -> list[str]:
        """Those, and the ones that a weakness names and nobody has run, by name."""
        ran = set(map(base, self.faults()))
        declared = {w.fault for promise in found for w in promise.traits.weaknesses if w.fault}
        return sorted({*self.faults(), *(declared - ran)})


def base(fault: str) -> str:
    """The name of a fault without its variant."""
    return fault.partition(":")[0]


def as_dict(promise: Promise, evidence: Evidence) -> dict[str, Any]:
    """A promise and what was seen of it, as JSON shows it.

    ``bound`` is that of :attr:`Traits.failover` for the TTL of the run, in milliseconds.
    """
    traits = promise.traits

    def bound(ttl: float) -> float:
        return 1000 * traits.failover_bound(traits.granted(ttl))

    return promise.as_dict() | {
        "evidence": [
            cell.as_dict() | {"bound": bound(cell.shown.data["ttl"])}
            for cell in evidence.of(promise.schemes)
        ]
    }


_Key = tuple[str, str, str]


def _place(key: _Key) -> tuple[str, bool, str, str]:
    scheme, candidate, fault = key
    return scheme, candidate != ELECTCTL, candidate, fault


def _cells(results: Iterable[Result], origin: Origin) -> dict[_Key, Cell]:
    """Of each cell what was played as its newest round was; of each seed the newest.

    Rounds of one run may stand in any order, because some are played at the same time.
    """
    found: dict[_Key, list[Result]] = {}
    for each in results:
        found.setdefault((each.scheme, each.candidate, each.fault), []).append(each)
    cells = {}
    for key, played in found.items():
        alike = {each.seed: each for each in played if _as_in(each) == _as_in(played[-1])}
        cells[key] = Cell(*key, origin, tuple(alike[seed] for seed in sorted(alike)))
    return cells


def _as_in(result: Result) -> tuple[object, ...]:
    """What must be the same for rounds to be counted together."""
    return result.data["ttl"], result.data["nodes"], result.data["versions"]


# In words ----------------------------------------------------------------------------------------

WORDS: dict[Verdict, str] = {
    "safe": "safe",
    "fenced": "fenced",
    "split-brain": "split-brain",
    "not_injected": "not injected",
    "inconclusive": "inconclusive",
}
NO_RUN = "no run"
#: As they are read: what holds first.
_READ: tuple[Verdict, ...] = ("safe", "fenced", "split-brain", "inconclusive", "not_injected")


def told(evidence: Evidence, schemes: Sequence[str]) -> list[str]:
    """What is seen of some schemes, in sentences: of electctl, then of each native tool."""
    sentences = []
    for scheme, candidate in evidence.candidates(schemes):
        cells = [cell for cell in evidence.of([scheme]) if cell.candidate == candidate]
        if cells:
            sentences += _told(cells, evidence.faults())
        else:
            sentences.append(f"by {candidate} on {scheme}: {NO_RUN} yet; electctl drill makes one")
    return sentences


def _told(cells: Sequence[Cell], faults: Iterable[str]) -> list[str]:
    """Of one scheme and candidate. ``faults`` were run somewhere: those missing here are named."""
    said = [source(cells)]
    for verdict in _READ:
        if names := [_name(cell) for cell in cells if cell.verdict == verdict]:
            said.append(f"{WORDS[verdict]}: {', '.join(names)}")
    ran = {cell.fault for cell in cells}
    if cells[0].candidate == ELECTCTL and (missing := [each for each in faults if each not in ran]):
        said.append(f"{NO_RUN}: {', '.join(missing)}")
    for label, times in (
        ("fail-over", [time for cell in cells for time in cell.failovers]),
        ("hand-over", [time for cell in cells for time in cell.handovers]),
    ):
        if times:
            said.append(f"{label}: {spread(times)}")
    return said


def _name(cell: Cell) -> str:
    """The fault, what else broke, and how its rounds went where they were not of one mind."""
    notes = [cell.also] if cell.also else []
    if len(cell.verdicts) > 1:
        notes += [f"{count} {WORDS[verdict]}" for verdict, count in cell.verdicts.items()]
    return f"{cell.fault} ({', '.join(notes)})" if notes else cell.fault


def source(cells: Iterable[Cell]) -> str:
    """Where the cells of one scheme and candidate are from: whose run, when, on what."""
    cells = list(cells)
    newest = max(cells, key=lambda cell: cell.shown.started).shown
    data, versions = newest.data, newest.data["versions"]
    ours = f"electctl {versions.get('electctl', 'of no known version')}"
    nodes = {None: None, 1: "1 node"}.get(data["nodes"], f"{data['nodes']} nodes")
    # The built-in server is electctl itself.
    machine = data["machine"].get("system")
    parts = dict.fromkeys((versions.get("server"), nodes, ours, machine))
    origins = {cell.origin for cell in cells}
    whose = {
        frozenset(("reference",)): "the reference run",
        frozenset(("own",)): "your runs",
    }.get(frozenset(origins), "the reference run, and your runs in its place")
    return (
        f"by {newest.candidate} on {newest.scheme}: {whose}, {newest.started:%Y-%m-%d}, "
        + ", ".join(str(part) for part in parts if part)
    )


def spread(times: Sequence[float]) -> str:
    """Times in milliseconds, as their median and their ends."""
    if len(times) == 1:
        return f"{ms(times[0])}, once"
    ends = f"from {ms(min(times))} to {ms(max(times))}"
    return f"{ms(median(times))} in the median, {ends}, in {len(times)} rounds"


def ms(time: float) -> str:
    """Milliseconds for people."""
    return f"{time:.0f} ms" if time < 1000 else f"{time / 1000:.3g} s"
