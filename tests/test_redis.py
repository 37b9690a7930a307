"""The Redis backend on a real server: what its keys hold, what stays unknown, who leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.core.elector import connect
from electctl.core.registry import open_backend
from electctl.errors import (
    ConfigError,
    LeadershipLost,
    Refused,
    Unreachable,
    UsageError,
)
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy
from electctl_redis import scripts
from electctl_redis.connect import Links
from electctl_redis.names import SLOTS, Keys, slot_tag
from electctl_redis.target import Target
from tests.processes import wait_for
from tests.redis_stage import TTL, Stage, bare_client, calls, staged


@pytest.fixture
def store(redis_cluster: Cluster) -> Iterator[Any]:
    with bare_client(redis_cluster) as client:
        yield client


@pytest.fixture
def stage(redis_url: str, election: str) -> Iterator[Stage]:
    with staged(redis_url, election) as made:
        yield made


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
def test_hostile_names_and_ids_work(redis_url: str, name: str) -> None:
    with staged(redis_url, name) as stage:
        backend = stage.backend
        candidacy, grant = stage.lead(name)
        candidacy.write_checkpoint(name, b"\0\xff", 1)
        view = backend.view(name)
        assert view.holder is not None
        assert (view.holder.id, view.holder.token) == (name, grant.token)
        assert backend.read_checkpoint(name, name) == b"\0\xff"
        next_one, future = stage.wait("next:" + "ab" * 16)
        assert backend.view(name).waiting == ("next:" + "ab" * 16,)
        with closing(backend.watch(name)) as watch:
            shown = watch.next(5)
            assert shown is not None
            assert shown.term == view.term
        candidacy.release()
        assert future.result(5) is not None
        next_one.release()


def test_no_two_elections_share_a_key() -> None:
    names = ["a", "{a}", "{a}b", "{a}b:c", "b{a}", "{a}{b}", "a}", "{", "{}", "a:term:a"]
    keys = [Keys.of(name, 0) for name in names]
    found = [key for one in keys for key in (one.lock, one.term, one.waiting, one.checkpoint)]
    assert len(set(found)) == len(found)
    for name, one in zip(names, keys, strict=True):
        together = (one.lock, one.term, one.waiting, one.checkpoint, one.floor)
        assert {key_slot(key) for key in together} == {key_slot(name.encode())}, name


def test_each_slot_has_a_tag_of_its_own() -> None:
    tags = [slot_tag(slot) for slot in range(SLOTS)]
    assert [key_slot(b"a{" + tag + b"}b") for tag in tags] == list(range(SLOTS))


def test_our_own_keys_cannot_be_elections(stage: Stage) -> None:
    with pytest.raises(UsageError) as caught:
        stage.backend.view("electctl:{x}:term:x")
    assert caught.value.hint


def test_a_right_that_is_missing_is_named_with_its_keys(
    redis_url: str, store: Any, election: str
) -> None:
    store.acl_setuser(
        election,
        enabled=True,
        passwords=["+secret"],
        keys=["other*"],
        channels=["*"],
        categories=["+@all"],
    )
    url = redis_url.replace("redis://", f"redis://{election}:secret@")
    try:
        with connect(url) as elector:
            for ask in (
                lambda: elector.campaign(election, "a", ttl=2, wait=0),
                lambda: elector.holder(election),
            ):
                with pytest.raises(Refused) as caught:
                    ask()
                said = (
                    f"the user '{election}' needs EVALSHA on {election}, electctl:{{{election}}}:"
                )
                assert said in caught.value.message
            with pytest.raises(Refused, match=r"needs HGET on electctl:"):
                elector.backend.read_checkpoint(election, "")
            assert "secret" not in caught.value.message
    finally:
        store.acl_deluser(election)


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


# A server that answers and takes no writes --------------------------------------------------------


@pytest.fixture
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with make_cluster("redis", tmp_path_factory.mktemp("ill")) as cluster:
        yield cluster


def replica_of_nobody(store: Any) -> None:
    store.replicaof("127.0.0.1", 1)


def out_of_memory(store: Any) -> None:
    store.config_set("maxmemory", 1)


def cannot_save(store: Any) -> None:
    """A directory stands where the dump is to be put."""
    where = store.config_get("dir")["dir"], store.config_get("dbfilename")["dbfilename"]
    Path(*where).mkdir()
    store.config_set("save", "3600 1000")
    store.bgsave()
    wait_for(lambda: store.info("persistence")["rdb_last_bgsave_status"] == "err")


@pytest.mark.parametrize(
    ("illness", "words"),
    [
        (replica_of_nobody, "takes no writes|replica without its primary"),
        (out_of_memory, "out of memory"),
        (cannot_save, "cannot save to disk"),
    ],
)
def test_a_server_that_takes_no_writes_is_no_rival(
    ill: Cluster, election: str, illness: Callable[[Any], None], words: str
) -> None:
    with bare_client(ill) as client:
        illness(client)
    with (
        connect(ill.url) as elector,
        pytest.raises(Unreachable, match=words),
    ):
        elector.campaign(election, "a", wait=0)
