"""What an election that is over leaves in the store, and its removal.

What this leaves out: ages. A suite cannot wait for days, so what is over counts as old.
"""

from __future__ import annotations

import time

import pytest

from electctl.contract.backend import Leftover
from electctl.errors import Unsupported
from electctl.testing.cases.base import Cases
from electctl.testing.stage import Stage


class Sweeping(Cases):
    """Where the backend has ``leftovers``; else the refusal is all that is asked."""

    @pytest.fixture
    def swept(self, stage: Stage) -> Stage:
        """The stage, with a checkpoint of an election that is over."""
        try:
            next(iter(stage.elector.backend.leftovers()), None)
        except Unsupported:
            pytest.skip("the backend has no leftovers, and says so")
        leadership = stage.lead("a")
        if stage.traits.checkpoint:
            leadership.checkpoint.set(b"kept")
        leadership.release()
        return stage

    def _left(self, stage: Stage) -> Leftover | None:
        found = stage.elector.backend.leftovers()
        return next((one for one in found if one.election == stage.election), None)

    def test_what_is_over_goes_once_and_tokens_go_on_growing(self, swept: Stage) -> None:
        """Also its checkpoint; its age is never in doubt to the wrong side."""
        found = self._left(swept)
        if found is None:
            assert not swept.traits.checkpoint, "a checkpoint is left, and is not listed"
            return
        if found.last_used is not None:
            assert found.last_used > time.time() - 60
        first = swept.lead("b")
        first.release()
        found = self._left(swept)
        assert found is not None
        backend = swept.elector.backend
        assert backend.sweep(found)
        assert self._left(swept) is None
        assert not backend.sweep(found)
        if swept.traits.checkpoint:
            assert backend.read_checkpoint(swept.election, "") is None
        second = swept.lead("b")
        if first.token is not None:
            assert second.token is not None
            assert second.token > first.token

    def test_an_election_in_use_is_neither_listed_nor_swept(self, swept: Stage) -> None:
        """Nor one that was used between the look and the sweep."""
        found = self._left(swept)
        leadership = swept.lead("b")
        assert self._left(swept) is None
        if found is None:
            return
        assert not swept.elector.backend.sweep(found)
        leadership.check()
        leadership.release()
        assert not swept.elector.backend.sweep(found)
