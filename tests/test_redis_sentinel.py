"""Sentinels that do not agree: the word of one is not final."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import electctl
from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.errors import ConfigError, Refused, Unreachable
from electctl.lab.ports import HOST, HeldPort
from electctl.lab.server import Server, find_program
from electctl_redis.connect import Links
from electctl_redis.lab import SERVICE, SentinelCluster, write_once
from electctl_redis.sentinel import Word, agreed, ranked
from electctl_redis.target import Address, Target
from tests.processes import wait_for

# Sentinels that have to wait for the processor fail over unasked.
pytestmark = pytest.mark.quiet

A, B, C = ("a", 1), ("b", 2), ("c", 3)


@pytest.mark.parametrize(
    ("words", "sentinels", "expected"),
    [
        ([], 3, []),
        ([Word(A, 0)], 3, [A]),
        # A majority has seen the fail-over, one has not.
        ([Word(A, 0), Word(B, 1), Word(B, 1)], 3, [B]),
        # Only one has seen it so far; the majority's is tried too, if the new one is not there.
        ([Word(A, 4), Word(A, 4), Word(B, 5)], 3, [B, A]),
        # Nobody else can be asked about the older word.
        ([Word(A, 4), Word(B, 5)], 3, [B]),
        ([Word(A, 0), Word(B, 0)], 2, [A, B]),
        ([Word(B, 0), Word(A, 0), Word(A, 0)], 3, [A, B]),
    ],
)
def test_who_may_be_the_primary(words: list[Word], sentinels: int, expected: list[Address]) -> None:
    assert ranked(words, sentinels) == expected


words = st.builds(Word, st.sampled_from([A, B, C]), st.integers(0, 2))


@given(st.lists(words, max_size=5), st.integers(0, 3))
def test_the_newest_word_is_always_heeded(found: list[Word], silent: int) -> None:
    sentinels = len(found) + silent
    chosen = ranked(found, sentinels)
    newest = max((word.epoch for word in found), default=0)
    assert {word.address for word in found if word.epoch == newest} <= set(chosen)
    assert len(set(chosen)) == len(chosen)
    if agreed(found, sentinels):
        assert chosen


# Real Sentinels -----------------------------------------------------------------------------------


@dataclass
class Stage:
    cluster: SentinelCluster
    #: A Sentinel that never hears of the others, and so sticks to the first primary.
    cut: Server

    def links(self, *sentinels: Server) -> Links:
        hosts = ",".join(f"{HOST}:{one.port}" for one in sentinels)
        url = BackendURL.parse(f"redis+sentinel://{hosts}/{SERVICE}")
        return Links(Target.of(url), 3.0)

    def peer(self, *sentinels: Server) -> str:
        link = self.links(*sentinels).open(b"nightly", now() + 3.0)
        link.close()
        return link.peer

    def fail_over(self) -> tuple[Any, Any]:
        """The old primary and the new one, which all Sentinels but one name."""
        old = self.cluster.primary()
        with redis.Redis(port=self.cluster.entrances[0].port) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
        for entrance in self.cluster.entrances:
            wait_for(lambda e=entrance: self.named(e) not in (None, old.port), 60)  # type: ignore[misc]
        return old, self.cluster.primary()

    def named(self, sentinel: Server) -> int | None:
        with redis.Redis(port=sentinel.port) as client:
            found: Any = client.sentinel_get_master_addr_by_name(SERVICE)
        return int(found[1]) if found else None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("sentinels")
    with SentinelCluster(home, scheme="redis+sentinel") as cluster:
        # Sentinels find each other over a channel that this user may not use.
        for server in cluster.servers[: cluster.nodes]:
            with redis.Redis(port=server.port) as store:
                store.execute_command(
                    "ACL", "SETUSER", "cut", "on", ">x", "~*", "+@all", "-publish", "-subscribe"
                )
        held = HeldPort()
        folder = home / "cut"
        lines = [
            f"port {held.number}",
            f"bind {HOST}",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} {HOST} {cluster.primary().port} 2",
            f"sentinel auth-user {SERVICE} cut",
            f"sentinel auth-pass {SERVICE} x",
        ]
        program = find_program("redis-sentinel", "redis-sentinel")
        argv = [program, str(write_once(folder / "sentinel.conf", lines))]
        cut = cluster.server("cut", argv, held.number)
        cut.start()
        try:
            yield Stage(cluster, cut)
        finally:
            cut.stop()
            held.release()


def test_one_that_names_a_replica_does_not_keep_us_out(stage: Stage) -> None:
    old, new = stage.fail_over()
    assert stage.named(stage.cut) == old.port
    one, two, _ = stage.cluster.entrances
    with redis.Redis(port=old.port) as store:
        wait_for(lambda: store.info("replication")["role"] == "slave", what="it is demoted")
    assert stage.peer(stage.cut, one, two) == f"{HOST}:{new.port}"
    assert stage.peer(stage.cut, one) == f"{HOST}:{new.port}"
    with pytest.raises(Unreachable, match="is a slave, and a Sentinel still calls it the primary"):
        stage.peer(stage.cut)


def test_one_that_names_an_old_primary_which_is_up_leads_nobody_there(stage: Stage) -> None:
    old_port = stage.named(stage.cut)
    if stage.cluster.primary().port == old_port:
        stage.fail_over()
    new = stage.cluster.primary()
    one, two, _ = stage.cluster.entrances
    assert old_port is not None
    with redis.Redis(port=old_port) as store:
        for _ in range(5):
            # Until the others demote it again, which may be at once.
            store.execute_command("REPLICAOF", "NO", "ONE")
            assert stage.peer(stage.cut, one, two) == f"{HOST}:{new.port}"
            assert stage.peer(stage.cut, one) == f"{HOST}:{new.port}"
            if store.info("replication")["role"] == "master":
                return
        raise AssertionError("it was demoted before it could be asked")


def test_one_that_names_a_dead_primary_costs_its_share_of_the_time_only(stage: Stage) -> None:
    old_port = stage.named(stage.cut)
    if stage.cluster.primary().port == old_port:
        stage.fail_over()
    old = next(server for server in stage.cluster.servers if server.port == old_port)
    one, two, _ = stage.cluster.entrances
    with redis.Redis(port=old.port) as store:
        wait_for(lambda: store.info("replication")["role"] == "slave", 30)
    for stop, go_on in ((old.stop, old.start), (old.pause, old.resume)):
        stop()
        began = now()
        try:
            url = f"redis+sentinel://{HOST}:{stage.cut.port},{HOST}:{one.port},{HOST}:{two.port}"
            with electctl.connect(f"{url}/{SERVICE}") as elector:
                elector.campaign("nightly", wait=3.0).release()
        finally:
            go_on()
        assert now() - began < 3.0


def test_silent_sentinels_are_passed_over(stage: Stage) -> None:
    one, two, three = stage.cluster.entrances
    one.pause()
    try:
        assert stage.peer(one, two, three) == f"{HOST}:{stage.cluster.primary().port}"
    finally:
        one.resume()


def test_one_that_refuses_us_does_not_keep_us_out(stage: Stage) -> None:
    one, two, three = stage.cluster.entrances
    with redis.Redis(port=one.port) as sentinel:
        sentinel.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        # Connections that are open go on.
        try:
            assert stage.peer(one, two, three) == f"{HOST}:{stage.cluster.primary().port}"
            with pytest.raises(Refused, match="Sentinel: "):
                stage.peer(one)
        finally:
            sentinel.execute_command("ACL", "SETUSER", "default", "nopass")


def test_one_that_is_no_sentinel_does_not_keep_us_out(stage: Stage) -> None:
    one, two, _ = stage.cluster.entrances
    server = stage.cluster.servers[0]
    assert stage.peer(server, one, two) == f"{HOST}:{stage.cluster.primary().port}"
    with pytest.raises(ConfigError, match="unknown command"):
        stage.peer(server)


def test_every_right_but_one_is_enough(stage: Stage) -> None:
    """Who may not ask for the epoch goes by what most of them say."""
    entrances = stage.cluster.entrances
    for entrance in entrances:
        with redis.Redis(port=entrance.port) as sentinel:
            sentinel.execute_command(
                "ACL", "SETUSER", "u", "on", ">p", "+auth", "+sentinel|get-master-addr-by-name"
            )
    hosts = ",".join(f"{HOST}:{one.port}" for one in entrances)
    text = f"redis+sentinel://{hosts}/{SERVICE}?sentinel_user=u&sentinel_password=p"
    link = Links(Target.of(BackendURL.parse(text)), 3.0).open(b"nightly", now() + 3.0)
    link.close()
    assert link.peer == f"{HOST}:{stage.cluster.primary().port}"
