"""Names and ids that somebody will try one day.

What this leaves out: what native tools make of them.
"""

from __future__ import annotations

import pytest

from electctl.clock import now
from electctl.errors import UsageError
from electctl.testing.cases.base import Cases
from electctl.testing.stage import SLACK, Stage

HOSTILE = {
    "quotes": "a'b\"c`d",
    "newlines": "a\nb\r\nc",
    "dots": "../../etc/passwd",
    "dot": ".",
    "braces": "{a}{}",
    "percent": "100%s%n%2F",
    "spaces": "  two  spaces  ",
    "dash": "-rf",
    "emoji": "🗳️ élection",
    "glob": "*?[a-z]",
    "sql": "x'); DROP TABLE leases;--",
    "slashes": "//a//b/",
    "backslash": "a\\b\\n",
    "controls": "\x01\x1b[31m\x7f",
    "colons": "a:b::c",
    "kilobyte": "k" * 1024,
    "kilobyte-wide": "é" * 512,
}

#: Names that a careless encoding would make one.
ALIKE = ["a b", "a_b", "a%20b", "a+b", "A B", "a  b", "é", "e\u0301", "a/b", "a%2Fb", "a\\b"]


class Names(Cases):
    """They work, or are refused clearly; none is taken for another."""

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_a_hostile_name_works_or_is_refused_clearly(self, stage: Stage, kind: str) -> None:
        """As election and as id: elected, shown, waited for, released."""
        name = HOSTILE[kind]
        big = kind.startswith("kilobyte")
        election = name if big else name + stage.election
        elector = stage.open()
        try:
            leadership = elector.campaign(election, name, ttl=stage.ttl, wait=10)
        except UsageError as error:
            refusal: UsageError | None = error
        else:
            refusal = None
        if refusal is not None:
            assert "\n" not in refusal.message
            assert refusal.hint
            return
        with leadership:
            holder = elector.holder(election)
            assert holder is not None
            assert holder.id == name
            leadership.candidacy.renew()
            if stage.traits.checkpoint:
                leadership.checkpoint.set(name.encode())
                assert leadership.checkpoint.get() == name.encode()
            waiter = stage.contend("w" if big else name + "2", election=election)
        waiter.elected(stage.succession).release()
        assert elector.holder(election) is None

    def test_names_that_are_alike_are_different_elections(self, stage: Stage) -> None:
        """All are led at once, each by its own."""
        names = [f"{name}{stage.election}" for name in ALIKE]
        leaderships = [stage.lead(f"id of {name}", election=name) for name in names]
        for name, leadership in zip(names, leaderships, strict=True):
            holder = stage.elector.holder(name)
            assert holder is not None
            assert holder.id == f"id of {name}"
            leadership.check()

    @pytest.mark.parametrize(
        "bad", ["", "a\0b", "x" * 10_000, "\ud800"], ids=["empty", "nul", "10kB", "surrogate"]
    )
    def test_a_bad_name_is_refused_before_any_contact(self, stage: Stage, bad: str) -> None:
        """As election and as id, at once, with a hint."""
        began = now()
        for election, candidate in ((bad, "a"), (stage.election, bad)):
            with pytest.raises(UsageError) as caught:
                stage.elector.campaign(election, candidate, ttl=stage.ttl, wait=5)
            assert caught.value.hint
            assert "\n" not in caught.value.message
        for ask in (stage.elector.holder, stage.elector.candidates, stage.elector.evict):
            with pytest.raises(UsageError):
                ask(bad)
        assert now() - began < SLACK
