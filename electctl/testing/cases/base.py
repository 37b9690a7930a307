"""The fixtures that all cases share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from electctl.testing.harness import Harness
from electctl.testing.stage import Stage


class Cases:
    """Base of all groups. The fixture ``harness`` is the author's (docs/writing-a-backend.md)."""

    @pytest.fixture
    def stage(self, harness: Harness) -> Iterator[Stage]:
        """The actors of one case, on an election of its own."""
        stage = Stage(harness, f"conformance-{uuid.uuid4().hex[:12]}")
        with stage.exits:
            yield stage
