"""Every fault of three members of ZooKeeper: done, seen, undone; and not seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.lab.cluster import Cluster, make_cluster
from tests.faulty_members import MemberCases, cases, done_and_undone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("faults") / "zk"
    with make_cluster("zk", home, 3, breakable=True) as cluster:
        yield cluster


class TestZooKeeper(MemberCases):
    """All cases."""

    @pytest.mark.parametrize("name", cases("zk"))
    def test_it_is_done_and_undone(self, store: Cluster, name: str) -> None:
        done_and_undone(store, name)
