"""One etcd member: what a candidacy leaves in the store, and what becomes of it there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant, View, Watch
from electctl.core.elector import connect
from electctl.errors import DuplicateId, ElectctlError, LeadershipLost, Unreachable, UsageError
from electctl.lab.proxy import Proxy
from electctl.testing.stage import eventually
from electctl_etcd import keys
from electctl_etcd.lab import EtcdCluster
from tests.etcd import EtcdHarness

# Nobody renews in these tests unless they say so: it must outlast a busy machine.
TTL = 30.0
Enter = Callable[..., Candidacy]
WATCHERS = "etcd_debugging_mvcc_watcher_total"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdHarness]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield EtcdHarness(cluster)


@pytest.fixture
def backend(store: EtcdHarness) -> Iterator[Backend]:
    with connect(store.url) as elector:
        yield elector.backend


@pytest.fixture
def bid(election: str) -> Bid:
    return Bid(election, "a", TTL, 1.0)


@dataclass(frozen=True)
class Far:
    """The store behind a link that can be broken."""

    link: Proxy
    backend: Backend


@pytest.fixture
def far(store: EtcdHarness) -> Iterator[Far]:
    with (
        Proxy(store.cluster.entrances[0].address) as link,
        connect(store.etcd.url_for([link.address])) as elector,
    ):
        yield Far(link, elector.backend)


@pytest.fixture
def enter(backend: Backend, far: Far, election: str) -> Iterator[Enter]:
    """Make candidacies that are given up at the end."""
    with ExitStack() as exits:

        def make(
            name: str = "a",
            ttl: float = TTL,
            through: Backend | None = None,
            timeout: float = 5.0,
        ) -> Candidacy:
            candidacy = (through or backend).candidacy(Bid(election, name, ttl, timeout))
            exits.callback(candidacy.close)
            exits.callback(candidacy.release)
            return candidacy

        yield make
        far.link.forward()


def acquire(candidacy: Candidacy, within: float | None = None) -> Future[Grant | None]:
    """The same in a thread of its own."""
    found: Future[Grant | None] = Future()
    deadline = None if within is None else now() + within

    def run() -> None:
        try:
            found.set_result(candidacy.acquire(deadline))
        except ElectctlError as error:
            found.set_exception(error)

    threading.Thread(target=run, name="acquire", daemon=True).start()
    return found


def granted(candidacy: Candidacy) -> Grant:
    """A grant without waiting."""
    grant = candidacy.acquire(now())
    assert grant is not None
    return grant


def settled(candidacy: Candidacy) -> None:
    """Try again, as the core does, until contact is back and it is elected."""

    def elected() -> bool:
        try:
            return candidacy.acquire(None) is not None
        except Unreachable:
            return False

    eventually("it is elected", elected, 10)


def queue(
    store: EtcdHarness, candidacy: Candidacy, election: str, place: int
) -> Future[Grant | None]:
    """Let it wait as the ``place``-th key of the election."""
    waiting = acquire(candidacy)
    eventually("it is in the queue", lambda: len(store.keys(f"{election}/")) == place, 10)
    return waiting


# Entering ----------------------------------------------------------------------------------------


def test_the_key_is_the_native_one_under_a_lease_of_our_own(
    store: EtcdHarness, enter: Enter, election: str
) -> None:
    began = now()
    grant = granted(enter("worker-1", ttl=5.0))
    (key,) = store.keys(f"{election}/")
    lease = key.removeprefix(f"{election}/")
    assert lease.zfill(16) in store.leases()
    assert store.etcd.etcdctl("get", "--print-value-only", key) == "worker-1\n"
    assert "granted with TTL(5s" in store.etcd.etcdctl("lease", "timetolive", lease)
    assert began <= grant.since <= now()
    assert grant.ttl == 5.0
    fields = store.etcd.etcdctl("get", "--write-out=fields", key)
    assert f'"CreateRevision" : {grant.token}\n' in fields


@pytest.mark.parametrize(("asked", "got"), [(0.5, 2.0), (2.0, 2.0), (2.1, 3.0)])
def test_a_ttl_is_what_the_server_granted(enter: Enter, asked: float, got: float) -> None:
    """Whole seconds, and not below the server's minimum."""
    assert granted(enter(ttl=asked)).ttl == got


def test_one_try_where_somebody_leads_writes_nothing(store: EtcdHarness, enter: Enter) -> None:
    granted(enter("a"))
    before = store.leases()
    revision = store.counter("etcd_debugging_mvcc_put_total")
    late = enter("b")
    assert late.acquire(now()) is None
    assert late.contacted
    assert store.leases() == before
    assert store.counter("etcd_debugging_mvcc_put_total") == revision


@pytest.mark.parametrize("how", ["deadline", "cancel", "release", "close"])
def test_giving_up_leaves_neither_key_nor_lease(
    store: EtcdHarness, enter: Enter, election: str, how: str
) -> None:
    granted(enter("a"))
    before = store.leases(), store.keys(f"{election}/")
    waiter = enter("b")
    if how == "deadline":
        assert waiter.acquire(now() + 0.5) is None
    else:
        waiting = queue(store, waiter, election, 2)
        getattr(waiter, how)()
        assert waiting.result(10) is None
    assert (store.leases(), store.keys(f"{election}/")) == before


def test_an_entry_whose_answer_is_lost_is_found_again(
    store: EtcdHarness, enter: Enter, election: str, far: Far
) -> None:
    candidacy = enter("unmistakable", through=far.backend)
    far.link.lose_reply(b"unmistakable")
    with pytest.raises(Unreachable):
        candidacy.acquire(None)
    keys_there = store.keys(f"{election}/")
    assert len(keys_there) == 1
    settled(candidacy)
    assert store.keys(f"{election}/") == keys_there
    candidacy.release()
    assert store.keys(f"{election}/") == []


def test_a_lease_whose_answer_is_lost_is_used(store: EtcdHarness, enter: Enter, far: Far) -> None:
    before = store.leases()
    candidacy = enter("a", ttl=7.0, through=far.backend)
    far.link.lose_reply(b"\x08\x07\x10")  # LeaseGrantRequest: TTL 7, ID follows
    with pytest.raises(Unreachable):
        candidacy.acquire(None)
    settled(candidacy)
    assert len(store.leases() - before) == 1


# Waiting -----------------------------------------------------------------------------------------


def test_a_release_wakes_the_next_only(store: EtcdHarness, enter: Enter, election: str) -> None:
    first = enter("first")
    token = granted(first).token
    assert token is not None
    waiters = [enter(f"w{n}") for n in range(4)]
    waiting = [queue(store, waiter, election, n + 2) for n, waiter in enumerate(waiters)]
    sent = store.counter("etcd_debugging_mvcc_events_total")
    first.release()
    grant = waiting[0].result(10)
    assert grant is not None
    assert grant.token is not None
    assert grant.token > token
    assert store.counter("etcd_debugging_mvcc_events_total") - sent == 1
    assert not any(other.done() for other in waiting[1:])


@pytest.mark.parametrize("waiters", [5, 40])
def test_the_cost_of_a_hand_over_does_not_grow_with_those_who_wait(
    store: EtcdHarness, backend: Backend, enter: Enter, election: str, waiters: int
) -> None:
    """Revoking the lease and one read. No keep-alive is due while it is counted."""
    candidacies = [enter(f"w{n}") for n in range(waiters + 1)]
    granted(candidacies[0])
    before = store.counter(WATCHERS)
    waiting = []
    for candidacy in candidacies[1:]:
        waiting.append(acquire(candidacy))
        eventually("it is there", lambda: len(backend.view(election).waiting) == len(waiting), 10)
    eventually("all watch", lambda: store.counter(WATCHERS) >= before + waiters, 10)
    sent = store.counter("grpc_server_started_total")
    for number in range(5):
        candidacies[number].release()
        assert waiting[number].result(10) is not None
    assert store.counter("grpc_server_started_total") - sent == 2 * 5


def test_a_candidate_that_goes_from_the_middle_lets_nobody_lead(
    store: EtcdHarness, enter: Enter, election: str
) -> None:
    first, middle, last = enter("first"), enter("middle"), enter("last")
    granted(first)
    gone, waiting = queue(store, middle, election, 2), queue(store, last, election, 3)
    middle.cancel()
    assert gone.result(10) is None
    eventually("it has gone", lambda: len(store.keys(f"{election}/")) == 2, 5)
    assert not waiting.done()
    first.release()
    assert waiting.result(10) is not None


def test_a_lease_that_died_in_the_queue_is_replaced(
    store: EtcdHarness, enter: Enter, election: str
) -> None:
    first, second, third = enter("first"), enter("second", ttl=3.0), enter("third")
    granted(first)
    waiting = queue(store, second, election, 2)
    lost = store.keys(f"{election}/")[1]
    behind = queue(store, third, election, 3)
    store.etcd.etcdctl("lease", "revoke", lost.rpartition("/")[2])
    # Noticed at the next keep-alive; it stands behind the third then.
    eventually("it is back", lambda: len(store.keys(f"{election}/")) == 3, 10)
    assert lost not in store.keys(f"{election}/")
    first.release()
    assert behind.result(10) is not None
    assert not waiting.done()
    third.release()
    assert waiting.result(10) is not None


def test_a_key_that_was_deleted_in_the_queue_never_wins(
    store: EtcdHarness, enter: Enter, election: str
) -> None:
    """Its lease lives: the own key has to be read again (Jepsen, etcd 3.4.3)."""
    first, second = enter("first"), enter("second")
    granted(first)
    waiting = queue(store, second, election, 2)
    deleted = store.keys(f"{election}/")[1]
    store.etcd.etcdctl("del", deleted)
    first.release()
    grant = waiting.result(10)
    assert grant is not None
    (key,) = store.keys(f"{election}/")
    assert key != deleted
    assert second.renew().ttl == TTL


def test_waiting_survives_compaction(
    store: EtcdHarness, enter: Enter, election: str, far: Far
) -> None:
    """The connection breaks, the history is compacted, and the predecessor goes meanwhile."""
    first = enter("first")
    granted(first)
    second = enter("second", through=far.backend)
    waiting = queue(store, second, election, 2)
    far.link.cut()
    with pytest.raises(Unreachable):
        waiting.result(5)
    first.release()
    compact(store)
    far.link.forward()
    settled(second)


def compact(store: EtcdHarness) -> None:
    """Drop the whole history."""
    store.etcd.etcdctl("put", "unrelated", "x")
    status = store.etcd.etcdctl("get", "unrelated", "--write-out=fields")
    revision = next(line for line in status.splitlines() if line.startswith('"Revision"'))
    store.etcd.etcdctl("compaction", revision.rpartition(" ")[2])


def test_the_same_id_elsewhere_is_refused_once_it_shows_life(
    store: EtcdHarness, enter: Enter, election: str
) -> None:
    leader, first, second = enter("twin", ttl=6.0), enter("other"), enter("twin", ttl=6.0)
    granted(leader)
    patient = queue(store, first, election, 2)
    refused = queue(store, second, election, 3)
    pause = threading.Event()
    while not refused.done():
        leader.renew()
        pause.wait(0.5)
    with pytest.raises(DuplicateId):
        refused.result(0)
    assert not patient.done()
    assert leader.renew().ttl == 6.0


def test_a_crashed_predecessor_of_the_same_id_is_waited_out(enter: Enter, election: str) -> None:
    crashed = granted(enter("phoenix", ttl=4.0))
    grant = acquire(enter("phoenix", ttl=4.0)).result(20)
    assert grant is not None
    assert grant.token is not None
    assert crashed.token is not None
    assert grant.token > crashed.token


# Leading -----------------------------------------------------------------------------------------


def test_a_renewal_says_when_it_was_sent(enter: Enter) -> None:
    candidacy = enter()
    granted(candidacy)
    began = now()
    renewal = candidacy.renew()
    assert began <= renewal.since <= now()
    assert (renewal.ttl, renewal.stop_requested) == (TTL, False)


@pytest.mark.parametrize("what", ["lease", "key"])
def test_a_renewal_finds_out_that_it_has_lost(
    store: EtcdHarness, enter: Enter, election: str, what: str
) -> None:
    candidacy = enter()
    granted(candidacy)
    (key,) = store.keys(f"{election}/")
    if what == "lease":
        store.etcd.etcdctl("lease", "revoke", key.rpartition("/")[2])
    else:
        store.etcd.etcdctl("del", key)
    with pytest.raises(LeadershipLost):
        candidacy.renew()
    with pytest.raises(LeadershipLost):
        candidacy.write_checkpoint("", b"late", 1)


def test_a_silent_server_is_unknown_within_the_time_out(enter: Enter, far: Far) -> None:
    candidacy = enter(through=far.backend, timeout=1.0)
    granted(candidacy)
    far.link.swallow()
    began = now()
    with pytest.raises(Unreachable, match="in time"):
        candidacy.renew()
    assert 0.9 < now() - began < 3.0
    far.link.forward()
    eventually("it is renewed again", lambda: renewed(candidacy), 10)


def renewed(candidacy: Candidacy) -> bool:
    """Whether a renewal is answered."""
    try:
        return candidacy.renew().ttl > 0
    except Unreachable:
        return False


def test_an_eviction_is_asked_of_one_term_and_goes_with_it(
    store: EtcdHarness, backend: Backend, enter: Enter, election: str
) -> None:
    first = enter("first")
    granted(first)
    waiting = queue(store, enter("second"), election, 2)
    asked = backend.evict(election, force=False)
    assert asked is not None
    assert (asked.id, asked.can_be_asked) == ("first", True)
    assert first.renew().stop_requested
    mark = keys.eviction_key(election).decode()
    assert store.keys(mark) == [mark]
    first.release()
    assert store.keys(mark) == []
    assert waiting.result(10) is not None


def test_a_view_shows_the_lease(backend: Backend, enter: Enter, election: str) -> None:
    grant = granted(enter(ttl=7.0))
    holder = backend.view(election).holder
    assert holder is not None
    assert (holder.id, holder.token, holder.ttl, holder.since) == ("a", grant.token, 7.0, None)
    assert holder.expires_in is not None
    assert 0.0 < holder.expires_in <= 7.0


def test_a_value_that_is_too_large_for_etcd_is_a_usage_error(enter: Enter) -> None:
    candidacy = enter()
    granted(candidacy)
    with pytest.raises(UsageError, match=r"too large|larger than max"):
        candidacy.write_checkpoint("", b"x" * 2_000_000, 1)
    candidacy.write_checkpoint("", b"small", 2)


# Watching ----------------------------------------------------------------------------------------


def following(watch: Watch, views: int, within: float = 5.0) -> list[View]:
    """The next so many views."""
    deadline = now() + within
    found: list[View] = []
    while len(found) < views:
        view = watch.next(max(0.0, deadline - now()))
        assert view is not None, f"only {found}"
        found.append(view)
    return found


def test_a_watch_goes_on_at_the_next_revision_after_a_broken_connection(
    enter: Enter, election: str, far: Far
) -> None:
    """Three terms pass while it is away for less than it takes to notice; all are seen."""
    watch = far.backend.watch(election)
    assert following(watch, 1) == [View(None)]
    far.link.cut(refuse=False)
    tokens: list[int | None] = []
    for _ in range(3):
        candidacy = enter()
        tokens.append(granted(candidacy).token)
        candidacy.release()
    views = following(watch, 6)
    assert [view.holder.token for view in views if view.holder] == tokens
    assert [view.holder is None for view in views] == [False, True] * 3
    assert watch.next(0.2) is None
    watch.close()


def test_a_watch_reads_again_after_compaction(
    store: EtcdHarness, enter: Enter, election: str, far: Far
) -> None:
    watch = far.backend.watch(election)
    assert following(watch, 1) == [View(None)]
    far.link.cut(refuse=False)
    grant = granted(enter())
    compact(store)
    (view,) = following(watch, 1)
    assert view.holder is not None
    assert view.holder.token == grant.token
    watch.close()


def test_a_silent_member_is_noticed_by_a_watch(election: str, far: Far) -> None:
    watch = far.backend.watch(election)
    assert following(watch, 1) == [View(None)]
    assert watch.next(0.1) is None
    far.link.swallow()
    with pytest.raises(Unreachable):
        watch.next(10.0)
    watch.close()


def test_closing_a_watch_ends_a_blocked_next(backend: Backend, election: str) -> None:
    watch = backend.watch(election)
    assert following(watch, 1) == [View(None)]
    assert watch.next(0.1) is None
    timer = threading.Timer(0.2, watch.close)
    timer.start()
    began = now()
    assert watch.next(30.0) is None
    assert now() - began < 10.0
    timer.join()
