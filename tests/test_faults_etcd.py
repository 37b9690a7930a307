"""Every fault of three members of etcd: done, seen, undone; and not seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from electctl.faults import library
from electctl.faults.fault import NotInjected
from electctl.lab.cluster import Cluster, make_cluster
from tests.faulty import led
from tests.faulty_members import MemberCases, cases, done_and_undone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("faults") / "etcd"
    with make_cluster("etcd", home, 3, breakable=True) as cluster:
        yield cluster


class TestEtcd(MemberCases):
    """All cases."""

    @pytest.mark.parametrize("name", cases("etcd"))
    def test_it_is_done_and_undone(self, store: Cluster, name: str) -> None:
        done_and_undone(store, name)

    def test_libfaketime_does_not_reach_go(self, store: Cluster) -> None:
        fault = library.find("clock:forward")
        with led(store, fault) as (scene, _), pytest.raises(NotInjected, match="did not move"):
            fault.inject(scene).__enter__()
