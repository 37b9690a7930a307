"""The Redis backend against a real server: what its keys hold, who is woken, what stays unknown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any

import pytest
import redis

from electctl.backend import Backend, Bid, Candidacy, Grant, View
from electctl.clock import now
from electctl.errors import (
    ConfigError,
    DuplicateId,
    LeadershipLost,
    Unreachable,
    UsageError,
)
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl.registry import open_backend
from electctl.url import BackendURL
from electctl_redis import scripts
from electctl_redis.connect import Links
from electctl_redis.names import Keys, hash_tag
from electctl_redis.target import Target
from tests.processes import wait_for

TTL = 10.0


@pytest.fixture
def store(redis_cluster: Cluster) -> Iterator[Any]:
    """The bare client, to look at the server from outside."""
    client: Any = redis.Redis(port=redis_cluster.servers[0].port)
    with client:
        yield client


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    with open_backend(redis_url) as opened:
        yield opened


class Stage:
    """Candidacies for one election, each closed at the end, and threads to block in."""

    def __init__(self, backend: Backend, election: str) -> None:
        self.backend = backend
        self.election = election
        self.threads = ThreadPoolExecutor(128)
        self.candidacies: list[Candidacy] = []

    def enter(
        self, who: str, ttl: float = TTL, backend: Backend | None = None, timeout: float = 2.0
    ) -> Candidacy:
        bid = Bid(self.election, who, ttl, timeout)
        found = (backend or self.backend).candidacy(bid)
        self.candidacies.append(found)
        return found

    def lead(self, who: str, ttl: float = TTL) -> tuple[Candidacy, Grant]:
        candidacy = self.enter(who, ttl)
        grant = candidacy.acquire(now())
        assert grant is not None
        return candidacy, grant

    def wait(self, who: str, ttl: float = TTL) -> tuple[Candidacy, Future[Grant | None]]:
        """Enter the queue, and return once the store shows it."""
        candidacy = self.enter(who, ttl)
        before = len(self.queue())
        future = self.threads.submit(candidacy.acquire, None)
        wait_for(lambda: len(self.queue()) > before or future.done(), what=f"{who} waits")
        return candidacy, future

    def queue(self) -> tuple[str, ...]:
        return self.backend.view(self.election).waiting

    def holder(self) -> str | None:
        found = self.backend.view(self.election).holder
        return None if found is None else found.id

    def close(self) -> None:
        for candidacy in self.candidacies:
            candidacy.cancel()
        self.threads.shutdown()
        for candidacy in self.candidacies:
            candidacy.close()


@pytest.fixture
def stage(backend: Backend, election: str) -> Iterator[Stage]:
    made = Stage(backend, election)
    yield made
    made.close()


def calls(store: Any, *names: str) -> int:
    """How often the server has run these commands, or all."""
    stats = store.info("commandstats")
    return sum(
        entry["calls"]
        for key, entry in stats.items()
        if not names or key.removeprefix("cmdstat_").partition("|")[0] in names
    )


# The store's content -----------------------------------------------------------------------------


def test_the_key_is_the_name_and_the_value_id_and_nonce(
    stage: Stage, store: Any, election: str
) -> None:
    candidacy, grant = stage.lead("host:1")
    value = store.get(election)
    ident, _, nonce = value.rpartition(b":")
    assert ident == b"host:1"
    assert len(nonce) == 32
    assert 0 < store.pttl(election) <= TTL * 1000
    assert grant.ttl == TTL
    assert grant.token == 1
    candidacy.release()
    assert store.get(election) is None
    others = list(store.scan_iter(f"*{election}*"))
    assert others == [f"electctl:{{{election}}}:term:{election}".encode()]


def test_taking_and_releasing_a_free_lock_is_one_round_trip_each(stage: Stage, store: Any) -> None:
    stage.lead("warm-up")[0].release()
    chatter = ("hello", "client", "ping", "auth", "select", "eval", "script", "get", "command")
    before = calls(store, "evalsha"), calls(store, *chatter)
    candidacy, _ = stage.lead("a")
    candidacy.release()
    # The scripts themselves GET once each.
    assert (calls(store, "evalsha"), calls(store, *chatter)) == (before[0] + 2, before[1] + 2)


def test_tokens_grow_with_every_term_also_of_one_id(stage: Stage) -> None:
    tokens = []
    for _ in range(10):
        candidacy, grant = stage.lead("same")
        tokens.append(grant.token)
        candidacy.release()
    assert tokens == list(range(1, 11))


def test_scripts_are_sent_again_to_a_server_that_forgot_them(stage: Stage, store: Any) -> None:
    candidacy, _ = stage.lead("a")
    store.script_flush()
    assert not candidacy.renew().stop_requested
    store.script_flush()
    candidacy.release()
    assert stage.holder() is None


@pytest.mark.parametrize(
    "name",
    [
        "a/b/../c",
        "ünï-選挙",
        "with space\nand newline",
        "quote\"'`$(x)",
        "{tag}rest",
        "{}empty",
        "open{brace",
        "close}brace",
        "} {",
        "a:b:checkpoint",
        "*?[x]\\",
        "x" * 1024,
    ],
)
def test_hostile_names_and_ids_work(backend: Backend, name: str) -> None:
    stage = Stage(backend, name)
    try:
        candidacy, grant = stage.lead(name)
        candidacy.write_checkpoint(name, b"\0\xff", 1)
        view = backend.view(name)
        assert view.holder is not None
        assert (view.holder.id, view.holder.token) == (name, grant.token)
        assert backend.read_checkpoint(name, name) == b"\0\xff"
        _, future = stage.wait("next:" + "ab" * 16)
        assert backend.view(name).waiting == ("next:" + "ab" * 16,)
        with closing(backend.watch(name)) as watch:
            shown = watch.next(5)
            assert shown is not None
            assert shown.term == view.term
        candidacy.release()
        assert future.result(5) is not None
    finally:
        for one in stage.candidacies:
            one.release()
        stage.close()


def test_no_two_elections_share_a_key() -> None:
    names = ["a", "{a}", "{a}b", "{a}b:c", "b{a}", "{a}{b}", "a}", "{", "{}", "a:term:a"]
    keys = [Keys.of(name, 0) for name in names]
    found = [key for one in keys for key in (one.lock, one.term, one.waiting, one.checkpoint)]
    assert len(set(found)) == len(found)
    for name, one in zip(names, keys, strict=True):
        if b"}" not in hash_tag(name.encode()):
            tags = {hash_tag(key) for key in (one.lock, one.term, one.waiting, one.checkpoint)}
            assert len(tags) == 1, name


def test_our_own_keys_cannot_be_elections(backend: Backend) -> None:
    with pytest.raises(UsageError) as caught:
        backend.view("electctl:{x}:term:x")
    assert caught.value.hint


def test_a_key_of_another_type_is_named_and_left_alone(
    stage: Stage, store: Any, election: str
) -> None:
    store.lpush(election, "somebody's list")
    for action in (lambda: stage.lead("a"), lambda: stage.backend.view(election)):
        with pytest.raises(ConfigError, match="no string"):
            action()
    assert store.lrange(election, 0, -1) == [b"somebody's list"]
    assert not list(store.scan_iter(f"electctl:*{election}*"))
    store.delete(election)


def test_databases_are_apart(redis_cluster: Cluster, stage: Stage, election: str) -> None:
    url = f"redis://127.0.0.1:{redis_cluster.servers[0].port}/3"
    with open_backend(url) as other:
        stage.lead("in 0")
        elsewhere = stage.enter("in 3", backend=other)
        with closing(stage.backend.watch(election)) as watch:
            assert watch.next(5) is not None
            assert elsewhere.acquire(now()) is not None
            elsewhere.release()
            assert watch.next(0.3) is None
        assert stage.holder() == "in 0"


# Unknown outcomes --------------------------------------------------------------------------------


def test_an_answer_lost_on_the_way_is_settled_by_asking_again(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    stage.lead("warm-up")[0].release()
    with open_backend(proxied_url) as far:
        candidacy = stage.enter("a", backend=far)
        proxy.lose_reply(b"EVALSHA")
        with pytest.raises(Unreachable):
            candidacy.acquire(None)
        assert stage.holder() == "a"
        before = now()
        grant = candidacy.acquire(None)
        assert grant is not None
        assert grant.token == 2
        assert grant.since >= before
        proxy.lose_reply(b"EVALSHA")
        with pytest.raises(Unreachable):
            candidacy.release()
        candidacy.release()
        assert stage.holder() is None


def test_a_delayed_release_cannot_hit_a_later_term(
    stage: Stage, proxied_url: str, proxy: Proxy, store: Any, election: str
) -> None:
    with open_backend(proxied_url) as far:
        first = stage.enter("same-id", ttl=0.5, backend=far, timeout=0.3)
        assert first.acquire(now()) is not None
        proxy.hold("requests")
        with pytest.raises(Unreachable):
            first.release()
        second = stage.enter("same-id")
        grant = second.acquire(None)
        assert grant is not None
        held = store.get(election)
        before = calls(store, "evalsha")
        proxy.release()
        wait_for(lambda: calls(store, "evalsha") > before, what="the release arrives")
        assert store.get(election) == held
        assert store.pttl(election) > 0.5 * TTL * 1000


def test_a_delayed_eviction_cannot_hit_a_later_term(
    stage: Stage, redis_url: str, store: Any, election: str
) -> None:
    candidacy, _ = stage.lead("a")
    stale = store.get(election)
    candidacy.release()
    later, _ = stage.lead("a")
    keys = Keys.of(election, 0)
    links = Links(Target.of(BackendURL.parse(redis_url)), 2.0)
    with closing(links):
        assert links.script(scripts.DEPOSE, keys.queue, keys.channels, stale) == 0
        assert links.script(scripts.ASK_TO_STOP, (keys.lock, keys.term), stale) == 0
    assert not later.renew().stop_requested


def test_requests_end_within_their_time(stage: Stage, proxied_url: str, proxy: Proxy) -> None:
    with open_backend(proxied_url) as far:
        candidacy = stage.enter("a", backend=far, timeout=0.4)
        assert candidacy.acquire(now()) is not None
        proxy.swallow()
        for action in (candidacy.renew, lambda: candidacy.write_checkpoint("", b"1", 1)):
            began = now()
            with pytest.raises(Unreachable, match="in time"):
                action()
            assert 0.35 < now() - began < 0.8
        proxy.forward()
        candidacy.renew()


def test_a_late_answer_is_never_read_as_the_answer_to_a_later_question(
    stage: Stage, proxied_url: str, proxy: Proxy
) -> None:
    with open_backend(proxied_url) as far:
        candidacy = stage.enter("a", backend=far, timeout=0.3)
        assert candidacy.acquire(now()) is not None
        proxy.hold("replies")
        with pytest.raises(Unreachable):
            candidacy.renew()
        stage.backend.evict(stage.election, force=True)
        proxy.release()
        with pytest.raises(LeadershipLost):
            candidacy.renew()


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
    assert spent / (now() - began) < 5


CLIENT = """
import sys
from electctl.backend import Bid
from electctl.registry import open_backend
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


# Leading -----------------------------------------------------------------------------------------


def test_a_deleted_lock_is_lost_and_its_release_hits_nobody(
    stage: Stage, store: Any, election: str
) -> None:
    candidacy, _ = stage.lead("a")
    store.delete(election)
    with pytest.raises(LeadershipLost) as caught:
        candidacy.renew()
    assert caught.value.reason == "deleted"
    stage.lead("b")
    candidacy.release()
    assert stage.holder() == "b"


def test_an_eviction_reaches_its_term_only(stage: Stage) -> None:
    assert stage.backend.evict(stage.election, force=False) is None
    candidacy, grant = stage.lead("a")
    asked = stage.backend.evict(stage.election, force=False)
    assert asked is not None
    assert (asked.id, asked.token) == ("a", grant.token)
    assert candidacy.renew().stop_requested
    candidacy.release()
    later, _ = stage.lead("a")
    assert not later.renew().stop_requested
    gone = stage.backend.evict(stage.election, force=True)
    assert gone is not None
    assert gone.token == 2
    with pytest.raises(LeadershipLost):
        later.renew()


def test_a_forced_eviction_wakes_the_next(stage: Stage) -> None:
    stage.lead("stuck")
    _, future = stage.wait("next")
    stage.backend.evict(stage.election, force=True)
    assert future.result(1) is not None


def test_checkpoints_are_guarded_by_the_grant_and_kept_in_order(stage: Stage) -> None:
    read = stage.backend.read_checkpoint
    first, _ = stage.lead("a")
    assert read(stage.election, "s") is None
    first.write_checkpoint("s", b"one", 1)
    first.write_checkpoint("s", b"three", 3)
    first.write_checkpoint("s", b"three", 3)
    first.write_checkpoint("s", b"two, late", 2)
    assert read(stage.election, "s") == b"three"
    first.release()
    with pytest.raises(LeadershipLost):
        first.write_checkpoint("s", b"stale", 4)
    second, _ = stage.lead("a")
    with pytest.raises(LeadershipLost):
        first.write_checkpoint("s", b"stale", 5)
    second.write_checkpoint("s", b"", 1)
    second.write_checkpoint("", b"other slot", 2)
    assert read(stage.election, "s") == b""
    assert read(stage.election, "") == b"other slot"


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
