"""The conformance suite: what every backend must do, as tests to run on your own.

What it does not show: that the store keeps its promises under a jumping clock, a fail-over or a
restored backup. That is what ``traits`` declares and what the drills show. It shows that the
backend reports truthfully, and that nothing is lost between the store and the caller.

Needs pytest (``pip install 'electctl[test]'``); nothing else in electctl imports this package.
docs/writing-a-backend.md shows how to run it::

    from electctl.testing import BackendConformance, Harness

    @pytest.fixture(scope="module")
    def harness(tmp_path_factory):
        with MyCluster(tmp_path_factory.mktemp("mine")) as cluster:
            yield MyHarness(cluster)

    class TestMine(BackendConformance):
        pass
"""

import pytest

pytest.register_assert_rewrite("electctl.testing.cases")

from electctl.testing.cases import (  # noqa: E402
    BackendConformance,
    EnsembleConformance,
    StoreConformance,
)
from electctl.testing.harness import EnsembleHarness, Foreign, Harness, Link  # noqa: E402

__all__ = [
    "BackendConformance",
    "EnsembleConformance",
    "EnsembleHarness",
    "Foreign",
    "Harness",
    "Link",
    "StoreConformance",
]
