"""``electctl compare``: everything in Traits is shown, and the user's TTL is put in."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import electctl as package
from electctl.compare import textbook
from electctl.compare.evidence import Evidence, as_dict
from electctl.compare.promises import Promise, promises, schemes_of
from electctl.compare.results import reference
from electctl.contract.formula import VARIABLES, evaluate
from electctl.core.lease import Timing
from electctl.core.registry import plugin, plugins, schemes
from electctl.errors import ConfigError
from tests.processes import Electctl

pytestmark = pytest.mark.warm

SCHEMAS = Path(package.__file__).parent / "schemas"
ALL = promises()


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def flat(text: str) -> str:
    return " ".join(text.split())


# The formula -------------------------------------------------------------------------------------


@given(st.floats(0.001, 1e6))
def test_a_formula_is_computed_as_written(ttl: float) -> None:
    values = dict(zip(VARIABLES, itertools.count(ttl), strict=False))
    for name in VARIABLES:
        assert evaluate(name, values) == values[name]
    assert evaluate("max(2, ceil(ttl)) + 0.5", values) == max(2, math.ceil(ttl)) + 0.5
    assert evaluate("ttl + 1.5 * min(2, ttl / 2)", values) == ttl + 1.5 * min(2, ttl / 2)
    assert evaluate("(ttl - 1) * 2", values) == (ttl - 1) * 2
    held, members, rtt = (values[name] for name in ("holder_ttl", "members", "rtt"))
    assert evaluate("holder_ttl + members * rtt", values) == held + members * rtt


@pytest.mark.parametrize(
    "formula",
    [
        "",
        "ttl s",
        "ttl, rounded up",
        "TTL",
        "ttl ** 9 ** 9",
        "ttl / 0",
        "ceil(ttl / 0)",
        "min()",
        "min(2, key=ttl)",
        "ceil(1, 2)",
        "'a'",
        "True",
        "ttl if ttl else 0",
        "__import__('os').getpid()",
        "ttl.real",
        "[ttl][0]",
        "(lambda: ttl)()",
        "\0",
    ],
)
def test_anything_else_is_refused(formula: str) -> None:
    with pytest.raises(ConfigError, match="not a formula"):
        evaluate(formula, dict.fromkeys(VARIABLES, 10.0))


def test_every_backend_has_a_bound_that_grows_with_the_ttl() -> None:
    for promise in ALL:
        bounds = [promise.traits.failover_bound(ttl) for ttl in (1.0, 5.0, 10.0, 60.0)]
        assert bounds == sorted(bounds)
        assert bounds[-1] >= 60.0, "a lease is never shorter than its TTL"


def test_who_waits_goes_by_the_ttl_of_the_record() -> None:
    for promise in ALL:
        traits = promise.traits
        short, long = (traits.granted(ttl) for ttl in (5.0, 60.0))
        after_short = traits.failover_bound(long, holder_ttl=short)
        assert traits.failover_bound(short) <= after_short < long
        assert traits.failover_bound(short, holder_ttl=long) >= long


def test_the_bound_of_redis_grows_with_those_that_vanish_too() -> None:
    traits = plugin("redis").traits
    bounds = [traits.failover_bound(4.0, dead_waiters=count) for count in range(11)]
    assert bounds[:8] == pytest.approx([4 + 0.05 * count for count in range(8)])
    assert bounds[8:] == pytest.approx([5, 6, 7])


@given(st.floats(0.001, 1000), st.sampled_from([0.0, 0.001, 0.1, 1.0]), st.floats(0, 5))
def test_what_is_granted_is_whole_steps_and_never_less_than_asked(
    ttl: float, step: float, least: float
) -> None:
    traits = replace(ALL[0].traits, ttl_step=step, least_ttl=least)
    stepped = traits.in_steps(ttl)
    assert ttl - 1e-6 <= stepped < ttl + step + 1e-6
    assert traits.in_steps(stepped) == stepped
    assert traits.granted(ttl) == max(stepped, least)
    assert Timing.of(replace(traits, default_ttl=60.3), grace=1.0).ttl == traits.in_steps(60.3)


def test_a_ttl_that_the_store_raises_is_said_so(electctl: Electctl) -> None:
    shown = flat(electctl.run("compare", "-b", "etcd", "--ttl", "1500ms", check=0).stdout)
    assert "with a TTL of 1.5 s, of which the store makes 2 s" in shown
    assert "2.5 s at most" in shown
    assert "whole seconds, 2 s at least" in shown


def test_only_an_observer_may_have_to_observe() -> None:
    traits = ALL[0].traits
    assert traits.judge != "observer"
    with pytest.raises(ConfigError, match="must be observed"):
        replace(traits, needs_observation=True)
    assert replace(traits, judge="observer", needs_observation=True).needs_observation


# What is compared --------------------------------------------------------------------------------


def test_every_scheme_stands_in_one_column() -> None:
    assert sorted(scheme for each in ALL for scheme in each.schemes) == schemes()
    for found in plugins():
        for scheme in found.schemes:
            (column,) = [each for each in ALL if scheme in each.schemes]
            assert column.traits == found.traits_of(scheme)


def test_columns_are_chosen_by_scheme_or_url() -> None:
    chosen = promises(["redis", "redis+sentinel://h:1,h:2/main", "redis://h:1"])
    assert [each.schemes for each in chosen] == [("redis", "rediss"), ("redis+sentinel",)]


def test_a_ttl_that_campaign_would_refuse_is_said_so() -> None:
    owner = plugins()[0]
    assert Promise.of(owner, owner.traits, 10.0).unsafe is None
    assert "unsafe" in str(Promise.of(owner, owner.traits, 0.1).unsafe)


def test_a_bound_that_is_no_formula_is_said_with_its_scheme() -> None:
    owner = plugins()[0]
    broken = replace(owner.traits, scheme="mine", failover="soon")
    with pytest.raises(ConfigError, match="mine://: 'soon' is not a formula"):
        Promise.of(owner, broken, 10.0)


# How it is shown ---------------------------------------------------------------------------------


def expected(promise: Promise) -> list[str]:
    """What must be readable about a backend, wherever it is shown in full."""
    traits = promise.traits
    return [
        traits.title,
        traits.mechanism,
        traits.scope,
        traits.expiry_decided_by,
        traits.clocks,
        traits.failover,
        traits.failover_note,
        f"{promise.failover:.4g} s at most with a TTL of {promise.ttl:g} s",
        *(claim.text for claim in traits.assumptions),
        *(weakness.text for weakness in traits.weaknesses),
        *traits.sources,
    ]


def test_in_a_pipe_each_backend_has_a_block(electctl: Electctl) -> None:
    done = electctl.run("compare", "--ttl", "7s", check=0)
    shown = flat(done.stdout)
    for promise in promises(ttl=7.0):
        for text in expected(promise):
            assert text in shown
    assert all(len(line) <= 80 or "://" in line for line in done.stdout.splitlines())
    opening = done.stdout[: done.stdout.index(schemes_of(ALL[0]))]
    assert all(row[0] in opening for row in textbook.ROWS)


@pytest.mark.parametrize("columns", [40, 60, 72, 100, 150, 250])
def test_it_fits_the_terminal(electctl: Electctl, columns: int) -> None:
    shown = electctl.run("compare", env={"COLUMNS": str(columns)}, check=0).stdout
    assert all(len(line) <= columns or "://" in line for line in shown.splitlines())
    assert textbook.ROWS[0][1] in flat(shown)


def test_on_a_wide_terminal_they_stand_side_by_side(electctl: Electctl) -> None:
    done = electctl.run("compare", "-b", "redis", "-b", "etcd", env={"COLUMNS": "150"}, check=0)
    lines = done.stdout.splitlines()
    assert all(len(line) <= 150 for line in lines)
    (scope,) = [line for line in lines if line.startswith("scope")]
    assert "one primary" in scope
    assert "a quorum of members" in scope
    assert textbook.ROWS[0][1] not in done.stdout, "chosen columns have no opening"


def test_markdown_has_all_of_it(electctl: Electctl) -> None:
    shown = flat(electctl.run("compare", "--markdown", check=0).stdout)
    for promise in ALL:
        for text in expected(promise):
            assert text in shown


def test_markdown_tables_have_as_many_cells_in_each_row(electctl: Electctl) -> None:
    shown = electctl.run("compare", "--markdown", check=0).stdout
    for table in shown.split("\n\n"):
        rows = [row for row in table.splitlines() if row.startswith("|")]
        assert len({row.replace("\\|", "").count("|") for row in rows}) <= 1


def test_json_is_a_backend_a_line_with_the_ttl_put_in(electctl: Electctl) -> None:
    done = electctl.run("compare", "--json", "--ttl", "3s", check=0)
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    for obj in shown:
        jsonschema.validate(obj, schema("compare"), cls=jsonschema.Draft202012Validator)
    shipped = Evidence(reference())
    # Through JSON and back: its lists are tuples in Traits.
    assert shown == [json.loads(json.dumps(as_dict(each, shipped))) for each in promises(ttl=3.0)]
    assert any(weakness["fault"] for obj in shown for weakness in obj["traits"]["weaknesses"])


def test_compare_and_backends_describe_traits_alike() -> None:
    traits = schema("compare")["properties"]["traits"]
    assert traits == schema("backends")["properties"]["traits"]
