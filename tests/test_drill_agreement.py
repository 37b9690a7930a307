"""Traits against drills: what is declared and not shown, and what is shown and not declared."""

from __future__ import annotations

from typing import Any

import pytest

from electctl.compare.results import reference
from electctl.contract.traits import Traits, Weakness
from electctl.core import registry
from electctl.drill import catalogue
from electctl.drill.agreement import base, disagreements
from electctl.faults import library

PAUSE = Weakness("A pause.", ("exclusion",), fault="pause")
CRASH = Weakness("A crash.", ("liveness",), fault="crash:store")


def traits(*weaknesses: Weakness) -> Traits:
    return Traits(
        scheme="one",
        title="One",
        mechanism="",
        family="ttl-lock",
        exclusion="lease",
        scope="",
        judge="store",
        expiry_decided_by="",
        clocks="",
        token="counter",
        token_sound=False,
        order="none",
        wakeup="poll",
        herd="all",
        checkpoint=True,
        failover="ttl",
        weaknesses=weaknesses,
    )


def result(fault: str, *breaks: str, **more: Any) -> dict[str, Any]:
    cell = {"scheme": "one", "candidate": "electctl", "fault": fault, "verdict": "fenced"}
    return {**cell, "breaks": list(breaks), **more}


def test_they_agree() -> None:
    shown = [
        result("pause:tree", "exclusion"),
        result("pause:electctl"),
        result("crash:store", "liveness"),
    ]
    assert disagreements([traits(PAUSE, CRASH)], shown) == []


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ([], "pause was not played"),
        ([result("pause:tree")], "pause was not seen to break exclusion"),
        (
            [result("pause:tree", "exclusion", verdict="inconclusive")],
            "pause was not played",
        ),
        (
            [result("pause:tree", "exclusion", candidate="etcdctl-lock")],
            "pause was not played",
        ),
        (
            [result("pause:tree", "exclusion", "token")],
            "pause:tree broke token, and no weakness says so",
        ),
        (
            [result("pause:tree", "exclusion"), result("flush", "token")],
            "flush broke token, and no weakness says so",
        ),
    ],
)
def test_each_disagreement_is_named_once(shown: list[dict[str, Any]], said: str) -> None:
    (found,) = disagreements([traits(PAUSE)], shown)
    assert said in found


def test_a_weakness_without_a_fault_says_why() -> None:
    silent = Weakness("A rack burns.", ("liveness",))
    (found,) = disagreements([traits(silent)], [])
    assert "names no fault" in found
    told = Weakness("A rack burns.", ("liveness",), unshown="there is one machine")
    assert disagreements([traits(told)], []) == []


@pytest.mark.parametrize("scheme", registry.schemes())
def test_every_weakness_names_a_fault_that_applies_or_says_why_not(scheme: str) -> None:
    plugin = registry.plugin(scheme)
    for weakness in plugin.traits_of(scheme).weaknesses:
        if weakness.unshown:
            continue
        assert weakness.fault, f"{weakness.text}: it names no fault, and does not say why"
        assert plugin.lab is not None
        there = {name for fault in catalogue.applicable(scheme) for name in (fault, base(fault))}
        assert weakness.fault in there, weakness.text
        library.find(weakness.fault)


def test_traits_and_the_reference_run_agree() -> None:
    """What ships as evidence is of every scheme that has servers, and of every fault there."""
    found = [each.data for each in reference()]
    played = {(each["scheme"], each["fault"]) for each in found if each["candidate"] == "electctl"}
    schemes = catalogue.schemes()
    assert played == {(each, fault) for each in schemes for fault in catalogue.applicable(each)}
    every = [registry.plugin(scheme).traits_of(scheme) for scheme in schemes]
    assert disagreements(every, found) == []
