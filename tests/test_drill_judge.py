"""What a round comes to: evidence made by hand, and a dumb count on random evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl.drill.evidence import Act, Evidence, Injection, Promise, Read, Set, Span, Term
from electctl.drill.judge import Stale, judge, overlap_of

MS = 1_000_000
A, B = Term("a", 1), Term("b", 2)
PROMISE = Promise(token=True, checkpoint=True, bound=3_000 * MS)


def acts(term: Term, since: int, until: int, *, accepted: bool = True) -> tuple[Act, ...]:
    """Every 5 ms, from ``since`` to ``until`` in ms."""
    return tuple(Act(at * MS, term, accepted) for at in range(since, until + 1, 5))


def evidence(
    *found: tuple[Act, ...],
    store: tuple[Span, ...] = (),
    belief: tuple[Span, ...] = (),
    sets: tuple[Set, ...] = (),
    reads: tuple[Read, ...] = (),
    until: int | None = 2000,
    ended: int = 4000,
    trouble: str = "",
) -> Evidence:
    """A round of 4 s; the fault lasts from 1.0 to 2.0 s."""
    end = None if until is None else until * MS
    return Evidence(
        election="nightly",
        began=0,
        ended=ended * MS,
        leader="a",
        injection=Injection(1000 * MS, end, "all of a", "4 processes are stopped"),
        trouble=trouble,
        store=store,
        belief=belief,
        acts=tuple(sorted((act for some in found for act in some), key=lambda act: act.at)),
        sets=sets,
        reads=reads,
    )


def test_a_leader_that_stops_before_the_next_begins_is_safe() -> None:
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000)), PROMISE)
    assert judged.verdict == "safe"
    assert judged.breaks == ()
    assert (judged.failover, judged.without_leader) == (500, 500)
    assert judged.stale["fenced"] == Stale(0, 0)
    assert judged.lanes["effect"][-1].until is None


def test_refused_writes_of_one_that_was_resumed_are_fenced() -> None:
    late = acts(A, 2000, 2050, accepted=False)
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000), late), PROMISE)
    assert judged.verdict == "fenced"
    assert judged.why == "11 writes of token 1 came after token 2; all were refused"
    assert judged.stale["unfenced"] == Stale(11, 11)
    assert judged.stale["fenced"] == Stale(11, 0)
    assert judged.breaks == ("exclusion",)
    assert judged.overlap["effect"] == 50
    (unfenced, fenced) = [mark for mark in judged.marks if mark.kind in ("accepted", "refused")]
    assert (unfenced.kind, unfenced.count, fenced.kind, fenced.count) == (
        "accepted",
        11,
        "refused",
        11,
    )


def test_one_stale_write_that_is_taken_is_split_brain() -> None:
    late = (Act(2000 * MS, A, accepted=True), *acts(A, 2005, 2050, accepted=False))
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000), late), PROMISE)
    assert judged.verdict == "split-brain"
    assert judged.why == "the fenced resource took 1 write of token 1 after token 2"


def test_without_a_token_nothing_is_fenced() -> None:
    first, second = Term("a", None), Term("b", None)
    judged = judge(
        evidence(acts(first, 100, 2050), acts(second, 2000, 4000)),
        replace(PROMISE, token=False, checkpoint=False),
    )
    assert judged.verdict == "split-brain"
    assert "no token" in judged.why
    assert "checkpoint" not in judged.stale


def test_a_token_that_repeats_lets_both_write() -> None:
    again = Term("b", 1)
    spans = (Span(A, 0, 1400 * MS), Span(again, 1450 * MS, None))
    judged = judge(
        evidence(acts(A, 100, 1600), acts(again, 1500, 4000), store=spans, belief=spans), PROMISE
    )
    assert judged.verdict == "split-brain"
    assert judged.breaks == ("exclusion", "token")


def test_a_later_leader_with_a_lower_token_is_stale_by_its_token() -> None:
    first, second = Term("a", 5), Term("b", 1)
    refused = acts(second, 1500, 4000, accepted=False)
    judged = judge(evidence(acts(first, 100, 1000), refused), PROMISE)
    assert judged.verdict == "fenced"
    assert "after token 5" in judged.why


def test_nobody_leading_for_longer_than_the_bound_breaks_liveness() -> None:
    longer = evidence(acts(A, 100, 1000), acts(B, 9000, 10_000), until=9000, ended=10_000)
    assert judge(longer, PROMISE).breaks == ("liveness",)
    assert judge(longer, PROMISE).verdict == "safe"
    shorter = evidence(acts(A, 100, 1000), acts(B, 4000, 10_000), until=9000, ended=10_000)
    assert judge(shorter, PROMISE).breaks == ()


def test_time_without_a_leader_after_the_fault_is_not_the_fault_s() -> None:
    found = evidence(acts(A, 100, 1000), until=1001, ended=10_000)
    judged = judge(found, PROMISE)
    assert judged.breaks == ()
    assert judged.without_leader == 9000


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (None, True),
        ((A, 1), True),
        ((A, 2), False),
        ((B, 1), False),
    ],
)
def test_a_checkpoint_that_was_accepted_must_be_there(
    found: tuple[Term, int] | None, lost: bool
) -> None:
    sets = (
        Set(200 * MS, 210 * MS, A, 1, "accepted"),
        Set(300 * MS, 310 * MS, A, 2, "accepted"),
        Set(2000 * MS, 2010 * MS, B, 1, "accepted"),
    )
    read = Read(1500 * MS, 1510 * MS, found)
    judged = judge(
        evidence(acts(A, 100, 1000), acts(B, 1500, 4000), sets=sets, reads=(read,)), PROMISE
    )
    assert ("checkpoint" in judged.breaks) is lost
    assert [mark.kind for mark in judged.marks] == ["lost_checkpoint"] * lost


def test_a_stale_checkpoint_that_is_accepted_is_split_brain() -> None:
    stale = Set(2000 * MS, 2010 * MS, A, 9, "accepted")
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000), sets=(stale,)), PROMISE)
    assert judged.verdict == "split-brain"
    assert judged.stale["checkpoint"] == Stale(1, 1)
    assert "checkpoint" in judged.breaks


def test_a_stale_checkpoint_without_an_answer_counts_if_it_is_read() -> None:
    stale = Set(2000 * MS, 2000 * MS, A, 9, "unknown")
    found = evidence(acts(A, 100, 1000), acts(B, 1500, 4000), sets=(stale,))
    assert judge(found, PROMISE).verdict == "fenced"
    read = Read(3000 * MS, 3001 * MS, (A, 9))
    assert judge(replace(found, reads=(read,)), PROMISE).verdict == "split-brain"


def test_a_checkpoint_sent_before_the_next_began_is_not_stale() -> None:
    slow = Set(1400 * MS, 1600 * MS, A, 9, "accepted")
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000), sets=(slow,)), PROMISE)
    assert judged.verdict == "safe"


def test_what_was_not_injected_is_never_safe() -> None:
    told = evidence(acts(A, 100, 4000), trouble="its clock did not move")
    found = replace(told, injection=None, not_injected=True)
    judged = judge(found, PROMISE)
    assert (judged.verdict, judged.why) == ("not_injected", "its clock did not move")
    assert judged.breaks == ()


def test_a_candidate_that_never_led_is_inconclusive() -> None:
    found = replace(evidence(trouble="a never led"), injection=None)
    assert judge(found, PROMISE).verdict == "inconclusive"


def test_the_margin_is_counted_to_the_end_in_the_store() -> None:
    store = (Span(A, 50 * MS, 1300 * MS), Span(B, 1310 * MS, None))
    judged = judge(evidence(acts(A, 100, 1000), acts(B, 1500, 4000), store=store), PROMISE)
    assert judged.margin == 300
    goes_on = judge(evidence(acts(A, 100, 4000), store=store), PROMISE)
    assert goes_on.margin is None


SPANS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(0, 40)).map(
        lambda given: Span(Term(given[0], None), min(given[1:]), max(given[1:]))
    ),
    max_size=6,
)


@given(SPANS)
def test_overlap_is_what_a_count_of_every_moment_gives(spans: list[Span]) -> None:
    moments = sum(
        len({s.term for s in spans if s.until is not None and s.since <= at < s.until}) > 1
        for at in range(41)
    )
    assert overlap_of(spans, 40) == moments


ORDERED = (A, B, Term("c", 3))
ACTS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(ORDERED)),
    min_size=1,
    max_size=40,
    unique_by=lambda each: each[0],
)


@given(ACTS)
def test_where_tokens_grow_a_ledger_that_refuses_lower_ones_is_never_split(
    tried: list[tuple[int, Term]],
) -> None:
    tried = sorted(tried, key=lambda each: each[0])
    # Leaders in the order of their tokens, as a store gives them.
    begun = list(dict.fromkeys(term for _, term in tried))
    grown = dict(zip(begun, ORDERED, strict=False))
    highest = 0
    found = []
    for at, drawn in tried:
        term = grown[drawn]
        assert term.token is not None
        found.append(Act(at * MS, term, term.token >= highest))
        highest = max(highest, term.token)
    judged = judge(evidence(tuple(found)), PROMISE)
    refused = sum(not act.accepted for act in found)
    assert judged.stale["fenced"] == Stale(refused, 0)
    assert judged.verdict == ("fenced" if refused else "safe")
