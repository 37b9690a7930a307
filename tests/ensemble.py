"""A bug is planted in a backend, and the suite's cases on three members must find it."""

from __future__ import annotations

import pytest

from electctl.contract.backend import Backend
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector
from electctl.testing import EnsembleConformance, EnsembleHarness
from electctl.testing.cases.ensemble import repair
from electctl.testing.stage import Stage


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
