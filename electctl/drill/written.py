"""What a round wrote down: the log of the ledger, and the events of campaigns, read as evidence.

What this does not guarantee: a last line that its writer died over; it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from electctl.drill.evidence import Act, Mark, Outcome, Read, Set, Span, Term
from electctl.record import history

#: Nanoseconds before the end of a round within which who acted still acts.
_STILL = 250_000_000
_OUTCOMES: dict[str, Outcome] = {
    "accepted": "accepted",
    "refused": "refused",
    "unknown": "unknown",
}


def parse_value(value: str) -> tuple[Term, int] | None:
    """What a writer set the checkpoint to; None if it is nothing of a writer's."""
    candidate, _, rest = value.partition("/")
    token, _, version = rest.partition("/")
    if not version.isdigit():
        return None
    return _term(candidate, token), int(version)


def _term(candidate: str, token: str) -> Term:
    return Term(candidate, None if token == "-" else int(token))


class Log:
    """The log of a ledger, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.acts: list[Act] = []
        self._sets: list[Set] = []
        #: Attempts to set the checkpoint that nobody has told the end of, and their beginning.
        self._tried: dict[tuple[Term, int], int] = {}
        self.reads: list[Read] = []
        self._path = path
        self._read = 0

    def read_on(self) -> None:
        """Take in what has been written since."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text.rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        for line in whole.decode().splitlines():
            self._take(line.split(" "))

    def _take(self, words: Sequence[str]) -> None:
        at, verb, candidate, token = words[:4]
        term = _term(candidate, token)
        match verb, words[4:]:
            case "write", [_, answer]:
                self.acts.append(Act(int(at), term, answer == "accepted"))
            case "try", [began, version]:
                self._tried[term, int(version)] = int(began)
            case "set", [ended, version, outcome]:
                number = int(version)
                began_ns = self._tried.pop((term, number))
                self._sets.append(Set(began_ns, int(ended), term, number, _OUTCOMES[outcome]))
            case "get", [ended, began, value]:
                self.reads.append(Read(int(began), int(ended), parse_value(value)))

    @property
    def sets(self) -> list[Set]:
        """All attempts; of those that got no answer it is not known what came of them."""
        unanswered = [
            Set(began, began, term, version, "unknown")
            for (term, version), began in self._tried.items()
        ]
        return [*self._sets, *unanswered]

    def acted(self, candidate: str) -> int | None:
        """When it acted first."""
        return next((act.at for act in self.acts if act.term.candidate == candidate), None)


# Events ------------------------------------------------------------------------------------------


def entries(path: Path) -> list[history.Entry]:
    """The events that a campaign wrote."""
    if not path.exists():
        return []
    with path.open("rb") as lines:
        return [history.parse_line(line, str(path)) for line in lines if line.endswith(b"\n")]


def renewals(path: Path) -> int:
    """How many a campaign has told of."""
    return path.read_bytes().count(b'"event": "renewed"') if path.exists() else 0


def beliefs(
    events: Sequence[history.Entry], gone: Mapping[str, int], ended: int
) -> tuple[Span, ...]:
    """Who took itself for the leader. ``gone``: when a candidate's own process had ended."""
    spans: list[Span] = []
    begun: dict[str, tuple[Term, int]] = {}

    def end(candidate: str, until: int | None) -> None:
        if candidate in begun:
            term, since = begun.pop(candidate)
            if since < ended:
                spans.append(Span(term, since, None if until is None or until >= ended else until))

    for entry in events:
        candidate = str(entry.data.get("candidate", ""))
        if entry.event == "elected":
            end(candidate, entry.boottime_ns)
            begun[candidate] = Term(candidate, entry.token), entry.boottime_ns
        elif entry.event in ("lost", "released"):
            end(candidate, int(entry.data.get("led_until_ns", entry.boottime_ns)))
    for candidate in list(begun):
        end(candidate, gone.get(candidate))
    return tuple(sorted(spans, key=lambda span: span.since))


# Native tools, which tell nothing ----------------------------------------------------------------


def named(store: Sequence[Span], acts: Sequence[Act]) -> tuple[Span, ...]:
    """The store's leaders under the names of those who acted, in the same order.

    A store may not know the names that drills give, nor the tokens that a tool tells.
    """
    acted = list(dict.fromkeys(act.term for act in acts))
    found = list(dict.fromkeys(span.term for span in store))
    names = dict(zip(found, acted, strict=False))
    return tuple(replace(span, term=names.get(span.term, span.term)) for span in store)


def by_acts(acts: Sequence[Act], ended: int) -> tuple[Span, ...]:
    """Who takes itself for the leader: whoever acts, from its first act to its last."""
    spans: dict[Term, Span] = {}
    for act in acts:
        since = spans[act.term].since if act.term in spans else act.at
        spans[act.term] = Span(act.term, since, act.at)
    return tuple(
        Span(span.term, span.since, None if ended - (span.until or ended) < _STILL else span.until)
        for span in spans.values()
    )


def marks(events: Sequence[history.Entry]) -> tuple[Mark, ...]:
    """What campaigns told of themselves that is worth showing."""
    found = []
    for entry in events:
        told = _TOLD.get(entry.event)
        if told is not None:
            kind, text = told
            found.append(
                Mark(
                    entry.boottime_ns,
                    str(entry.data.get("candidate", "")),
                    kind,
                    text(entry.token, entry.data),
                )
            )
    return tuple(found)


def _under(token: int | None) -> str:
    return "" if token is None else f" under token {token}"


def _elected(token: int | None, data: Mapping[str, Any]) -> str:
    return f"elected{_under(token)}"


def _lost(token: int | None, data: Mapping[str, Any]) -> str:
    return f"lost: {data.get('reason')}"


def _released(token: int | None, data: Mapping[str, Any]) -> str:
    return "released"


def _started(token: int | None, data: Mapping[str, Any]) -> str:
    return f"its command started{_under(token)}"


def _gone(token: int | None, data: Mapping[str, Any]) -> str:
    return f"its command is gone, {data.get('margin_ms')} ms before the lease could end"


_TOLD: dict[str, tuple[Any, Any]] = {
    "elected": ("elected", _elected),
    "lost": ("lost", _lost),
    "released": ("released", _released),
    "command_started": ("started", _started),
    "command_gone": ("exited", _gone),
}
