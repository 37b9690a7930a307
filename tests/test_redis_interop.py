"""electctl and redis-py's own Lock on one name, both ways; and any other ``SET NX PX`` lock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import LockError
from redis.lock import Lock

import electctl
from electctl.base.clock import now
from electctl.core.elector import LeaderElector
from electctl.errors import LeadershipLost, NotElected
from electctl.lab.cluster import Cluster
from electctl_redis.candidacy import FOREIGN_POLL
from electctl_redis.lab import RedisCluster
from tests.processes import wait_for


@pytest.fixture
def store(redis_cluster: Cluster) -> Iterator[Any]:
    client: Any = redis.Redis(port=redis_cluster.servers[0].port)
    with client:
        yield client


@pytest.fixture
def elector(redis_url: str) -> Iterator[LeaderElector]:
    with electctl.connect(redis_url) as found:
        yield found


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_their_lock_is_not_taken_while_we_lead(
    elector: LeaderElector, store: Any, election: str
) -> None:
    lock = Lock(store, election, timeout=30)
    with elector.campaign(election, "ours", wait=0):
        assert not lock.acquire(blocking=False)
    assert lock.acquire(blocking=False)
    lock.release()


def test_their_waiting_lock_gets_it_after_our_release(
    elector: LeaderElector, store: Any, election: str, threads: ThreadPoolExecutor
) -> None:
    lock = Lock(store, election, timeout=30, sleep=0.01, thread_local=False)
    leadership = elector.campaign(election, "ours", wait=0)
    future = threads.submit(lock.acquire, blocking_timeout=10)
    wait_for(future.running)
    leadership.release()
    assert future.result(5)
    lock.release()


def test_we_do_not_lead_while_they_hold_it(
    elector: LeaderElector, store: Any, election: str
) -> None:
    with Lock(store, election, timeout=30):
        with pytest.raises(NotElected):
            elector.campaign(election, "ours", wait=0)
        with pytest.raises(NotElected):
            elector.campaign(election, "ours", wait=FOREIGN_POLL + 0.2)


def test_we_lead_soon_after_they_let_go_without_notifications(
    elector: LeaderElector, store: Any, election: str, threads: ThreadPoolExecutor
) -> None:
    assert store.config_get("notify-keyspace-events")["notify-keyspace-events"] == ""
    lock = Lock(store, election, timeout=30)
    lock.acquire()
    future = threads.submit(elector.campaign, election, "ours")
    wait_for(lambda: elector.candidates(election) == ("ours",))
    began = now()
    lock.release()
    with future.result(5):
        assert now() - began < FOREIGN_POLL + 0.3


def test_we_lead_at_once_after_they_let_go_with_notifications(
    tmp_path: Path, election: str, threads: ThreadPoolExecutor
) -> None:
    with (
        RedisCluster(tmp_path, config=["notify-keyspace-events KA"]) as cluster,
        redis.Redis(port=cluster.servers[0].port) as store,
        electctl.connect(cluster.url) as elector,
    ):
        took = []
        for _ in range(5):
            lock = Lock(store, election, timeout=30)
            lock.acquire()
            future = threads.submit(elector.campaign, election, "ours")
            wait_for(lambda: elector.candidates(election) == ("ours",))
            wait_for(lambda: len(_subscribed(store, election)) == 1, what="the key is watched")
            began = now()
            lock.release()
            with future.result(5):
                took.append(now() - began)
        print(f"{sorted(took)[2] * 1000:.1f} ms")
        assert sorted(took)[2] < 0.1


def _subscribed(store: Any, election: str) -> list[bytes]:
    found: list[bytes] = store.pubsub_channels(f"__keyspace@0__:{election}")
    return found


def test_only_our_first_waiter_polls_their_lock(
    elector: LeaderElector, store: Any, election: str, threads: ThreadPoolExecutor
) -> None:
    lock = Lock(store, election, timeout=30)
    lock.acquire()
    attempts = [elector.attempt(election, f"w{n}") for n in range(5)]
    futures = [threads.submit(attempt.run) for attempt in attempts]
    wait_for(lambda: len(elector.candidates(election)) == 5)
    before, began = _calls(store, "get"), now()
    wait_for(lambda: _calls(store, "get") >= before + 4, what="four looks")
    assert now() - began > 3 * FOREIGN_POLL
    for attempt in attempts:
        attempt.cancel()
    for future in futures:
        with pytest.raises(NotElected):
            future.result(5)
    lock.release()


def _calls(store: Any, name: str) -> int:
    return int(store.info("commandstats")[f"cmdstat_{name}"]["calls"])


def test_their_crash_is_waited_out_by_its_time_to_live(
    elector: LeaderElector, store: Any, election: str
) -> None:
    began = now()
    assert store.set(election, "somebody", nx=True, px=700)
    with elector.campaign(election, "ours", wait=10):
        assert 0.7 <= now() - began < 1.0


def test_a_lock_of_theirs_that_never_expires_is_waited_for(
    elector: LeaderElector, store: Any, election: str, threads: ThreadPoolExecutor
) -> None:
    assert store.set(election, "for ever", nx=True)
    found = elector.holder(election)
    assert found is not None
    assert found.expires_in is None
    with pytest.raises(NotElected):
        elector.campaign(election, "ours", ttl=0.5, wait=1.2)
    future = threads.submit(elector.campaign, election, "ours", wait=10)
    wait_for(lambda: elector.candidates(election) == ("ours",))
    store.delete(election)
    future.result(5).release()


def test_an_extended_lock_of_theirs_is_not_taken(
    elector: LeaderElector, store: Any, election: str, threads: ThreadPoolExecutor
) -> None:
    lock = Lock(store, election, timeout=0.5)
    lock.acquire()
    future = threads.submit(elector.campaign, election, "ours")
    for _ in range(10):
        lock.reacquire()
        assert not future.done()
        wait_for(lambda: store.pttl(election) < 350)
    assert lock.owned()
    lock.release()
    future.result(5).release()


def test_we_show_their_holder_as_foreign(elector: LeaderElector, store: Any, election: str) -> None:
    lock = Lock(store, election, timeout=30)
    lock.acquire()
    found = elector.holder(election)
    assert found is not None
    assert lock.local.token is not None
    assert found.id == lock.local.token.decode()
    assert (found.token, found.ttl, found.since) == (None, None, None)
    assert not found.can_be_asked
    assert found.expires_in is not None
    assert 29 < found.expires_in <= 30
    with closing(elector.backend.watch(election)) as watch:
        view = watch.next(5)
        assert view is not None
        assert view.holder is not None
        assert view.holder.id == found.id
        lock.release()
        view = watch.next(5)
        assert view is not None
        assert view.holder is None


def test_a_value_that_is_no_text_is_shown_and_told_apart(
    elector: LeaderElector, store: Any, election: str
) -> None:
    with closing(elector.backend.watch(election)) as watch:
        assert watch.next(5) is not None
        seen = []
        for value in (b"\xff\x00", b"\xfe\x00", b'"\\\n\xff'):
            store.set(election, value, px=30000)
            view = watch.next(5)
            assert view is not None
            assert view.holder is not None
            seen.append(view.term)
            found = elector.holder(election)
            assert found is not None
            assert found.id == view.holder.id
        assert len(set(seen)) == 3
    store.delete(election)


def test_their_theft_is_noticed_and_our_release_leaves_it(
    elector: LeaderElector, store: Any, election: str
) -> None:
    leadership = elector.campaign(election, "ours", ttl=2, wait=0)
    store.set(election, "thief", px=30000)
    with pytest.raises(LeadershipLost):
        leadership.candidacy.renew()
    leadership.release()
    assert store.get(election) == b"thief"
    store.delete(election)


def test_our_forced_eviction_ends_their_lock(
    elector: LeaderElector, store: Any, election: str
) -> None:
    lock = Lock(store, election, timeout=30)
    lock.acquire()
    gone = elector.evict(election, force=True)
    assert gone is not None
    with pytest.raises(LockError):
        lock.release()
    with elector.campaign(election, "ours", wait=0) as leadership:
        assert leadership.token == 1
