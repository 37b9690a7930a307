"""Who waits on Redis, who is woken, what it costs the server, and what a watch shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from typing import Any

import pytest

from electctl.base.clock import now
from electctl.contract.backend import View
from electctl.core.registry import open_backend
from electctl.errors import DuplicateId, Unreachable
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl_redis import scripts
from electctl_redis.traits import TRAITS
from tests.processes import wait_for
from tests.redis_stage import TTL, Stage, bare_client, calls, staged

#: In the request that takes a place in the queue: its last argument.
ENTERS = b"$1\r\n0\r\n"


@pytest.fixture
def store(redis_cluster: Cluster) -> Iterator[Any]:
    with bare_client(redis_cluster) as client:
        yield client


@pytest.fixture
def stage(redis_url: str, election: str) -> Iterator[Stage]:
    with staged(redis_url, election) as made:
        yield made


# Who is woken ------------------------------------------------------------------------------------


def test_a_release_wakes_the_longest_waiting_and_nobody_else(stage: Stage, store: Any) -> None:
    leader, _ = stage.lead("leader")
    waiting = [stage.wait(f"w{n}") for n in range(6)]
    assert stage.queue() == tuple(f"w{n}" for n in range(6))
    for n, (candidacy, future) in enumerate(waiting):
        before = calls(store, "evalsha")
        leader.release()
        assert future.result(5) is not None
        assert stage.holder() == f"w{n}"
        # The release, the taking, and the look of the line above.
        assert calls(store, "evalsha") == before + 3
        assert stage.queue() == tuple(f"w{m}" for m in range(n + 1, 6))
        leader = candidacy


def test_after_the_standby_time_still_only_one_has_acted(stage: Stage, store: Any) -> None:
    leader, _ = stage.lead("leader")
    (_, first), *others = [stage.wait(f"w{n}") for n in range(6)]
    before = calls(store, "evalsha")
    leader.release()
    assert first.result(5) is not None
    acted, _ = wait([future for _, future in others], timeout=4 * scripts.STANDBY_MS / 1000)
    assert not acted
    assert calls(store, "evalsha") == before + 2


@pytest.mark.slow
def test_a_hundred_waiters_cost_the_server_next_to_nothing(stage: Stage, store: Any) -> None:
    leader, _ = stage.lead("leader")
    waiting = [stage.threads.submit(stage.enter(f"w{n}").acquire, None) for n in range(100)]
    wait_for(lambda: len(stage.queue()) == 100, what="all wait")
    before, began = store.info("stats")["total_commands_processed"], now()
    for _ in range(4):
        leader.renew()
        acted, _ = wait(waiting, timeout=TTL / 3, return_when=FIRST_COMPLETED)
        assert not acted
    spent = store.info("stats")["total_commands_processed"] - before
    print(f"{spent / (now() - began):.2f} commands a second, those inside scripts included")
    assert spent / (now() - began) < min(5, 100 * TRAITS.waiting_rate(TTL))


CLIENT = """
import sys
from electctl.contract.backend import Bid
from electctl.core.registry import open_backend
url, election, who, ttl = sys.argv[1:]
candidacy = open_backend(url).candidacy(Bid(election, who, float(ttl), 2.0))
print(candidacy.acquire(None), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def client(redis_url: str, election: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a candidate in a process of its own, which can be stopped and killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(who: str, ttl: float = TTL) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CLIENT, redis_url, election, who, str(ttl)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("sent", "soon"), [(signal.SIGSTOP, 1.0), (signal.SIGKILL, 0.5)], ids=["stopped", "killed"]
)
def test_a_dead_first_waiter_is_passed_over(
    stage: Stage,
    client: Callable[..., subprocess.Popen[bytes]],
    sent: signal.Signals,
    soon: float,
) -> None:
    leader, _ = stage.lead("leader")
    process = client("dead")
    wait_for(lambda: stage.queue() == ("dead",))
    _, future = stage.wait("alive")
    os.kill(process.pid, sent)
    if sent == signal.SIGKILL:
        process.wait()
    began = now()
    leader.release()
    assert future.result(5) is not None
    took = now() - began
    print(f"{took * 1000:.0f} ms after the release")
    assert took < soon


def test_the_first_waiter_takes_over_as_soon_as_a_crashed_holder_runs_out(stage: Stage) -> None:
    _, grant = stage.lead("crashes", ttl=1.0)
    _, first = stage.wait("w0", ttl=1.0)
    stage.wait("w1", ttl=1.0)
    assert first.result(5) is not None
    assert 0.9 < now() - grant.since < 1.3


def test_the_second_waiter_covers_for_a_first_that_is_stopped_when_the_holder_crashes(
    stage: Stage, client: Callable[..., subprocess.Popen[bytes]]
) -> None:
    _, grant = stage.lead("crashes", ttl=2.0)
    process = client("stopped", ttl=2.0)
    wait_for(lambda: stage.queue() == ("stopped",))
    _, second = stage.wait("w1", ttl=2.0)
    os.kill(process.pid, signal.SIGSTOP)
    assert second.result(5) is not None
    assert 1.9 < now() - grant.since < 2.6


@pytest.mark.parametrize(("dead", "more"), [(5, 0.25), (10, 1.5)])
def test_a_free_lock_is_idle_for_no_longer_than_is_said(
    stage: Stage, proxied_url: str, proxy: Proxy, dead: int, more: float
) -> None:
    """Leader and first waiters vanish together: their connections stay open, and say nothing.

    ``more``: 50 ms for each that died, or three quarters of the TTL.
    """
    ttl = 2.0
    leader, _ = stage.lead("crashes", ttl=ttl)
    with open_backend(proxied_url) as far:
        for n in range(dead):
            stage.wait(f"dead-{n}", ttl=ttl, backend=far)
        _, there = stage.wait("there", ttl=ttl)
        since = leader.renew().since
        proxy.swallow()
        grant = there.result(30)
        took = now() - since
        assert grant is not None
        assert ttl - 0.1 < took < ttl + more + 0.4
        proxy.forward()


def test_a_release_goes_past_five_that_have_vanished(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    leader, _ = stage.lead("leader")
    with open_backend(proxied_url) as far:
        for n in range(5):
            stage.wait(f"dead-{n}", backend=far)
        _, there = stage.wait("there")
        proxy.swallow()
        began = now()
        leader.release()
        assert there.result(5) is not None
        assert now() - began < 5 * scripts.STANDBY_MS / 1000 + 0.4
        proxy.forward()


def test_a_way_that_is_slow_connects_and_a_ttl_it_cannot_keep_is_said(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    proxy.delay(0.3)
    with open_backend(proxied_url) as far:
        assert stage.enter("a", ttl=3.0, backend=far, timeout=1.0).acquire(now()) is not None
        assert not far.notes
        proxy.forward()
        stage.candidacies[-1].release()
        proxy.delay(0.3)
        assert stage.enter("a", ttl=2.0, backend=far, timeout=0.4).acquire(now()) is not None
        (note,) = far.notes
        assert "a TTL of 2 s" in note
        assert "--ttl 4s would do" in note
        proxy.forward()


def test_a_waiter_told_of_a_new_leader_watches_that_ones_time(stage: Stage) -> None:
    leader, _ = stage.lead("leader", ttl=10.0)
    _, first = stage.wait("w0", ttl=1.0)
    _, second = stage.wait("w1", ttl=1.0)
    leader.release()
    grant = first.result(5)
    assert grant is not None
    assert second.result(5) is not None
    assert 0.9 < now() - grant.since < 1.3


def test_cancel_ends_a_wait_and_leaves_nothing(stage: Stage) -> None:
    leader, _ = stage.lead("leader")
    candidacy, future = stage.wait("w0")
    began = now()
    candidacy.cancel()
    assert future.result(5) is None
    assert now() - began < 0.5
    assert stage.queue() == ()
    assert stage.holder() == "leader"
    assert candidacy.acquire(None) is None
    leader.release()


def test_a_deadline_ends_a_wait_and_leaves_nothing(stage: Stage) -> None:
    stage.lead("leader")
    began = now()
    assert stage.enter("w0").acquire(began + 0.3) is None
    assert 0.3 <= now() - began < 0.8
    assert stage.queue() == ()


def test_word_that_reaches_a_waiter_who_gives_up_goes_on_to_the_next(stage: Stage) -> None:
    for n in range(20):
        leader, _ = stage.lead(f"leader{n}")
        quitter, quit_result = stage.wait(f"quits{n}")
        patient, result = stage.wait(f"waits{n}")
        racing = stage.threads.submit(leader.release)
        quitter.cancel()
        racing.result(5)
        began = now()
        if quit_result.result(5) is not None:
            quitter.release()
        assert result.result(5) is not None
        assert now() - began < 1.0
        patient.release()


def test_the_same_id_elsewhere_is_refused_once_it_shows_life(stage: Stage) -> None:
    leader, _ = stage.lead("twin", ttl=1.0)
    future = stage.threads.submit(stage.enter("twin", ttl=1.0).acquire, None)
    while not future.done():
        leader.renew()
        threading.Event().wait(0.2)
    with pytest.raises(DuplicateId):
        future.result()


def test_a_waiting_twin_refuses_the_later_one_only(stage: Stage) -> None:
    leader, _ = stage.lead("leader", ttl=1.0)
    _, first = stage.wait("twin", ttl=1.0)
    _, second = stage.wait("twin", ttl=1.0)
    while not second.done():
        leader.renew()
        threading.Event().wait(0.2)
    with pytest.raises(DuplicateId):
        second.result()
    assert not first.done()


def test_a_crashed_predecessor_of_the_same_id_is_waited_out(stage: Stage) -> None:
    stage.lead("phoenix", ttl=1.0)
    grant = stage.enter("phoenix", ttl=1.0).acquire(now() + 5)
    assert grant is not None
    assert grant.token == 2


def test_a_crashed_predecessor_is_no_twin_where_one_answer_is_slower_than_another(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    stage.lead("phoenix", ttl=3.0)
    with open_backend(proxied_url) as far:
        heir = stage.enter("phoenix", ttl=3.0, backend=far)
        assert heir.acquire(now()) is None
        proxy.delay(0.6, direction="replies")
        assert heir.acquire(now() + 10) is not None


def test_one_late_renewal_of_the_dead_is_no_sign_of_life(stage: Stage) -> None:
    dead, grant = stage.lead("phoenix", ttl=2.0)
    heir = stage.enter("phoenix", ttl=2.0)
    assert heir.acquire(now()) is None
    wait_for(lambda: now() > grant.since + 1.0)
    dead.renew()
    assert heir.acquire(now() + 10) is not None


def test_nothing_of_an_entry_stays_whose_connection_or_answer_was_lost(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    leader, _ = stage.lead("leader")
    with open_backend(proxied_url) as far:
        waiter = stage.enter("w", backend=far)
        for _ in range(2):
            proxy.lose_reply(ENTERS)
            with pytest.raises(Unreachable):
                waiter.acquire(now() + 10)
            assert stage.queue() == ("w",), "it took one place, and keeps it"
        assert waiter.acquire(now()) is None
        assert stage.queue() == ()
        future = stage.threads.submit(waiter.acquire, None)
        wait_for(lambda: stage.queue() == ("w",), what="it waits, once")
        proxy.cut(refuse=False)
        with pytest.raises(Unreachable):
            future.result(10)
        leader.release()
        assert waiter.acquire(now()) is not None
        assert stage.queue() == ()


# Watching ----------------------------------------------------------------------------------------


def test_a_watch_shows_every_change_once_and_in_order(stage: Stage) -> None:
    with closing(stage.backend.watch(stage.election)) as watch:
        first = watch.next(5)
        assert first is not None
        assert first.holder is None
        expected: list[tuple[str, int | None] | None] = []
        for n in range(50):
            candidacy, grant = stage.lead(f"c{n}")
            candidacy.release()
            expected += [(f"c{n}", grant.token), None]
        seen: list[tuple[str, int | None] | None] = []
        while len(seen) < len(expected) and (view := watch.next(3)) is not None:
            seen.append(None if view.holder is None else (view.holder.id, view.holder.token))
        assert seen == expected
        assert watch.next(1.5) is None


def test_a_watch_sees_expiry_and_the_queue(stage: Stage) -> None:
    _, grant = stage.lead("crashes", ttl=1.0)
    with closing(stage.backend.watch(stage.election)) as watch:
        view = watch.next(5)
        assert view is not None
        assert view.holder is not None
        assert view.holder.ttl == 1.0
        assert view.holder.since is not None
        assert view.holder.expires_in is not None
        assert 0 < view.holder.expires_in <= 1.0
        view = watch.next(5)
        assert view is not None
        assert view.holder is None
        assert 0.9 < now() - grant.since < 1.3
        stage.lead("leader")
        stage.wait("w0")
        stage.wait("w1")
        shown: list[View] = []
        while not shown or shown[-1].waiting != ("w0", "w1"):
            view = watch.next(5)
            assert view is not None
            shown.append(view)
        assert {one.holder.id for one in shown if one.holder} == {"leader"}


def test_closing_a_watch_ends_a_blocked_next(stage: Stage) -> None:
    watch = stage.backend.watch(stage.election)
    assert watch.next(5) is not None
    future = stage.threads.submit(watch.next, 60.0)
    wait_for(future.running)
    began = now()
    watch.close()
    assert future.result(5) is None
    assert now() - began < 1.0
    assert watch.next(0) is None


def test_a_watch_of_a_silent_server_says_so(stage: Stage, proxied_url: str, proxy: Proxy) -> None:
    with open_backend(proxied_url) as far, closing(far.watch(stage.election)) as watch:
        assert watch.next(5) is not None
        proxy.swallow()
        began = now()
        with pytest.raises(Unreachable):
            watch.next(30)
        assert now() - began < 6
