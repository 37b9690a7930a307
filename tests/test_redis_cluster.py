"""The Redis backend on a real Redis Cluster: who has a key, who has it next, and what is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from electctl.base.clock import now
from electctl.contract.url import BackendURL
from electctl.core.elector import LeaderElector, connect
from electctl.errors import ConfigError, ElectctlError, Refused, Unreachable
from electctl.lab.ports import HOST, HeldPort
from electctl.lab.proxy import Proxy
from electctl_redis.cluster_lab import PRIMARIES, ShardedCluster
from electctl_redis.connect import Links
from electctl_redis.failures import NEEDED_RIGHTS
from electctl_redis.lab import RedisCluster
from electctl_redis.names import Keys, slot_of
from electctl_redis.target import Target
from tests.processes import wait_for
from tests.redis_stage import staged

LOGIN = "elect:s3cret"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardedCluster]:
    """Nodes on which a user has the rights that we ask for, and no others."""
    user = f"user elect on >s3cret {NEEDED_RIGHTS.replace('<election>', '*election*')}"
    home = tmp_path_factory.mktemp("nodes")
    with ShardedCluster(home, config=[user, "user weak on >s3cret"]) as cluster:
        yield cluster


@pytest.fixture
def named(nodes: ShardedCluster, election: str) -> str:
    """An election whose key lives on another node than the one that :func:`one_node` names."""
    return name_on(nodes, 1, election)


def name_on(nodes: ShardedCluster, node: int, prefix: str) -> str:
    return next(
        name
        for name in (f"{prefix}-{number}" for number in count())
        if nodes.owner(slot_of(name.encode())) == node
    )


def all_nodes(nodes: ShardedCluster) -> str:
    return nodes.url.replace("://", f"://{LOGIN}@")


def one_node(nodes: ShardedCluster, number: int = 0) -> str:
    return f"redis://{LOGIN}@{HOST}:{nodes.servers[number].port}/0"


@contextmanager
def client(nodes: ShardedCluster, number: int) -> Iterator[Any]:
    with redis.Redis(port=nodes.servers[number].port) as found:
        yield found


def moved(nodes: ShardedCluster) -> int:
    """How often the nodes have sent somebody on."""
    total = 0
    for number in range(nodes.nodes):
        with client(nodes, number) as node:
            told = node.info("errorstats")
            total += sum(told.get(f"errorstat_{kind}", {"count": 0})["count"] for kind in KINDS)
    return total


KINDS = ("MOVED", "ASK")


# Where a key is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_names_in_all_slots_are_led_from_any_node(
    nodes: ShardedCluster, election: str, several: bool
) -> None:
    names = [f"{election}-{number}" for number in range(12)]
    names += [f"a}}b{election}", f"{{}}{election}", f"{{tag}}{election}", f"{{{election}"]
    owners = {nodes.owner(slot_of(name.encode())) for name in names}
    assert owners == set(range(PRIMARIES))
    urls = [all_nodes(nodes)] if several else [one_node(nodes, node) for node in (0, PRIMARIES)]
    for name in names:
        last = 0
        for url in urls:
            with connect(url) as elector:
                uses(elector, name, last)
                last += 1


def uses(elector: LeaderElector, name: str, last: int) -> None:
    """Lead once, and do all that can be done meanwhile."""
    with elector.campaign(name, "a", ttl=5, wait=5) as leadership:
        assert leadership.token is not None
        assert leadership.token > last
        leadership.checkpoint.set(b"done")
        assert leadership.checkpoint.get() == b"done"
        holder = elector.holder(name)
        assert holder is not None
        assert holder.token == leadership.token
        with closing(elector.backend.watch(name)) as watch:
            view = watch.next(5)
            assert view is not None
            assert view.holder is not None
            assert view.holder.token == leadership.token
        assert elector.backend.evict(name, force=True) is not None
    assert elector.holder(name) is None


def test_a_candidate_is_sent_on_once(nodes: ShardedCluster, named: str) -> None:
    with staged(one_node(nodes), named) as stage:
        before = moved(nodes)
        leader, _ = stage.lead("a")
        for seq in range(3):
            leader.renew()
            leader.write_checkpoint("", b"x", seq)
        leader.release()
        assert moved(nodes) == before + 1


def test_a_release_wakes_who_waits_on_another_node_than_the_url_names(
    nodes: ShardedCluster, named: str
) -> None:
    with staged(one_node(nodes), named) as stage:
        leader, _ = stage.lead("leader", ttl=60)
        _, waiting = stage.wait("waiting", ttl=60)
        leader.release()
        assert waiting.result(5) is not None


# A slot moves ------------------------------------------------------------------------------------


class Move:
    """A slot on its way from the node that has it to another, step by step."""

    def __init__(self, nodes: ShardedCluster, election: str, to: int) -> None:
        self.nodes, self.to = nodes, to
        self.keys = Keys.of(election, 0)
        self.slot = slot_of(self.keys.lock)
        self.source = nodes.owner(self.slot)
        self.ids = [self._ask(number, "CLUSTER", "MYID").decode() for number in (self.source, to)]

    def _ask(self, number: int, *command: Any) -> Any:
        with client(self.nodes, number) as node:
            node.set_response_callback("CLUSTER MYID", lambda found, **_: found)
            return node.execute_command(*command)

    def begin(self) -> None:
        self._ask(self.to, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.ids[0])
        self._ask(self.source, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.ids[1])

    def carry(self, *keys: bytes) -> None:
        """These keys, or all that there are."""
        there = keys or self._ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, 100)
        port = self.nodes.servers[self.to].port
        self._ask(self.source, "MIGRATE", HOST, port, "", 0, 5000, "KEYS", *there)

    def end(self) -> None:
        for number in (self.to, self.source):
            self._ask(number, "CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[1])
        wait_for(lambda: self.nodes.owner(self.slot) == self.to, what="all know of the move")


def test_a_slot_that_moves_takes_the_leadership_along(nodes: ShardedCluster, named: str) -> None:
    move = Move(nodes, named, 2)
    with staged(all_nodes(nodes), named) as stage:
        leader, grant = stage.lead("leader", ttl=60)
        _, waiting = stage.wait("waiting", ttl=60)
        with closing(stage.backend.watch(named)) as watch:
            assert watch.next(5) is not None
            move.begin()
            leader.renew()  # the keys are still where they were
            move.carry()
            leader.renew()  # they are on the other side, and the slot is not
            move.end()
            leader.renew()
            before = moved(nodes)
            leader.renew()
            assert moved(nodes) == before
            leader.release()
            found = waiting.result(10)
            assert found is not None
            assert found.token == (grant.token or 0) + 1
            followed(watch, found.token)


def followed(watch: Any, token: int) -> None:
    """The watch goes on where the slot is now."""
    deadline = now() + 10
    while now() < deadline:
        view = watch.next(1)
        if view is not None and view.holder is not None and view.holder.token == token:
            return
    raise AssertionError("the watch did not see the new leader")


def test_who_waits_is_woken_as_promptly_where_the_slot_is_now(
    nodes: ShardedCluster, named: str
) -> None:
    move = Move(nodes, named, 2)
    with staged(all_nodes(nodes), named) as stage:
        leader, _ = stage.lead("leader", ttl=3)
        candidacy, waiting = stage.wait("waiting", ttl=3)
        move.begin()
        move.carry()
        move.end()
        leader.renew()
        with client(nodes, 2) as node:
            channel = Keys.of(named, 0).channels + b"wake:*"
            # It looks when the lock would have run out, and finds that it is led elsewhere now.
            wait_for(lambda: renewed(leader) and node.pubsub_channels(channel), 20)
        leader.release()
        assert waiting.result(1) is not None
        candidacy.release()


def renewed(leader: Any) -> bool:
    leader.renew()
    return True


def test_keys_that_are_partly_here_and_partly_there_are_an_outage(
    nodes: ShardedCluster, named: str
) -> None:
    move = Move(nodes, named, 2)
    with staged(all_nodes(nodes), named) as stage:
        leader, _ = stage.lead("leader", ttl=60)
        move.begin()
        move.carry(move.keys.lock)
        with pytest.raises(Unreachable, match="moving keys"):
            leader.renew()
        move.carry()
        leader.renew()
        move.end()
        leader.release()


# A node is lost ----------------------------------------------------------------------------------


def test_the_first_that_is_named_may_be_silent(nodes: ShardedCluster, named: str) -> None:
    nodes.servers[0].pause()
    try:
        with connect(all_nodes(nodes)) as elector:
            began = now()
            elector.campaign(named, "a", wait=5).release()
            assert now() - began < 5
    finally:
        nodes.servers[0].resume()
        wait_for(nodes.settled, 60, what="the cluster is whole")


def test_a_silent_seed_costs_nothing_of_the_grant(nodes: ShardedCluster, named: str) -> None:
    """Validity counts from the request that took the lock, not from the search for who has it."""
    addresses = [node.address for node in nodes.servers]
    with Proxy(addresses[0]) as silent:
        silent.swallow()
        url = nodes.url_for([(HOST, silent.port), *addresses[1:]])
        with staged(url.replace("://", f"://{LOGIN}@"), named) as stage:
            began = now()
            _, grant = stage.lead("a", ttl=1.5)
            assert silent.counters.requests.swallowed
            assert grant.since >= began + 0.5, "no silence is given up sooner than that"


@pytest.mark.slow
def test_a_replica_takes_over_for_its_primary(tmp_path: Path, election: str) -> None:
    with ShardedCluster(tmp_path) as nodes, connect(nodes.url) as elector:
        named = name_on(nodes, 1, election)
        with closing(elector.backend.watch(named)) as watch:
            leadership = elector.campaign(named, "a", ttl=30, wait=5)
            followed(watch, leadership.token or 0)
            with client(nodes, 1) as old:
                assert old.wait(1, 5000) == 1  # replicated, so the grant outlives its primary
            nodes.servers[1].kill()
            with pytest.raises(Unreachable):
                for _ in iter(lambda: watch.next(30), None):
                    pass
        slot = slot_of(named.encode())
        wait_for(lambda: nodes.owner(slot) == 1 + PRIMARIES, 60, what="the replica is promoted")
        wait_for(lambda: seen(elector, named) == leadership.token, 30, what="it is watched there")
        assert leadership.remaining() > 0
        wait_for(lambda: leadership.remaining() > 25, 30, what="it is renewed at the new primary")
        leadership.release()
        with elector.campaign(named, "b", ttl=10, wait=30) as second:
            assert second.token == (leadership.token or 0) + 1


def seen(elector: LeaderElector, election: str) -> int | None:
    """The token of whom a new watch shows; nothing else asks the store."""
    with closing(elector.backend.watch(election)) as watch:
        try:
            view = watch.next(1)
        except Unreachable:
            return None
    return None if view is None or view.holder is None else view.holder.token


# What is left ------------------------------------------------------------------------------------


def test_what_is_left_on_all_nodes_is_swept_and_tokens_go_on_growing(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(9)] + ["a}b"]
    with ShardedCluster(tmp_path) as nodes, connect(nodes.url) as elector:
        assert {nodes.owner(slot_of(name.encode())) for name in names} == set(range(PRIMARIES))
        for name in names:
            for _ in range(3):
                elector.campaign(name, wait=5).release()
        found = list(elector.backend.leftovers())
        assert sorted(one.election for one in found) == sorted(names)
        assert all(map(elector.backend.sweep, found))
        assert not list(elector.backend.leftovers())
        for name in names:
            with client(nodes, nodes.owner(slot_of(name.encode()))) as node:
                assert not node.exists(Keys.of(name, 0).term)
            with elector.campaign(name, wait=5) as leadership:
                assert leadership.token == 4


# TLS, and who may come in ------------------------------------------------------------------------


def test_tls_to_every_node(tmp_path: Path, election: str) -> None:
    with ShardedCluster(tmp_path, secure=True) as nodes:
        one = f"rediss://{HOST}:{nodes.servers[0].port}?ca={nodes.certificates}/ca.crt"
        for url in (nodes.url, one):
            with connect(url) as elector:
                for number in range(6):
                    elector.campaign(f"{election}-{number}", wait=5).release()
        with (
            connect(f"redis+cluster://{HOST}:{nodes.servers[0].port}?tls=true") as stranger,
            pytest.raises(Unreachable, match="certificate is not accepted") as caught,
        ):
            stranger.holder(election)
        assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_the_password_of_each_new_connection_is_read_anew(
    nodes: ShardedCluster, named: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    with connect(f"{all_nodes(nodes).replace(LOGIN, 'elect')}?password_file={secret}") as elector:
        with pytest.raises(Refused):
            elector.holder(named)
        secret.write_text("s3cret")
        assert elector.holder(named) is None


def test_a_missing_right_is_told_of_the_node_that_has_the_key(
    nodes: ShardedCluster, named: str
) -> None:
    with (
        connect(one_node(nodes).replace("elect", "weak")) as elector,
        pytest.raises(Refused) as caught,
    ):
        elector.campaign(named, wait=0)
    assert "s3cret" not in caught.value.message


# What is said ------------------------------------------------------------------------------------


def test_a_server_that_is_no_node_is_not_taken_for_one(redis_url: str, election: str) -> None:
    """Of two servers by themselves each would have every key."""
    with (
        connect(redis_url.replace("redis://", "redis+cluster://")) as elector,
        pytest.raises(ConfigError, match="is no node of a Redis Cluster") as caught,
    ):
        elector.campaign(election, wait=0)
    assert "redis://" in (caught.value.hint or "")


def test_a_node_has_one_database(nodes: ShardedCluster, election: str) -> None:
    with (
        connect(one_node(nodes).replace("/0", "/3")) as elector,
        pytest.raises(ConfigError, match="no databases but 0"),
    ):
        elector.campaign(election, wait=0)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_cluster_that_is_down_is_an_outage_and_not_contention(
    tmp_path: Path, election: str, scheme: str
) -> None:
    bus = HeldPort()
    config = ["cluster-enabled yes", f"cluster-port {bus.number}"]  # and nobody has a slot
    with RedisCluster(tmp_path, config=config) as alone:
        url = f"{scheme}://{HOST}:{alone.servers[0].port}"
        with connect(url) as elector, pytest.raises(Unreachable, match="its cluster is down"):
            elector.campaign(election, wait=1)
    bus.release()


def test_each_node_that_is_named_and_cannot_be_reached_is_told(election: str) -> None:
    held = [HeldPort(), HeldPort()]
    url = "redis+cluster://" + ",".join(f"{HOST}:{one.number}" for one in held)
    with connect(url) as elector, pytest.raises(Unreachable) as caught:
        elector.holder(election)
    assert all(f"{HOST}:{one.number} cannot be reached" in caught.value.message for one in held)
    for one in held:
        one.release()


def test_nodes_that_send_us_in_a_circle_are_told(nodes: ShardedCluster, named: str) -> None:
    """While they disagree, as after a move that was left half done."""
    move = Move(nodes, named, 2)
    links = Links(Target.of(BackendURL.parse(all_nodes(nodes))), 3.0)
    move.begin()
    # The source says that it is on its way; the other has given up taking it in.
    with client(nodes, 2) as node:
        node.execute_command("CLUSTER", "SETSLOT", move.slot, "STABLE")
    try:
        with pytest.raises(ElectctlError, match="send us on and on") as caught:
            links.call("GET", named, key=named.encode())
        assert caught.value.exit_code == Unreachable.exit_code
    finally:
        links.close()
        with client(nodes, move.source) as node:
            node.execute_command("CLUSTER", "SETSLOT", move.slot, "STABLE")
