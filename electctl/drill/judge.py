"""What a round comes to: evidence in, a judgement out. No I/O, no clock.

What this does not guarantee: that nothing happened which left no trace in the ledger. It judges
what was tried there, and what stores and campaigns said of themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from electctl.drill.evidence import (
    Break,
    Evidence,
    Mark,
    MarkKind,
    Promise,
    Resource,
    Set,
    Span,
    Term,
    Verdict,
    View,
)

#: Nanoseconds without an act after which a command is taken not to act. It tries every 5 ms.
PAUSE = 250_000_000
#: Nanoseconds beyond the bound on fail-over that are the machine's, and nobody's fault.
SLACK = 1_500_000_000
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Stale:
    """Writes under a leadership that was over, of one resource."""

    tried: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """Times in milliseconds. ``stale`` has no checkpoint where the scheme has none."""

    verdict: Verdict
    why: str
    overlap: Mapping[View, int]
    stale: Mapping[Resource, Stale]
    failover: int | None
    without_leader: int
    margin: int | None
    breaks: tuple[Break, ...]
    lanes: Mapping[View, tuple[Span, ...]]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Try:
    """A write that was tried under a leadership that was over."""

    at: int
    term: Term
    accepted: bool
    why: str


def judge(evidence: Evidence, promise: Promise) -> Judgement:
    """The whole judgement of one round."""
    effect = _effect(evidence)
    lanes: dict[View, tuple[Span, ...]] = {
        "store": evidence.store,
        "belief": evidence.belief,
        "effect": effect,
    }
    overlap = {view: overlap_of(spans, evidence.ended) for view, spans in lanes.items()}
    tries = _stale_tries(evidence, promise)
    stale = {
        resource: Stale(len(found), sum(each.accepted for each in found))
        for resource, found in tries.items()
    }
    lost = _lost(evidence)
    without = _without_leader(evidence)
    breaks = tuple(
        _breaks(
            evidence,
            promise,
            any(overlap.values()),
            stale,
            bool(lost),
            _leaderless(evidence, effect),
        )
    )
    verdict, why = _verdict(evidence, promise, overlap["effect"], stale, tries)
    return Judgement(
        verdict,
        why,
        {view: _ceil(ns) for view, ns in overlap.items()},
        stale,
        _failover(evidence),
        without // _MS,
        _margin(evidence),
        breaks,
        lanes,
        tuple(sorted((*evidence.marks, *_marks(tries), *lost), key=lambda mark: mark.at)),
    )


# Views -------------------------------------------------------------------------------------------


def overlap_of(spans: Sequence[Span], end: int) -> int:
    """For how many nanoseconds two of them held at once; of one term only once."""
    edges: list[tuple[int, int, Term]] = []
    for span in spans:
        until = end if span.until is None else span.until
        if until > span.since:
            edges += [(span.since, 1, span.term), (until, -1, span.term)]
    edges.sort(key=lambda edge: edge[:2])
    held: dict[Term, int] = {}
    total = last = 0
    for at, step, term in edges:
        if len(held) > 1:
            total += at - last
        last = at
        held[term] = held.get(term, 0) + step
        if held[term] == 0:
            del held[term]
    return total


def _effect(evidence: Evidence) -> tuple[Span, ...]:
    """Whose command acted, from when to when: broken where it did not act for :data:`PAUSE`."""
    by_term: dict[Term, list[int]] = {}
    for act in evidence.acts:
        by_term.setdefault(act.term, []).append(act.at)
    spans = []
    for term, times in by_term.items():
        since = times[0]
        for before, after in pairwise(times):
            if after - before > PAUSE:
                spans.append(Span(term, since, before))
                since = after
        goes_on = evidence.ended - times[-1] <= PAUSE
        spans.append(Span(term, since, None if goes_on else times[-1]))
    return tuple(sorted(spans, key=lambda span: span.since))


def _first_acts(evidence: Evidence) -> dict[Term, int]:
    first: dict[Term, int] = {}
    for act in evidence.acts:
        first.setdefault(act.term, act.at)
    return first


# Stale writes ------------------------------------------------------------------------------------


def _stale_tries(evidence: Evidence, promise: Promise) -> dict[Resource, list[_Try]]:
    first = _first_acts(evidence)
    stale = _Staleness(first, evidence)
    acts = [(act, why) for act in evidence.acts if (why := stale.of(act.term, act.at))]
    found: dict[Resource, list[_Try]] = {
        "unfenced": [_Try(act.at, act.term, True, why) for act, why in acts],
        # Which takes everything where there is no token.
        "fenced": [_Try(act.at, act.term, act.accepted, why) for act, why in acts],
    }
    if promise.checkpoint:
        # What was sent before the next began, and took effect in time, is not stale. One whose
        # outcome is not known was accepted if somebody has read it.
        read = {each.found for each in evidence.reads}
        found["checkpoint"] = [
            _Try(
                each.began,
                each.term,
                each.outcome == "accepted" or (each.term, each.version) in read,
                why,
            )
            for each in evidence.sets
            if (why := stale.of(each.term, each.began))
        ]
    return found


class _Staleness:
    """Why a write is stale. Asked of any resource, at any time."""

    def __init__(self, first: Mapping[Term, int], evidence: Evidence) -> None:
        self._begun = sorted(((at, term) for term, at in first.items()), key=lambda each: each[0])
        self._first = first
        tops: list[tuple[int, int]] = []
        seen: list[tuple[int, int]] = [
            (act.at, act.term.token) for act in evidence.acts if act.term.token is not None
        ]
        seen += [
            (each.ended, each.term.token)
            for each in evidence.sets
            if each.term.token is not None and each.outcome == "accepted"
        ]
        for at, token in sorted(seen):
            if not tops or token > tops[-1][1]:
                tops.append((at, token))
        self._tops = tops

    def of(self, term: Term, at: int) -> str:
        """What came before it that makes it stale; "" if nothing did."""
        began = self._first.get(term, at)
        for since, other in reversed(self._begun):
            if began < since < at and other != term:
                return _of(other)
        if term.token is not None:
            for since, top in reversed(self._tops):
                if since < at and top > term.token:
                    return f"token {top}"
        return ""


def _marks(tries: Mapping[Resource, Sequence[_Try]]) -> Iterator[Mark]:
    """Stale tries that follow each other are one mark."""
    for resource, found in tries.items():
        ordered = sorted(found, key=lambda each: (each.term.candidate, each.at))
        for (term, accepted, why), group in groupby(ordered, _alike):
            times = [each.at for each in group]
            kind: MarkKind = "accepted" if accepted else "refused"
            text = f"{resource}: {_of(term)} after {why}"
            yield Mark(times[0], term.candidate, kind, text, len(times))


def _alike(each: _Try) -> tuple[Term, bool, str]:
    return each.term, each.accepted, each.why


# The checkpoint ----------------------------------------------------------------------------------


def _lost(evidence: Evidence) -> tuple[Mark, ...]:
    """A mark for each read that shows nothing, or what had been overwritten before."""
    found = []
    for read in evidence.reads:
        done = [s for s in evidence.sets if s.outcome == "accepted" and s.ended <= read.began]
        if not done:
            continue
        newest = max(done, key=lambda each: each.ended)
        if read.found is None or _older(read.found, newest, evidence.sets):
            shown = "nothing" if read.found is None else f"version {read.found[1]}"
            text = f"version {newest.version} of {_of(newest.term)} is lost: {shown} is there"
            found.append(Mark(read.ended, newest.term.candidate, "lost_checkpoint", text))
    return tuple(found)


def _older(shown: tuple[Term, int], newest: Set, sets: Iterable[Set]) -> bool:
    """Whether what is shown had been answered before ``newest`` was sent."""
    return any((each.term, each.version) == shown and each.ended < newest.began for each in sets)


# Figures -----------------------------------------------------------------------------------------


def _failover(evidence: Evidence) -> int | None:
    if evidence.injection is None:
        return None
    since = evidence.injection.since
    next_acts = [act.at for act in evidence.acts if act.term.candidate != evidence.leader]
    after = [at for at in next_acts if at >= since]
    return (after[0] - since) // _MS if after else None


def _without_leader(evidence: Evidence) -> int:
    """Of the whole round, from the first act on."""
    times = [act.at for act in evidence.acts]
    if not times:
        return evidence.ended - evidence.began
    return max(
        after - before for before, after in pairwise([*times, max(times[-1], evidence.ended)])
    )


def _margin(evidence: Evidence) -> int | None:
    """How long before the store ended the first leadership its last act was."""
    acts = [act.at for act in evidence.acts if act.term.candidate == evidence.leader]
    ends = [
        span.until
        for span in evidence.store
        if span.term.candidate == evidence.leader and span.until is not None and span.seen
    ]
    if not acts or not ends or evidence.ended - acts[-1] <= PAUSE:
        return None
    return (ends[0] - acts[-1]) // _MS


def _tokens_fell(evidence: Evidence) -> bool:
    """Whether a later leadership had no greater token, in the store or by belief."""
    for spans in (evidence.store, evidence.belief):
        terms = {span.term: span.since for span in reversed(spans)}
        tokens = [
            term.token
            for term, _ in sorted(terms.items(), key=lambda item: item[1])
            if term.token is not None
        ]
        if any(after <= before for before, after in pairwise(tokens)):
            return True
    return False


def _breaks(
    evidence: Evidence,
    promise: Promise,
    overlapped: bool,
    stale: Mapping[Resource, Stale],
    lost: bool,
    leaderless: int,
) -> Iterator[Break]:
    if evidence.injection is None:
        return
    if overlapped or stale["unfenced"].tried:
        yield "exclusion"
    if _tokens_fell(evidence):
        yield "token"
    if leaderless > promise.bound + SLACK:
        yield "liveness"
    if lost or ("checkpoint" in stale and stale["checkpoint"].accepted):
        yield "checkpoint"


def _leaderless(evidence: Evidence, effect: Sequence[Span]) -> int:
    """The longest time while the fault lasted in which nobody acted, nor took itself for the
    leader: one whose command is stopped does.
    """
    injection = evidence.injection
    if injection is None:
        return 0
    end = evidence.ended if injection.until is None else injection.until
    longest, led_until = 0, injection.since
    for span in sorted((*evidence.belief, *effect), key=lambda span: span.since):
        longest = max(longest, min(span.since, end) - led_until)
        led_until = max(led_until, end if span.until is None else span.until)
    return max(longest, end - led_until)


# The verdict -------------------------------------------------------------------------------------


def _verdict(
    evidence: Evidence,
    promise: Promise,
    together: int,
    stale: Mapping[Resource, Stale],
    tries: Mapping[Resource, Sequence[_Try]],
) -> tuple[Verdict, str]:
    if evidence.injection is None:
        return ("not_injected" if evidence.not_injected else "inconclusive"), evidence.trouble
    for resource, count in stale.items():
        if resource != "unfenced" and count.accepted:
            first = next(each for each in tries[resource] if each.accepted)
            took = f"the {resource} resource took {_writes(count.accepted)}"
            if not promise.token and resource == "fenced":
                took = f"with no token to refuse any by, {took}"
            return "split-brain", f"{took} of {_of(first.term)} after {first.why}"
    tried = sum(count.tried for count in stale.values())
    if tried:
        first = min((found[0] for found in tries.values() if found), key=lambda each: each.at)
        refused = max(count.tried for count in stale.values())
        return "fenced", (
            f"{_writes(refused)} of {_of(first.term)} came after {first.why}; all were refused"
        )
    if together:
        return "fenced", f"two commands acted at once for {_ceil(together)} ms; no write was stale"
    if evidence.trouble:
        return "inconclusive", evidence.trouble
    return "safe", _safe(evidence)


def _safe(evidence: Evidence) -> str:
    failover = _failover(evidence)
    if failover is not None:
        return f"the next acted {failover} ms after the fault, when the first had stopped"
    if evidence.acts and evidence.ended - evidence.acts[-1].at <= PAUSE:
        return "the leader went on, alone"
    return "nobody led after the fault"


def _writes(count: int) -> str:
    return "1 write" if count == 1 else f"{count} writes"


def _of(term: Term) -> str:
    return f"{term.candidate}'s term" if term.token is None else f"token {term.token}"


def _ceil(ns: int) -> int:
    return -(-ns // _MS)
