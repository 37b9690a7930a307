"""What a round recorded beside campaigns and observer, as a history that ``electctl verify`` reads.

The lines are those of other programs (docs/verify.md): writes and reads of the three resources,
and the ends that a candidate which was killed could not tell of. What this does not guarantee: that
they are in one order with those of the other files; verify sorts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from electctl.drill.evidence import Evidence, Term
from electctl.record.events import Event
from electctl.record.history import Entry

#: Events after which a campaign's belief, and its effect, have ended by its own word.
_ENDS = {"belief": ("lost", "released", "finished"), "effect": ("command_gone",)}
_BEGINS = {"belief": "elected", "effect": "command_started"}


def lines(
    evidence: Evidence,
    election: str,
    scheme: str,
    events: Sequence[Entry],
    ended: Mapping[str, int],
) -> Iterator[str]:
    """Every line. ``ended``: when each candidate's first process had."""
    told = {str(entry.data.get("candidate")) for entry in events}
    for event in (
        *_writes(evidence, election, scheme),
        *_reads(evidence, election, scheme),
        *_deaths(evidence, election, scheme, events, ended),
        *_untold(evidence, election, scheme, told),
    ):
        yield event.as_line(recorded=True)


def write(path: Path, found: Iterator[str]) -> None:
    """Write them to a file."""
    path.write_text("".join(found))


def _writes(evidence: Evidence, election: str, scheme: str) -> Iterator[Event]:
    for act in evidence.acts:
        for resource, accepted in (("unfenced", True), ("fenced", act.accepted)):
            details = {"resource": resource, "outcome": "accepted" if accepted else "refused"}
            term = act.term
            yield Event("write", election, scheme, term.candidate, term.token, details, act.at)
    for each in evidence.sets:
        told: dict[str, object] = {
            "resource": "checkpoint",
            "outcome": each.outcome,
            "version": each.version,
            "value": _value(each.term, each.version),
            "began_ns": each.began,
        }
        term = each.term
        yield Event("write", election, scheme, term.candidate, term.token, told, each.ended)


def _reads(evidence: Evidence, election: str, scheme: str) -> Iterator[Event]:
    for read in evidence.reads:
        details: dict[str, object] = {"resource": "checkpoint", "began_ns": read.began}
        term: Term | None = None
        if read.found is not None:
            term, version = read.found
            details |= {"version": version, "value": _value(term, version)}
        yield Event(
            "read",
            election,
            scheme,
            None if term is None else term.candidate,
            None if term is None else term.token,
            details,
            read.ended,
        )


def _value(term: Term, version: int) -> str:
    return f"{term.candidate}/{term.token}/{version}"


def _deaths(
    evidence: Evidence,
    election: str,
    scheme: str,
    events: Sequence[Entry],
    ended: Mapping[str, int],
) -> Iterator[Event]:
    """The ends that nobody told: of belief with electctl, of effect with the last act."""
    last = {act.term.candidate: act.at for act in evidence.acts}
    for view, moments in (("belief", ended), ("effect", last)):
        begun: dict[str, int | None] = {}
        for entry in events:
            candidate = str(entry.data.get("candidate"))
            if entry.event == _BEGINS[view]:
                begun[candidate] = entry.token
            elif entry.event in _ENDS[view]:
                begun.pop(candidate, None)
        for candidate, token in begun.items():
            if candidate in moments:
                details = {"view": view}
                yield Event("end", election, scheme, candidate, token, details, moments[candidate])


def _untold(evidence: Evidence, election: str, scheme: str, told: set[str]) -> Iterator[Event]:
    """What a native tool's candidates did, who write no events."""
    first: dict[Term, int] = {}
    last: dict[Term, int] = {}
    for act in evidence.acts:
        first.setdefault(act.term, act.at)
        last[act.term] = act.at
    for term, since in first.items():
        if term.candidate in told:
            continue
        for view in ("belief", "effect"):
            for name, at in (("begin", since), ("end", last[term])):
                details = {"view": view}
                yield Event(name, election, scheme, term.candidate, term.token, details, at)
