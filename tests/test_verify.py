"""Forged and broken histories: each kind is found, and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from electctl.verify.files import Histories
from electctl.verify.verdict import Verdict
from tests.histories import MS, TERMS, Obj, did, good, line, sealed, seen, term, watched, write


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Verdict]:
    """The verdict on a record and on the lines of campaigns and others."""

    def verify(record: list[Obj] | None, *told: list[Obj]) -> Verdict:
        files = [write(tmp_path / f"told-{n}", lines) for n, lines in enumerate(told)]
        if record is not None:
            files.append(sealed(tmp_path / "record", record))
        return Histories(files).verify()

    return verify


def test_a_good_history_holds(judge: Callable[..., Verdict]) -> None:
    verdict = judge(*good())
    assert (verdict.word, verdict.lines, verdict.elections) == ("holds", 21, 1)
    assert not verdict.doubts
    assert not verdict.notes


def test_terms_without_tokens_hold(judge: Callable[..., Verdict]) -> None:
    """One candidate leads twice, and nothing but the order tells the one term from the other."""
    terms = (("a", None, 100 * MS), ("a", None, 300 * MS), ("", None, 500 * MS))
    told = [obj for each in terms for obj in term(*each)]
    for obj in told:
        if obj["event"] not in ("campaigning", "finished"):
            obj["holder"] = obj["candidate"]
    assert judge(watched(*terms), told).word == "holds"
    late = {**told[11], "boottime_ns": 361 * MS}  # the command of the second term
    assert late["event"] == "command_gone"
    found = judge(watched(*terms), [*told[:11], late, *told[12:]]).violation
    assert found is not None
    assert found.kind == "released_early"


# Leaderships -------------------------------------------------------------------------------------


def said(view: str, *stretches: tuple[str, int, int, int]) -> list[Obj]:
    """Other people's lines: from when to when somebody led."""
    found = []
    for who, token, since, until in stretches:
        found.append(line("begin", since, who, token, view=view))
        found.append(line("end", until, who, token, view=view))
    return sorted(found, key=lambda obj: obj["boottime_ns"])


@pytest.mark.parametrize("view", ["store", "belief", "effect"])
def test_two_leaders_at_once_in_each_view(judge: Callable[..., Verdict], view: str) -> None:
    verdict = judge(None, said(view, ("a", 5, 10, 4_000_000), ("b", 6, 1_000_000, 3_000_000)))
    found = verdict.violation
    assert found is not None
    assert (found.kind, found.view, found.overlap_ns) == ("two_leaders", view, 2_000_000)
    assert "'a' (token 5) and 'b' (token 6)" in found.message
    alone = said(view, ("a", 5, 10, 1_000_000), ("b", 6, 1_000_000, 3_000_000))
    assert judge(None, alone).violation is None


def test_the_overlap_is_told_when_the_first_says_so_much_later(
    judge: Callable[..., Verdict],
) -> None:
    others = [("b", 6, 20, 30), ("c", 7, 40, 50), ("d", 8, 60, 70)]
    found = judge(None, said("effect", ("a", 5, 10, 65), *others)).violation
    assert found is not None
    assert (found.kind, found.overlap_ns) == ("two_leaders", 10)
    # Whoever only falls silent is not accused: nobody knows until when it led.
    silent = said("effect", ("a", 5, 10, 65), *others)[:1] + said("effect", *others)
    verdict = judge(None, silent)
    assert verdict.violation is None
    assert "no_end" in {doubt.kind for doubt in verdict.doubts}


def test_belief_counts_to_the_last_proof(judge: Callable[..., Verdict]) -> None:
    one = term("a", 5, 100 * MS)
    two = term("b", 6, 130 * MS)[:2]  # elected at 140 ms
    assert judge(None, one[:2], two).violation is None
    proof = did("renewal_failed", 141 * MS, "a", 5, cause="time-out", remaining=4.0)
    found = judge(None, [*one[:2], proof], two).violation
    assert found is not None
    assert (found.kind, found.view) == ("two_leaders", "belief")
    # One that is told when the lease has run out proves nothing.
    assert judge(None, [*one[:2], proof | {"remaining": 0.0}], two).violation is None


def test_a_loss_that_is_told_late_counts_from_when_the_lease_ended(
    judge: Callable[..., Verdict],
) -> None:
    """electctl was stopped: it tells of the loss when another one has long led."""
    one = term("a", 5, 100 * MS)[:2]
    lost = did("lost", 900 * MS, "a", 5, reason="expired", message="", led_until_ns=200 * MS)
    record = watched(("a", 5, 100 * MS), ("b", 6, 300 * MS))
    two = term("b", 6, 300 * MS)
    assert judge(record, [*one, lost], two).word == "holds"
    found = judge(record, [*one, lost | {"led_until_ns": 400 * MS}], two).violation
    assert found is not None
    assert (found.kind, found.view) == ("two_leaders", "belief")


def test_an_end_that_is_told_ahead_counts_until_then(judge: Callable[..., Verdict]) -> None:
    one = term("a", 5, 100 * MS)[:2]
    ahead = did("lost", 120 * MS, "a", 5, reason="evicted", message="", led_until_ns=200 * MS)
    assert judge(None, [*one, ahead], term("b", 6, 190 * MS)[:2]).violation is None
    found = judge(None, [*one, ahead], term("b", 6, 180 * MS)[:2]).violation
    assert found is not None
    assert (found.kind, found.view) == ("two_leaders", "belief")


def test_a_release_whose_answer_comes_late_is_no_second_leader(
    judge: Callable[..., Verdict],
) -> None:
    one = term("a", 5, 100 * MS)
    one[5]["boottime_ns"] = one[6]["boottime_ns"] = 340 * MS
    assert judge(watched(*TERMS), one, term(*TERMS[1])).word == "holds"


def _token_of_b(record: list[Obj], two: list[Obj], token: int) -> None:
    for obj in two:
        obj["token"] = obj["token"] and token
    record[4]["token"] = token


def token_falls(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    _token_of_b(record, two, 4)


def token_repeats(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    _token_of_b(record, two, 5)


def grant_returned(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    record.insert(4, {**record[2], "boottime_ns": 160 * MS})


def released_early(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    one[4]["boottime_ns"] = 161 * MS


def acts_after_end(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    del one[2:5]
    one.append(did("command_started", 170 * MS, "a", 5, pid=8))


def late_stop(record: list[Obj], one: list[Obj], two: list[Obj]) -> None:
    one[4]["margin_ms"] = -20
    one[5].update(event="lost", reason="expired", message="")


BROKEN = {
    test.__name__: test
    for test in (
        token_falls,
        token_repeats,
        grant_returned,
        released_early,
        acts_after_end,
        late_stop,
    )
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_a_rule(judge: Callable[..., Verdict], kind: str) -> None:
    record, one, two = good()
    BROKEN[kind](record, one, two)
    found = judge(record, one, two).violation
    assert found is not None
    assert found.kind == kind
    assert found.lines
    assert found.election == "nightly"


def test_a_token_that_falls_is_seen_in_each_source(judge: Callable[..., Verdict]) -> None:
    _, one, two = good()
    for obj in two:
        obj["token"] = obj["token"] and 4
    by_campaigns = judge(None, one, two).violation
    by_observer = judge(watched(TERMS[0], ("b", 4, 300 * MS))).violation
    by_others = judge(None, said("store", ("a", 5, 10, 20), ("b", 4, 30, 40))).violation
    for found in (by_campaigns, by_observer, by_others):
        assert found is not None
        assert found.kind == "token_falls"


def test_an_election_twice_under_one_token(judge: Callable[..., Verdict]) -> None:
    record, one, _ = good()
    again = [obj | {"boottime_ns": obj["boottime_ns"] + 200 * MS} for obj in one[:2]]
    found = judge(record, one, again).violation
    assert found is not None
    assert found.kind == "token_repeats"


def test_the_same_line_in_two_files_is_one_event(judge: Callable[..., Verdict]) -> None:
    record, one, two = good()
    assert judge(record, one, [*one, *two]).word == "holds"


def test_an_end_that_is_told_before_the_start(judge: Callable[..., Verdict]) -> None:
    """The command was so short that electctl heard of its start when it was gone."""
    record, one, two = good()
    one[4]["boottime_ns"] = 115 * MS
    assert judge(record, one, two).word == "holds"
    del one[2]
    assert only(judge(record, one, two)) == "no_beginning"


# Writes ------------------------------------------------------------------------------------------


def wrote(at: int, token: int, version: int, outcome: str = "accepted", **more: object) -> Obj:
    return line("write", at, "x", token, resource="checkpoint", version=version) | {
        "outcome": outcome,
        "value": f"v{version}",
        **more,
    }


def got(at: int, token: int | None, version: int = 0, **more: object) -> Obj:
    found = line("read", at, None, token, resource="checkpoint")
    return found if token is None else found | {"version": version, "value": f"v{version}", **more}


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("stale_write", [wrote(10, 6, 1), wrote(20, 5, 2)]),
        ("stale_write", [wrote(10, 6, 2), wrote(20, 6, 1)]),
        ("stale_write", [got(10, 6, 1), wrote(20, 5, 2)]),
        ("lost_write", [wrote(10, 5, 1), got(20, None)]),
        ("lost_write", [wrote(10, 5, 1), wrote(20, 5, 2), got(30, 5, 1)]),
        ("old_value", [wrote(9, 5, 1, "unknown"), got(10, 5, 1), got(20, None)]),
        ("old_value", [got(10, 6, 3), got(20, 6, 2)]),
        ("changed_value", [wrote(10, 5, 1), got(20, 5, 1, value="v9")]),
    ],
)
def test_writes_that_must_not_be(
    judge: Callable[..., Verdict], kind: str, lines: list[Obj]
) -> None:
    found = judge(None, lines).violation
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(
    "lines",
    [
        [wrote(10, 6, 1), wrote(20, 5, 2, "refused"), wrote(30, 5, 2, "unknown"), got(40, 6, 1)],
        [wrote(10, 6, 1), wrote(20, 5, 2, began_ns=9)],  # under way at once: either order
        [wrote(10, 6, 1), got(20, None, began_ns=9) | {"began_ns": 9}],
        [wrote(10, 6, 1, "unknown"), got(20, None), got(30, 6, 1)],
        [wrote(10, 6, 1), wrote(20, 7, 1), got(30, 7, 1)],
    ],
)
def test_writes_that_may_be(judge: Callable[..., Verdict], lines: list[Obj]) -> None:
    assert judge(None, lines).violation is None


# What proves too little --------------------------------------------------------------------------


def only(verdict: Verdict) -> str:
    """The kind of the only doubt."""
    assert verdict.violation is None
    (doubt,) = verdict.doubts
    return doubt.kind


def test_what_proves_too_little(judge: Callable[..., Verdict]) -> None:
    record, one, two = good()
    assert only(judge(record)) == "no_campaign"
    assert only(judge(record, two)) == "no_campaign"
    assert only(judge(None, one, two)) == "no_observer"
    assert only(judge([])) == "empty"
    assert only(judge(record[:-1], one, two)) == "no_end"
    assert only(judge(None, record[1:], one, two)) == "no_beginning"


def test_a_gap_is_not_hidden(judge: Callable[..., Verdict]) -> None:
    record, one, two = good()
    away = [seen("unreachable", 200 * MS, cause="x"), seen("recovered", 250 * MS)]
    assert only(judge([*record[:4], *away, *record[4:]], one, two)) == "gap"
    # While another one looks it is none.
    other = [
        seen("recording", 5, observer="eye-2"),
        seen("vacant", 6, observer="eye-2"),
        seen("recorded", 2000 * MS, observer="eye-2"),
    ]
    both = sorted([*record[:4], *away, *record[4:], *other], key=lambda obj: obj["boottime_ns"])
    assert judge(both, one, two).word == "holds"
    # Between two runs.
    first = [*record[:4], seen("recorded", 200 * MS)]
    second = [
        seen("recording", 210 * MS, observer="eye-2"),
        seen("vacant", 211 * MS, observer="eye-2"),
        *(obj | {"observer": "eye-2"} for obj in record[4:]),
    ]
    assert only(judge([*first, *second], one, two)) == "gap"
    # Before and after the observer's run.
    assert only(judge([*first], one, two)) == "gap"
    # Or because its writer says so.
    assert only(judge(record, one, two, [line("gap", 5)])) == "gap"


def test_clocks_that_cannot_be_compared(judge: Callable[..., Verdict]) -> None:
    record, one, two = good()
    elsewhere = [obj | {"boot_id": "boot-2"} for obj in two]
    assert only(judge(record, one, elsewhere)) == "clocks"
    # Whatever the numbers say, there is no overlap on two clocks, and wall clocks prove none.
    early = [obj | {"boottime_ns": obj["boottime_ns"] - 190 * MS} for obj in elsewhere]
    assert only(judge(record, one, early)) == "clocks"
    # Names and tokens are compared all the same.
    same = [obj | {"token": obj["token"] and 5} for obj in elsewhere]
    found = judge(None, one, same).violation
    assert found is not None
    assert found.kind == "token_repeats"


def test_without_a_boot_id_nothing_is_compared(judge: Callable[..., Verdict]) -> None:
    nowhere = [obj | {"boot_id": ""} for obj in said("belief", ("a", 5, 10, 40))]
    other = [obj | {"boot_id": ""} for obj in said("belief", ("b", 6, 20, 30))]
    verdict = judge(None, nowhere, other)
    assert verdict.violation is None
    assert "clocks" in {doubt.kind for doubt in verdict.doubts}


def test_observers_who_differ_for_long(judge: Callable[..., Verdict]) -> None:
    eyes: list[Obj] = [{"observer": "eye-1"}, {"observer": "eye-2"}]
    lines = [
        seen(event, 1 + n, **eye) for event in ("recording", "vacant") for n, eye in enumerate(eyes)
    ]
    lines += [seen("holder", 10, "a", 5, **eyes[0]), seen("holder", 11, "b", 6, **eyes[1])]

    def until(at: int) -> set[str]:
        ends = [seen("vacant", at, **eyes[0]), seen("vacant", at + 1, **eyes[1])]
        return {doubt.kind for doubt in judge([*lines, *ends]).doubts}

    assert "observers_differ" in until(3000 * MS)
    assert "observers_differ" not in until(1000 * MS)


def test_one_name_on_two_stores_is_not_mixed_up(judge: Callable[..., Verdict]) -> None:
    record = watched(TERMS[0])
    other = [obj | {"url": "redis://b", "boottime_ns": obj["boottime_ns"] + 1} for obj in record]
    for obj in other:
        if obj["token"]:
            obj.update(token=3, holder="z")
    both = [obj for pair in zip(record, other, strict=True) for obj in pair]
    verdict = judge(both, term("a", 5, 100 * MS), term("z", 3, 110 * MS))
    assert verdict.violation is None
    assert "two_stores" in {doubt.kind for doubt in verdict.doubts}


def test_other_peoples_histories(judge: Callable[..., Verdict]) -> None:
    """One writer that says it records everything, or else what is missing is said."""
    everything = [
        seen("recording", 1, views=["store", "belief", "effect"]),
        *said("store", ("a", 5, 10, 90), ("b", 6, 100, 200)),
        *said("belief", ("a", 5, 20, 80), ("b", 6, 110, 190)),
        *said("effect", ("a", 5, 30, 70), ("b", 6, 120, 180)),
        seen("recorded", 300),
    ]
    assert judge(None, everything).word == "holds"
    everything[0]["views"] = ["store"]
    assert judge(None, everything).word == "holds"
    no_effect = [obj for obj in everything if obj.get("view") != "effect"]
    assert only(judge(None, no_effect)) == "no_effect"
    store = [obj for obj in no_effect if obj.get("view") != "belief"]
    assert only(judge(None, store)) == "no_campaign"
    assert only(judge(None, [*everything, line("begun", 301)])) == "unknown_event"


def test_a_record_without_hashes_is_said(judge: Callable[..., Verdict], tmp_path: Path) -> None:
    record, one, two = good()
    verdict = judge(None, record, one, two)
    assert verdict.word == "holds"
    assert verdict.notes == (
        f"{tmp_path / 'told-0'}: 7 lines of observers have no hash, so that it cannot be seen "
        "whether one is missing or changed",
    )
