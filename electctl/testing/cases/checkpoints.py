"""What only the present leader can write.

What this leaves out: checkpoints of a store that lost writes. Where ``traits.checkpoint`` is False
each case checks the refusal instead.
"""

from __future__ import annotations

import pytest

from electctl.errors import ElectctlError, LeadershipLost, OutcomeUnknown, Unreachable, Unsupported
from electctl.testing.cases.base import Cases
from electctl.testing.harness import Harness
from electctl.testing.stage import PATIENCE, Stage, eventually


class _WithCheckpoints(Cases):
    @pytest.fixture
    def keeper(self, harness: Harness, stage: Stage) -> Stage:
        """The stage, where there are checkpoints; else the refusal is all that is asked."""
        if not stage.traits.checkpoint:
            leadership = stage.lead("a")
            with pytest.raises(Unsupported):
                leadership.checkpoint.set(b"x")
            with pytest.raises(Unsupported):
                leadership.checkpoint.get()
            pytest.skip("traits.checkpoint is False, and the backend refuses, as it should")
        return stage


class Checkpoints(_WithCheckpoints):
    """Checkpoints of a store that answers."""

    @pytest.mark.parametrize(
        "value",
        [b"42", b"", bytes(range(256)), b"\r\n\0'\"{}", b"x" * 100_000],
        ids=["text", "empty", "binary", "hostile", "100kB"],
    )
    def test_what_is_set_is_got(self, keeper: Stage, value: bytes) -> None:
        """Byte for byte; an empty value is not the same as none; later terms read it."""
        leadership = keeper.lead("a")
        assert leadership.checkpoint.get() is None
        leadership.checkpoint.set(value)
        assert leadership.checkpoint.get() == value
        leadership.release()
        assert keeper.lead("b").checkpoint.get() == value

    def test_slots_and_elections_are_apart(self, keeper: Stage) -> None:
        """Also those whose names are alike."""
        slots = ["", "a", "A", "a:b", "a/b", "é", "*", "a\nb"]
        leadership = keeper.lead("a")
        for slot in slots:
            leadership.checkpoint.set(f"value of {slot}".encode(), slot)
        for slot in slots:
            assert leadership.checkpoint.get(slot) == f"value of {slot}".encode()
        other = keeper.lead("a", election=keeper.election + "/a")
        assert [other.checkpoint.get(slot) for slot in slots] == [None] * len(slots)

    def test_the_last_of_many_values_stands(self, keeper: Stage) -> None:
        """Within a term and over terms."""
        for term in range(3):
            with keeper.lead(f"c{term}") as leadership:
                for number in range(5):
                    leadership.checkpoint.set(f"{term}.{number}".encode())
        assert keeper.elector.backend.read_checkpoint(keeper.election, "") == b"2.4"

    def test_a_stale_grant_writes_nothing(self, keeper: Stage) -> None:
        """Neither in the vacancy after it, nor beside its successor, also one of the same id."""
        loser = keeper.lead("same")
        loser.checkpoint.set(b"good")
        keeper.harness.revoke(keeper.election)
        with pytest.raises(LeadershipLost):
            loser.candidacy.write_checkpoint("", b"stale", 9)
        winner = keeper.lead("same")
        with pytest.raises(LeadershipLost):
            loser.candidacy.write_checkpoint("", b"stale", 10)
        with pytest.raises(LeadershipLost):
            loser.candidacy.write_checkpoint("new slot", b"stale", 11)
        assert winner.checkpoint.get() == b"good"
        assert winner.checkpoint.get("new slot") is None
        winner.checkpoint.set(b"better")
        assert winner.checkpoint.get() == b"better"

    def test_a_released_grant_writes_nothing(self, keeper: Stage) -> None:
        """Refused in the store, and here without asking it."""
        leadership = keeper.lead("a")
        leadership.candidacy.release()
        with pytest.raises(LeadershipLost):
            leadership.candidacy.write_checkpoint("", b"late", 1)
        leadership.release()
        with pytest.raises(LeadershipLost):
            leadership.checkpoint.set(b"late")
        assert keeper.elector.backend.read_checkpoint(keeper.election, "") is None

    def test_a_delayed_older_write_undoes_nothing(self, keeper: Stage) -> None:
        """A request of the same term that comes twice, or after its successor."""
        leadership = keeper.lead("a")
        write = leadership.candidacy.write_checkpoint
        write("", b"one", 1)
        write("", b"two", 2)
        write("", b"one", 1)
        assert leadership.checkpoint.get() == b"two"
        write("", b"two", 2)
        assert leadership.checkpoint.get() == b"two"


class LinkedCheckpoints(_WithCheckpoints):
    """Checkpoints whose answer, or whose request, is lost on the way."""

    @pytest.mark.parametrize("direction", ["requests", "replies"])
    def test_a_write_whose_connection_breaks_is_tried_again(
        self, keeper: Stage, direction: str
    ) -> None:
        """Wherever it breaks, set() returns with the value written."""
        assert direction in ("requests", "replies")
        link = keeper.link()
        leadership = keeper.lead("a", elector=keeper.open(link))
        leadership.checkpoint.set(b"0")
        for number in range(1, 6):
            link.cut_after(3 * number, "requests" if direction == "requests" else "replies")
            leadership.checkpoint.set(str(number).encode())
            read = keeper.elector.backend.read_checkpoint(keeper.election, "")
            assert read == str(number).encode()
        assert link.broken >= 1
        leadership.check()

    def test_a_write_without_an_answer_is_unknown(self, keeper: Stage) -> None:
        """It may have acted, and the core is told so rather than no."""
        link = keeper.link()
        leadership = keeper.lead("a", elector=keeper.open(link))
        leadership.checkpoint.set(b"old")
        link.swallow("replies")
        with pytest.raises((OutcomeUnknown, Unreachable)):
            leadership.candidacy.write_checkpoint("", b"perhaps", 7)
        link.forward()
        read = keeper.elector.backend.read_checkpoint(keeper.election, "")
        assert read in (b"old", b"perhaps")

    def test_a_write_held_up_on_the_way_hits_no_later_term(self, keeper: Stage) -> None:
        """It is delivered when somebody else leads: the store itself must refuse it."""
        link = keeper.link()
        loser = keeper.lead("same", elector=keeper.open(link))
        loser.checkpoint.set(b"old")
        link.hold("requests")
        with pytest.raises(ElectctlError):
            loser.candidacy.write_checkpoint("", b"stale", 8)
        assert link.held > 0
        winner = keeper.lead("same")
        winner.checkpoint.set(b"new")
        link.forward()
        eventually("the old write is delivered", lambda: link.held == 0, PATIENCE)
        winner.checkpoint.set(b"newer", "another")
        assert winner.checkpoint.get() == b"new"
