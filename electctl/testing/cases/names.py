"""Names and ids that somebody will try one day.

What this leaves out: what native tools make of them.
"""

from __future__ import annotations

import pytest

from electctl.base.clock import now
from electctl.errors import NotElected, UsageError
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

#: Spellings that some stores' native tools take for one name, and others for several.
SPELLINGS = ["jobs/{}", "/jobs/{}", "jobs//{}", "jobs/{}/", "//jobs///{}//"]


class Names(Cases):
    """They work, or are refused clearly; none is taken for another, and one is never two."""

    @pytest.fixture
    def spellings(self, stage: Stage) -> list[str]:
        """Several, of one name or of several: ``canonical`` says which."""
        return [spelling.format(stage.election) for spelling in SPELLINGS]

    def test_a_canonical_name_is_its_own(self, stage: Stage, spellings: list[str]) -> None:
        """However often it is asked for."""
        for spelling in (*spellings, *ALIKE):
            name = stage.elector.backend.canonical(spelling)
            assert stage.elector.backend.canonical(name) == name

    def test_an_election_is_one_in_all_its_spellings(
        self, stage: Stage, spellings: list[str]
    ) -> None:
        """To contend, look, observe, evict, keep a checkpoint; each name is led by one."""
        backend = stage.elector.backend
        led = {
            name: stage.lead(f"leader of {name}", election=name)
            for name in dict.fromkeys(map(backend.canonical, spellings))
        }
        for spelling in spellings:
            name = backend.canonical(spelling)
            assert led[name].election == name
            holder = stage.elector.holder(spelling)
            assert holder is not None
            assert holder.id == f"leader of {name}"
            seen = next(iter(stage.elector.observe(spelling))).view.holder
            assert seen is not None
            assert seen.id == holder.id
            with pytest.raises(NotElected):
                stage.elector.campaign(spelling, "other", ttl=stage.ttl, wait=0)
            if stage.traits.checkpoint:
                led[name].checkpoint.set(spelling.encode())
                assert backend.read_checkpoint(spelling, "") == spelling.encode()
        for name, leadership in led.items():
            spelling = next(one for one in reversed(spellings) if backend.canonical(one) == name)
            assert backend.evict(spelling, force=False) is not None
            assert leadership.stop_requested.wait(stage.succession)
            leadership.release()
            assert stage.elector.holder(spelling) is None

    def test_a_native_tool_takes_the_same_spellings_for_one(
        self, stage: Stage, spellings: list[str]
    ) -> None:
        """What it holds is held for us in those spellings and in no other; and so for it."""
        foreign = stage.harness.foreign()
        if foreign is None:
            pytest.skip("the store has no native tool")
        canonical = stage.elector.backend.canonical
        for held in spellings:
            with foreign(held, 5.0) as got:
                assert got
                for spelling in spellings:
                    if canonical(spelling) == canonical(held):
                        with pytest.raises(NotElected):
                            stage.elector.campaign(spelling, "ours", ttl=stage.ttl, wait=0)
                    else:
                        assert stage.elector.holder(spelling) is None
        ours = stage.lead("ours", election=spellings[0])
        for spelling in spellings:
            if canonical(spelling) == ours.election:
                with foreign(spelling, 0.3) as got:
                    assert not got

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
