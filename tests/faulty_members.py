"""What a store of three members must show, whatever its scheme: faults done, seen, undone."""

from __future__ import annotations

import pytest

from electctl.core.elector import connect
from electctl.errors import ElectctlError
from electctl.faults import library, members
from electctl.lab.capable import Led, Separable
from electctl.lab.cluster import Cluster
from tests.faulty import injected, not_injected, of_store

#: The leader's own links are the same whatever the store: test_faults_redis.py breaks them all.
LINKS = ("partition:candidate", "partition:candidate-in", "partition:candidate-out", "slow")


def cases(scheme: str) -> list[str]:
    """The names of the faults to be done to its members."""
    return [name for name in of_store(scheme, 3) if name not in LINKS]


def done_and_undone(store: Cluster, name: str) -> None:
    """It takes hold, and afterwards every member serves again."""
    with injected(store, name):
        pass
    assert isinstance(store, Led)
    assert store.settled()
    assert all(server.alive and not server.paused for server in store.servers)


class MemberCases:
    """With a module's fixture ``store``: three members whose links can be broken."""

    def test_split_so_that_nobody_has_a_majority_it_serves_nobody(self, store: Cluster) -> None:
        with (
            injected(store, "partition:even", ttl=12.0),
            connect(store.url) as elector,
            pytest.raises(ElectctlError),
        ):
            elector.campaign("split", "z", ttl=6, wait=3)

    def test_a_restarted_member_that_lost_its_data_is_no_restart_with_its_disk(
        self, store: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "forget", lambda number: None, raising=False)
        not_injected(store, "restart", "without its data")

    def test_links_that_lose_nothing(self, store: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(store, Separable)
        monkeypatch.setattr(store.ways, "split", lambda *groups: None)
        monkeypatch.setattr("electctl.faults.watching.DEADLINE", 0.1)
        for name in ("partition:member", "partition:even"):
            not_injected(store, name, "could be lost")

    def test_who_reaches_what(self, store: Cluster) -> None:
        assert isinstance(store, Led)
        leading = store.leading()
        everywhere = [0, 1, 2]
        assert library.entrances(library.find("gc"), store) == (everywhere, everywhere)
        first, others = library.entrances(library.find("partition:store"), store)
        assert first == [leading]
        assert others == (
            [place for place in everywhere if place != leading]
            if store.followers_serve
            else everywhere
        )
        first, others = library.entrances(library.find("partition:member"), store)
        assert (leading in first) == (not store.followers_serve)
        assert sorted({*first, *others}) == everywhere

    def test_two_members_can_be_lost_and_come_back(self, store: Cluster) -> None:
        with members.paused(store, 0), members.paused(store, 1) as done:
            assert [server.paused for server in store.servers] == [True, True, False]
            assert "state T" in done.confirmed
        assert not any(server.paused for server in store.servers)
