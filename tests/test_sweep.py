"""What elections that are over leave, and its removal, on every real store.

Ages of days cannot be waited for: here everything that is over is old enough.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kazoo.security import OPEN_ACL_UNSAFE

from electctl import connect
from electctl.contract.backend import Backend, Bid, Leftover
from electctl.core.elector import LeaderElector
from electctl.raft.pure.times import Times
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster
from electctl_redis.lab import RedisCluster
from electctl_redis.names import Keys, election_of
from electctl_redis.scripts import FLOOR
from electctl_zookeeper.lab import ZooKeeperCluster
from tests.campaigns import validate
from tests.processes import Electctl
from tests.zookeeper import kazoo_client

pytestmark = pytest.mark.server


def zookeeper(home: Path) -> ZooKeeperCluster:
    return ZooKeeperCluster(home, 1)


def raft(home: Path) -> RaftCluster:
    return RaftCluster(home, 1)


@pytest.fixture(scope="module", params=[RedisCluster, EtcdCluster, zookeeper, raft])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make: Callable[[Path], Any] = request.param
    with make(tmp_path_factory.mktemp("sweep")) as cluster:
        yield cluster


@pytest.fixture
def elector(cluster: Any) -> Iterator[LeaderElector]:
    with connect(cluster.url) as elector:
        yield elector


def use(elector: LeaderElector, election: str, value: bytes = b"kept") -> int:
    """Lead once, and leave a checkpoint; the token."""
    with elector.campaign(election, "a", ttl=10, wait=10) as leadership:
        leadership.checkpoint.set(value)
        assert leadership.token is not None
        return leadership.token


def left(backend: Backend, election: str) -> Leftover | None:
    return next((one for one in backend.leftovers() if one.election == election), None)


def must_be_left(backend: Backend, election: str) -> Leftover:
    found = left(backend, election)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["{}", "dir/{}", "%{}{{tag}}", "ü {}"])
def test_what_is_left_goes_and_tokens_go_on_growing(
    elector: LeaderElector, election: str, name: str
) -> None:
    election = name.format(election)
    began = time.time()
    before = use(elector, election)
    found = must_be_left(elector.backend, election)
    assert "checkpoint" in found.what
    assert found.last_used is not None
    # Never earlier than it was, and never in the future by more than a lease.
    assert began - 1 <= found.last_used <= time.time() + 11
    assert elector.backend.sweep(found)
    assert left(elector.backend, election) is None
    assert elector.backend.read_checkpoint(election, "") is None
    assert not elector.backend.sweep(found)
    assert use(elector, election) > before


def test_one_that_is_led_or_awaited_is_never_listed(elector: LeaderElector, election: str) -> None:
    use(elector, election)
    with elector.campaign(election, "a", ttl=10, wait=10):
        assert left(elector.backend, election) is None
    assert left(elector.backend, election) is not None


def test_one_that_is_led_since_it_was_seen_is_left_alone(
    elector: LeaderElector, election: str
) -> None:
    use(elector, election)
    found = must_be_left(elector.backend, election)
    candidacy = elector.backend.candidacy(Bid(election, "b", 10.0, 1.0))
    assert candidacy.acquire(None) is not None
    try:
        assert not elector.backend.sweep(found)
        candidacy.renew()
        assert elector.backend.read_checkpoint(election, "") == b"kept"
    finally:
        candidacy.release()
        candidacy.close()
    assert not elector.backend.sweep(found)
    assert elector.backend.read_checkpoint(election, "") == b"kept"


def test_sweeping_beside_campaigns_disturbs_none(
    cluster: Any, elector: LeaderElector, election: str
) -> None:
    """Leaders come and go, with checkpoints, while everything that is free is swept."""
    stop = threading.Event()
    swept: list[bool] = []
    errors: list[BaseException] = []

    def sweep() -> None:
        try:
            with connect(cluster.url) as other:
                while not stop.is_set():
                    for one in other.backend.leftovers():
                        if one.election == election:
                            swept.append(other.backend.sweep(one))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=sweep)
    thread.start()
    tokens: list[int] = []
    try:
        for number in range(40):
            with elector.campaign(election, f"c{number}", ttl=10, wait=10) as leadership:
                assert leadership.token is not None
                tokens.append(leadership.token)
                leadership.checkpoint.set(b"%d" % number)
                assert leadership.checkpoint.get() == b"%d" % number
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    assert not errors, errors
    assert any(swept)
    assert tokens == sorted(set(tokens))


# The command --------------------------------------------------------------------------------------


def test_the_command_changes_nothing_unless_told_to(
    cluster: Any, elector: LeaderElector, electctl: Electctl, election: str
) -> None:
    use(elector, election)
    done = electctl.run("sweep", cluster.url, "--json", "--older-than", "30d", check=0)
    assert election not in done.stdout
    again = [json.loads(line) for line in run_until_seen(electctl, cluster.url, election, ())]
    assert [one["removed"] for one in again if one["election"] == election] == [None]
    assert elector.backend.read_checkpoint(election, "") == b"kept"
    lines = run_until_seen(electctl, cluster.url, election, ("--yes",))
    for line in lines:
        validate("sweep", json.loads(line))
    assert [one["removed"] for one in map(json.loads, lines) if one["election"] == election] == [
        True
    ]
    assert elector.backend.read_checkpoint(election, "") is None


def run_until_seen(
    electctl: Electctl, url: str, election: str, options: tuple[str, ...]
) -> list[str]:
    """Redis counts the last lease as use, so an election is old enough when that would be over."""
    for _ in range(30):
        done = electctl.run("sweep", url, "--json", "--older-than", "0s", *options, check=0)
        if election in done.stdout:
            return done.stdout.splitlines()
        time.sleep(0.5)
    raise AssertionError(f"{election} does not get old")


def test_the_command_tells_what_it_would_do(electctl: Electctl, redis_url: str) -> None:
    with connect(redis_url) as elector:
        use(elector, "sweep-table")
    done = electctl.run("sweep", redis_url, check=0)
    assert done.stderr == "electctl: nothing is left that is old enough\n"
    done = electctl.run("sweep", redis_url, "-b", redis_url, check=2)
    assert "named twice" in done.stderr


# Redis: the floor ---------------------------------------------------------------------------------


def test_one_number_keeps_the_tokens_of_all_that_were_swept(tmp_path: Path) -> None:
    with (
        RedisCluster(tmp_path) as cluster,
        connect(cluster.url) as elector,
        redis.Redis(port=cluster.servers[0].port) as store,
    ):
        for _ in range(5):
            greatest = use(elector, "often")
        use(elector, "once")
        for found in list(elector.backend.leftovers()):
            assert elector.backend.sweep(found)
        assert store.keys("*") == [FLOOR.encode()]
        assert use(elector, "often") == greatest + 1
        assert use(elector, "new") == greatest + 1


def test_a_foreign_lock_is_a_leader(tmp_path: Path) -> None:
    with (
        RedisCluster(tmp_path) as cluster,
        connect(cluster.url) as elector,
        redis.Redis(port=cluster.servers[0].port) as store,
    ):
        use(elector, "shared")
        found = must_be_left(elector.backend, "shared")
        with store.lock("shared", timeout=10):
            assert left(elector.backend, "shared") is None
            assert not elector.backend.sweep(found)
        assert elector.backend.sweep(found)


@pytest.mark.parametrize("name", ["a", "a{b}c", "}", "{}x", "a:term:b", "{a}:term:b"])
def test_an_election_is_read_out_of_its_keys(name: str) -> None:
    keys = Keys.of(name, 0)
    assert election_of(keys.term) == name.encode()
    assert election_of(keys.checkpoint) == name.encode()
    assert election_of(keys.waiting) is None
    assert election_of(keys.lock) is None


# ZooKeeper: what is whose -------------------------------------------------------------------------


class Hasty(ZooKeeperCluster):
    """It looks for empty containers twice a second."""

    def _flags(self, home: Path) -> list[str]:
        return [*super()._flags(home), "-Dznode.container.checkIntervalMs=500"]


def test_znodes_go_with_the_last_who_leaves_or_by_themselves_after_a_crash(
    tmp_path: Path,
) -> None:
    with (
        Hasty(tmp_path, 1) as cluster,
        kazoo_client(cluster.url) as native,
        connect(cluster.url) as elector,
    ):
        first = elector.campaign("dir/job", "a", ttl=5, wait=5)
        waiting = elector.backend.candidacy(Bid("dir/job", "b", 5.0, 1.0))
        thread = threading.Thread(target=waiting.acquire, args=(None,))
        thread.start()
        first.release()
        thread.join(10)
        assert native.exists("/dir/job") is not None
        waiting.release()
        waiting.close()
        assert native.exists("/dir/job") is None
        assert native.exists("/.electctl/%dir%2Fjob") is None
        crashed: Any = elector.backend.candidacy(Bid("dir/job", "c", 1.5, 0.1))
        assert crashed.acquire(None) is not None
        crashed.close()
        end = time.monotonic() + 20
        while native.exists("/dir/job") or native.exists("/.electctl/%dir%2Fjob"):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_parent_that_kazoo_made_or_has_used_is_left_to_it(tmp_path: Path) -> None:
    """Its Lock makes it once, and raises if it is gone at a later turn."""
    with (
        ZooKeeperCluster(tmp_path, 1) as cluster,
        kazoo_client(cluster.url) as native,
        connect(cluster.url) as elector,
    ):
        made = native.Lock("/made", "kazoo")
        with made:
            pass
        elector.campaign("made", "a", ttl=5, wait=5).release()
        with made:
            pass
        with elector.campaign("used", "a", ttl=5, wait=5):
            used = native.Lock("/used", "kazoo")
            turn = threading.Thread(target=used.acquire)
            turn.start()
            while len(native.get_children("/used")) < 2:
                time.sleep(0.01)
        turn.join(10)
        used.release()
        elector.campaign("used", "a", ttl=5, wait=5).release()
        with used:
            pass
        with connect(f"{cluster.url}&parent=persistent") as keeping:
            keeping.campaign("kept", "a", ttl=5, wait=5).release()
        assert native.exists("/kept") is not None


def test_what_others_keep_under_an_elections_path_stays(tmp_path: Path) -> None:
    with (
        ZooKeeperCluster(tmp_path, 1) as cluster,
        kazoo_client(cluster.url) as native,
        connect(cluster.url) as elector,
    ):
        native.create("/app", b"settings of a program", acl=OPEN_ACL_UNSAFE)
        native.create("/tree/app", b"", makepath=True)
        native.create("/tree/app/config", b"x")
        for name in ("app", "tree/app"):
            use(elector, name)
            assert elector.backend.sweep(must_be_left(elector.backend, name))
            assert left(elector.backend, name) is None
        assert native.get("/app")[0] == b"settings of a program"
        assert native.exists("/tree/app/config") is not None


# Raft: times --------------------------------------------------------------------------------------


def test_times_are_never_too_early_and_bounded() -> None:
    times = Times()
    assert (times.of(1), times.covered) == (0, 0)
    day, truth = 86_400, {}
    for step in range(20_000):
        index, at = 3 * step, 1_000_000 + step * 3_600
        truth[index] = at
        times.add(index, at)
        times.add(index + 1, at - 10_000_000)  # a clock that is wrong
    assert len(times.pairs) <= 403
    newest = max(truth.values())
    for index, at in truth.items():
        told = times.of(index)
        assert told >= at
        if at > newest - 399 * day:
            assert told <= at + 2 * day
    assert times.of(3 * 20_000) == 0
