"""Contention with etcd's own tools, both ways: ``lock``, ``elect`` and ``elect -l`` of etcdctl."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from electctl.testing.stage import Stage, eventually
from electctl_etcd.lab import EtcdCluster
from tests.etcd import EtcdHarness, Native
from tests.processes import Electctl


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdHarness]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield EtcdHarness(cluster)


@pytest.fixture
def stage(harness: EtcdHarness, election: str) -> Iterator[Stage]:
    stage = Stage(harness, election)
    with stage.exits:
        yield stage


def test_etcdctl_lock_waits_for_us_and_gets_it_when_we_release(
    stage: Stage, harness: EtcdHarness
) -> None:
    leadership = stage.lead("a")
    with Native(harness.etcd, "lock", stage.election) as lock:
        eventually("it waits", lambda: stage.elector.candidates(stage.election) == ("",), 5)
        assert lock.line(0.3) is None
        leadership.release()
        assert re.fullmatch(rf"{stage.election}/[0-9a-f]+", lock.line(5) or "")
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.can_be_asked) == ("", False)
        assert holder.token is not None
        assert leadership.token is not None
        assert holder.token > leadership.token


def test_we_wait_for_etcdctl_lock_and_lead_when_it_ends(stage: Stage, harness: EtcdHarness) -> None:
    with Native(harness.etcd, "lock", stage.election) as lock:
        key = lock.line(5)
        assert key in harness.keys(f"{stage.election}/")
        waiter = stage.queue("a")
        lock.end()
        waiter.elected(5)


def test_we_lead_after_the_ttl_of_an_etcdctl_lock_that_was_killed(
    stage: Stage, harness: EtcdHarness
) -> None:
    with Native(harness.etcd, "lock", "--ttl=2", stage.election) as lock:
        assert lock.line(5)
        waiter = stage.queue("a")
        lock.kill()
        waiter.elected(10)


def test_etcdctl_elect_and_we_take_turns_in_the_order_of_entry(
    stage: Stage, harness: EtcdHarness
) -> None:
    ours = stage.lead("ours-1")
    with Native(harness.etcd, "elect", stage.election, "theirs") as elect:
        eventually("it waits", lambda: stage.elector.candidates(stage.election) == ("theirs",), 5)
        ours_again = stage.queue("ours-2")
        assert stage.elector.candidates(stage.election) == ("theirs", "ours-2")
        ours.release()
        assert re.fullmatch(rf"{stage.election}/[0-9a-f]+", elect.line(5) or "")
        assert elect.line(5) == "theirs"
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.can_be_asked) == ("theirs", False)
        assert ours_again.waits
        elect.end()
        ours_again.elected(5)


def test_elect_l_shows_our_leaders(stage: Stage, harness: EtcdHarness) -> None:
    with Native(harness.etcd, "elect", "-l", stage.election) as listener:
        first = stage.lead("first")
        assert first.token is not None
        keys = harness.keys(f"{stage.election}/")
        assert [listener.line(5), listener.line(5)] == [*keys, "first"]
        second = stage.queue("second")
        first.release()
        second.elected(5)
        assert [listener.line(5), listener.line(5)] == [
            *harness.keys(f"{stage.election}/"),
            "second",
        ]


def test_we_observe_the_leaders_of_native_tools(stage: Stage, harness: EtcdHarness) -> None:
    observer = stage.observe()
    assert observer.next(5).kind == "vacant"
    for name in ("one", "two"):
        with Native(harness.etcd, "elect", stage.election, name) as elect:
            assert elect.line(5)
            change = observer.next(5)
            assert change.view.holder is not None
            assert change.view.holder.id == name
        assert observer.next(5).kind == "vacant"


def test_a_nested_name_is_no_candidate_of_ours_and_is_noted(
    stage: Stage, harness: EtcdHarness, electctl: Electctl
) -> None:
    """A native tool would wait for it: INTEROP.md, "Names nest"."""
    with Native(harness.etcd, "lock", f"{stage.election}/nested") as lock:
        assert lock.line(5)
        leadership = stage.lead("a")
        assert stage.elector.candidates(stage.election) == ()
        for backend in (leadership.backend, stage.elector.backend):
            (note,) = backend.notes
            assert f"{stage.election}/nested/" in note
        for args in (("campaign", stage.election, "--", "true"), ("holders", stage.election)):
            leadership.release()
            warned = electctl.run("-b", harness.url, *args, check=0).stderr
            assert f"{stage.election}/nested/" in warned
        leadership = stage.lead("a")
        # Also when it comes between two of ours in the queue.
        with Native(harness.etcd, "lock", f"{stage.election}/between") as between:
            assert between.line(5)
            waiter = stage.queue("b")
            leadership.release()
            waiter.elected(5)
