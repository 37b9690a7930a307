"""Every fault of a Redis server, a Sentinel set, a cluster: done, seen, undone; and not seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from electctl.base.clock import now
from electctl.faults import clocks, data, library
from electctl.faults.fault import NotInjected
from electctl.faults.watching import witness
from electctl.lab.capable import Clocked, Replicated
from electctl.lab.cluster import Cluster, make_cluster
from tests.faulty import injected, led, not_injected, of_store, serves
from tests.processes import wait_for

#: Those with a test of their own below.
SHOWN = ("clock:forward", "clock:fast", "evict:memory", "failover", "flush")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("faults") / "redis"
    with make_cluster("redis", home, breakable=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("faults") / "sentinels"
    with make_cluster("redis+sentinel", home, 2, breakable=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("faults") / "nodes"
    with make_cluster("redis+cluster", home, breakable=True) as cluster:
        yield cluster


def client(cluster: Cluster) -> redis.Redis:
    return redis.Redis(port=cluster.servers[0].port)


@pytest.mark.parametrize("name", [n for n in of_store("redis", 1) if n not in SHOWN])
def test_it_is_done_and_undone(store: Cluster, name: str) -> None:
    with injected(store, name):
        pass


def test_a_clock_that_went_forward_ends_the_lease(store: Cluster) -> None:
    fault = library.find("clock:forward")
    with led(store, fault) as (scene, leadership), client(store) as server:
        assert server.exists(scene.election)
        with fault.inject(scene):
            assert not server.exists(scene.election)
            assert leadership.remaining() > 0
    assert "LD_PRELOAD" not in store.servers[0].env
    serves(store)


def test_a_fast_clock_is_measured_and_right_again_after(store: Cluster) -> None:
    assert isinstance(store, Clocked)
    with injected(store, "clock:fast"):
        first, begun = store.clock(0), now()
        wait_for(lambda: now() > begun + 0.2)
        assert store.clock(0) - first > 3 * 0.2
    assert abs(store.clock(0) - time.time()) < 1.0


def test_out_of_memory_it_evicts_the_lock_and_has_memory_again_after(store: Cluster) -> None:
    with client(store) as server:
        before = server.config_get("maxmemory*")
        with injected(store, "evict:memory") as (done, _, _):
            assert "evicted" in done.confirmed
        assert server.config_get("maxmemory*") == before
        assert not server.keys("electctl-filler-*")


def test_flushed_is_empty(store: Cluster) -> None:
    with client(store) as server:
        server.set("other", 1)
        with injected(store, "flush"):
            assert not server.exists("other")


# Not seen, so not injected ------------------------------------------------------------------------


def test_a_server_without_libfaketime_keeps_its_time(store: Cluster) -> None:
    for name in ("clock:forward", "clock:back", "clock:fast"):
        not_injected(store, name, "clock of redis")


def test_without_libfaketime_installed_it_says_what_to_install(
    store: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "_LIBRARIES", "nowhere/*")
    with pytest.raises(NotInjected, match="apt-get install faketime"), clocks.faked(store):
        pass
    serves(store)


def test_a_flush_that_deletes_nothing(store: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "flush", lambda: 0)
    monkeypatch.setattr("electctl.faults.watching.DEADLINE", 0.1)
    not_injected(store, "flush", "still there")


def test_a_restart_that_loses_nothing(store: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "forget", lambda number: None)
    not_injected(store, "restart", "without its data")
    serves(store)


def test_a_restoration_without_a_copy(store: Cluster) -> None:
    not_injected(store, "restore", "no older copy")


def test_an_eviction_of_a_grant_that_is_not_there(store: Cluster) -> None:
    with led(store, library.find("flush")) as (scene, leadership):
        leadership.release()
        with pytest.raises(NotInjected, match="nobody led"), data.evict_force(scene):
            pass


def test_links_on_which_nothing_is_sent(store: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("electctl.faults.links.DEADLINE", 0.1)
    with led(store, library.find("slow")) as (scene, leadership):
        leadership.release()
        quiet = type(scene)(scene.leader, store, scene.links, scene.election, 0.1)
        for name in ("partition:candidate", "partition:candidate-in", "slow"):
            with pytest.raises(NotInjected, match="could be"):
                library.find(name).inject(quiet).__enter__()
        assert {proxy.mode for proxy in scene.links.values()} == {"forward"}


def test_a_store_that_does_not_serve_has_no_witness(store: Cluster) -> None:
    store.stop()
    try:
        with pytest.raises(NotInjected, match="does not serve"), witness(store):
            pass
    finally:
        store.start()


def test_the_only_server_is_dead_already(store: Cluster) -> None:
    with led(store, library.find("crash:store")) as (scene, _):
        store.servers[0].kill()
        for name in ("crash:store", "stall"):
            with pytest.raises(NotInjected, match="run"):
                library.find(name).inject(scene).__enter__()
            store.servers[0].kill()
    store.start()
    serves(store)


# A primary, a replica and three Sentinels ---------------------------------------------------------


def test_a_primary_that_is_lost_takes_the_grant_with_it(sentinels: Cluster) -> None:
    assert isinstance(sentinels, Replicated)
    before = sentinels.leading()
    with injected(sentinels, "failover") as (done, scene, _):
        after = sentinels.leading()
        assert after != before
        assert sentinels.role(after) == "primary"
        with redis.Redis(port=sentinels.members[after].port) as server:
            assert not server.exists(scene.election)
        assert sentinels.members[before].name == done.target
    assert sentinels.settled()


def test_a_primary_that_is_cut_off_goes_on_beside_another(sentinels: Cluster) -> None:
    assert isinstance(sentinels, Replicated)
    before = sentinels.leading()
    with injected(sentinels, "partition:store"):
        wait_for(lambda: sentinels.leading() != before, 60.0, what="a replica is promoted")
        assert sentinels.role(before) == sentinels.role(1 - before) == "primary"


def test_a_replica_that_heard_of_the_grant_is_no_failover(
    sentinels: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinels, "part_replicas", lambda: None)
    not_injected(sentinels, "failover", "knows what")
    serves(sentinels)


def test_one_that_is_not_breakable_cannot_be_failed_over(tmp_path: Path) -> None:
    whole = make_cluster("redis+sentinel", tmp_path, 2)
    with pytest.raises(NotInjected, match="breakable"), data.unreplicated(whole):
        pass


# A cluster: three primaries, of which one has next to all slots, and their replicas ---------------


def test_a_primary_of_a_cluster_that_is_lost_takes_the_grant_with_it(nodes: Cluster) -> None:
    assert isinstance(nodes, Replicated)
    before = nodes.leading()
    with injected(nodes, "failover") as (done, scene, _):
        after = nodes.leading()
        assert after != before
        assert nodes.role(after) == "primary"
        with redis.Redis(port=nodes.members[after].port) as server:
            assert not server.exists(scene.election)
        assert nodes.members[before].name == done.target
    assert nodes.settled()


def test_a_primary_of_a_cluster_that_is_cut_off_goes_on_for_a_time(nodes: Cluster) -> None:
    assert isinstance(nodes, Replicated)
    before = nodes.leading()
    with injected(nodes, "partition:store") as (_, scene, _):
        with redis.Redis(port=nodes.members[before].port) as server:
            server.set(scene.election + "-after", 1)  # it does not know yet
        wait_for(lambda: nodes.leading() != before, 60.0, what="a replica is promoted")
        assert nodes.role(before) == nodes.role(nodes.leading()) == "primary"
        with pytest.raises(redis.exceptions.ClusterDownError):
            redis.Redis(port=nodes.members[before].port).get(scene.election)
    assert nodes.settled()


def test_out_of_memory_a_node_evicts_the_lock(nodes: Cluster) -> None:
    with injected(nodes, "evict:memory") as (done, _, _):
        assert "evicted" in done.confirmed
