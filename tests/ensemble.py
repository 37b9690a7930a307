"""What the suite's cases on three members need of our own clusters, whatever the scheme."""

from __future__ import annotations

import pytest

from benchmarks.stores import Separable
from electctl.backend import Backend
from electctl.elector import LeaderElector
from electctl.testing import EnsembleConformance, EnsembleHarness
from electctl.testing.cases.ensemble import repair
from electctl.testing.stage import Stage
from electctl.url import BackendURL


class SeparableHarness(EnsembleHarness):
    """To be mixed with the harness of a scheme, before it."""

    @property
    def _separable(self) -> Separable:
        assert isinstance(self.cluster, Separable)
        return self.cluster

    def leading(self) -> int:
        return self._separable.leading()

    def separate(self, member: int) -> None:
        self._separable.ways.separate(member)

    def heal(self) -> None:
        self._separable.ways.heal()

    def whole(self) -> bool:
        return self._separable.settled()


def must_make_two_leaders(
    harness: EnsembleHarness, backend: type[Backend], who: str = "follower"
) -> None:
    """The case of the member that is cut off finds the bug that was planted in a backend."""

    def open_planted(self: EnsembleHarness, url: str) -> LeaderElector:
        return LeaderElector(backend(BackendURL.parse(url)))

    planted = type("Planted", (type(harness),), {"open": open_planted})(harness.cluster)
    case = EnsembleConformance()
    stage = Stage(planted, f"planted-{backend.__name__}")
    try:
        with pytest.raises(AssertionError, match="two leaders"), stage.exits:
            case.test_a_leader_behind_a_member_that_is_cut_off_has_ended_before_the_next_leads(
                stage, planted, who, 1
            )
    finally:
        repair(planted)
