"""The library of faults itself, and what is done to processes: none of it needs a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.core import registry
from electctl.errors import UsageError
from electctl.faults import library, processes
from electctl.faults.fault import NotInjected, Scene
from electctl.faults.members import halves
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.gate import OUTSIDERS, Ways
from electctl.lab.server import process
from tests.faulty import OF_PROCESSES, Tree

PAGE = Path(__file__).parents[1] / "docs" / "drills.md"


@pytest.fixture
def leader() -> Iterator[Tree]:
    tree = Tree()
    yield tree
    tree.end()


@pytest.fixture
def scene(leader: Tree, tmp_path: Path) -> Scene:
    """With a cluster that never runs: nothing here touches it."""
    return Scene(leader, make_cluster("redis", tmp_path), {}, "e", 1.0)


def states(leader: Tree) -> dict[int, str]:
    """The letters of /proc of all that are left; one that has ended has none."""
    found = {pid: process(pid) for pid in (leader.pid, *leader.command_pids())}
    return {pid: each.state for pid, each in found.items() if each and each.state != "Z"}


# Names --------------------------------------------------------------------------------------------


def test_the_page_names_the_same_faults_and_variants() -> None:
    table = re.findall(
        r"^\| `(\w+)` \|([^|]*)\|", PAGE.read_text().partition("### How each")[0], re.M
    )
    named = set()
    for name, variants in table:
        if name in {fault.partition(":")[0] for fault in library.FAULTS}:
            listed = re.findall(r"`([\w-]+)`", variants)
            named |= {f"{name}:{variant}" for variant in listed} or {name}
    assert named == set(library.FAULTS)


def test_every_weakness_names_a_fault_of_the_library() -> None:
    named = {w.fault for plugin in registry.plugins() for w in plugin.traits.weaknesses if w.fault}
    assert "clock" in named
    for name in named:
        library.find(name)


def test_a_bare_name_is_its_first_variant_and_an_unknown_one_names_the_nearest() -> None:
    assert library.find("pause").name == "pause:tree"
    assert library.find("partition:even").name == "partition:even"
    assert library.find("gc").name == "gc"
    with pytest.raises(UsageError) as caught:
        library.find("cloc:forward")
    assert "clock:forward" in str(caught.value.hint)
    with pytest.raises(UsageError):
        library.find("clock:")


@pytest.mark.parametrize(
    ("scheme", "nodes", "some", "none"),
    [
        ("redis", 1, "clock:fast evict:memory flush restart", "failover pause:member"),
        ("redis+sentinel", 2, "failover partition:store", "partition:even partition:candidate"),
        ("redis+cluster", 6, "failover partition:store", "partition:even partition:candidate"),
        ("etcd", 3, "partition:even stall restore", "failover evict:memory clock:forward"),
        ("etcd", 1, "crash:store restore", "partition:store partition:even pause:member"),
        ("zk", 3, "partition:member flush", "failover"),
        ("raft", 3, "partition:store restart", "flush failover"),
    ],
)
def test_what_applies(scheme: str, nodes: int, some: str, none: str) -> None:
    names = {fault.name for fault in library.applicable(scheme, nodes)}
    assert names >= {*some.split(), *OF_PROCESSES}
    assert not names & {*none.split()}


def test_what_does_not_apply_says_why() -> None:
    redis = make_cluster("redis", Path("/nonexistent"), breakable=True)
    etcd = make_cluster("etcd", Path("/nonexistent"), 3)
    assert library.find("pause:member").needs(redis) == "it has one server"
    assert "breakable" in str(library.find("partition:store").needs(etcd))
    assert "libfaketime" in str(library.find("clock:fast").needs(etcd))


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (4, [2, 2]), (5, [2, 2, 1])]
)
def test_an_even_split_leaves_nobody_a_majority(count: int, sizes: list[int]) -> None:
    parts = halves(range(count))
    assert [len(part) for part in parts] == sizes
    assert [member for part in parts for member in part] == list(range(count))
    assert count == 1 or all(2 * size <= count for size in sizes)


def test_a_split_spares_members_of_one_group_and_outsiders() -> None:
    ways = Ways()
    callers = (OUTSIDERS, 0, 1, 2)
    proxies = {(a, b): ways.add(a, b, ("127.0.0.1", 1)) for a in callers for b in range(3)}

    def silent() -> set[tuple[int, int]]:
        return {way for way, proxy in proxies.items() if proxy.mode == "swallow"}

    try:
        ways.split({0, 1}, {2})
        assert silent() == {(0, 2), (1, 2), (2, 0), (2, 1)}
        ways.heal()
        assert not silent()
        ways.separate(1)
        assert silent() == {(0, 1), (2, 1), (1, 0), (1, 2)}
    finally:
        ways.close()


# Processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stopped"), [("pause:electctl", (0,)), ("pause:tree", (0, 1)), ("gc", (1,))]
)
def test_who_is_stopped_is_and_goes_on_after(
    scene: Scene, leader: Tree, name: str, stopped: tuple[int, ...]
) -> None:
    pids = leader.tree()
    with library.find(name).inject(scene) as done:
        assert [pids[place] for place in (0, 1) if states(leader)[pids[place]] == "T"] == [
            pids[place] for place in stopped
        ]
        assert "stopped" in done.confirmed
    assert set(states(leader).values()) <= {"S", "R"}
    assert not leader.ended


@pytest.mark.parametrize(("name", "left"), [("crash:electctl", 1), ("crash:tree", 0)])
def test_who_is_killed_is_gone(scene: Scene, leader: Tree, name: str, left: int) -> None:
    command = leader.command_pids()
    with library.find(name).inject(scene) as done:
        assert leader.ended
        assert sum(not processes.gone(pid) for pid in command) == left
        assert "gone" in done.confirmed


@pytest.mark.parametrize("name", ["pause:tree", "pause:electctl", "gc", "crash:tree"])
def test_who_is_gone_before_suffers_nothing(
    scene: Scene, leader: Tree, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electctl.faults.watching.DEADLINE", 0.05)
    leader.end()
    with pytest.raises(NotInjected, match="none to stop"), library.find(name).inject(scene):
        pass


def test_who_does_not_die_was_not_crashed(
    scene: Scene, leader: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electctl.faults.watching.DEADLINE", 0.05)
    monkeypatch.setattr(os, "kill", lambda pid, signum: None)
    with (
        pytest.raises(NotInjected, match="still there"),
        library.find("crash:electctl").inject(scene),
    ):
        pass


def test_a_caller_who_fails_leaves_nobody_stopped(scene: Scene, leader: Tree) -> None:
    with pytest.raises(ZeroDivisionError), library.find("pause:tree").inject(scene):
        raise ZeroDivisionError
    assert set(states(leader).values()) <= {"S", "R"}


def test_a_scheme_without_servers_has_no_server_to_break(tmp_path: Path) -> None:
    class Nowhere(Cluster):
        def configure(self) -> None:
            pass

        def url_for(self, addresses: object) -> str:
            return "nowhere://"

    cluster = Nowhere(tmp_path)
    applies = {fault.name for fault in library.FAULTS.values() if fault.needs(cluster) is None}
    links = {name for name in library.FAULTS if name.startswith(("partition:cand", "slow"))}
    assert applies == {*OF_PROCESSES, *links, "evict:force"}
