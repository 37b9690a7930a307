"""Names, order, proof of life, records, errors and URLs of zk://, without a server."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kazoo import exceptions
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.paths import normpath as kazoo_path

from electctl.contract.url import BackendURL
from electctl.core.registry import open_backend
from electctl.errors import (
    ConfigError,
    ElectctlError,
    LeadershipLost,
    Refused,
    Throttled,
    Unreachable,
    UsageError,
)
from electctl.lab.certificates import make_certificates
from electctl_zookeeper.failures import ANSWERS, SessionLost, translate
from electctl_zookeeper.names import (
    NAMING,
    RECIPES,
    Paths,
    contender,
    in_order,
    is_path,
    overflowed,
    prefix,
)
from electctl_zookeeper.proof import Proof
from electctl_zookeeper.record import MAX_VALUE, Record
from electctl_zookeeper.target import Target

UID = "0123456789abcdef0123456789abcdef"


def java(number: int) -> str:
    """What the server appends: ``String.format("%010d", number)``."""
    return f"{number:010d}"


def canonical_ones(spellings: list[str]) -> list[str]:
    """The names of those that have one."""
    found = []
    for spelling in spellings:
        with suppress(UsageError):
            found.append(NAMING.canonical(spelling))
    return found


class TestNames:
    """An election's name is its path, in each spelling that kazoo's users write."""

    @pytest.mark.parametrize(
        "name", ["nightly", "jobs/nightly", "a b", "-rf", "é", "a.b/..c", ":", "%2F", "a/.electctl"]
    )
    def test_a_legal_path_is_used_verbatim(self, name: str) -> None:
        assert NAMING.canonical(name) == name
        assert Paths.of(name, "").parent == f"/{name}"
        assert Paths.of(name, "/some/root").parent == f"/some/root/{name}"

    @given(st.lists(st.sampled_from(["a", "é", "", "b c", ".electctlx"]), min_size=1))
    def test_spellings_are_one_where_they_are_one_for_kazoo(self, segments: list[str]) -> None:
        spelling = "/".join(["x", *segments])
        for one in (spelling, f"/{spelling}", f"{spelling}/"):
            path = Paths.of(NAMING.canonical(one), "").parent
            assert path == kazoo_path(f"/{one}").rstrip("/")

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/",
            "//",
            ".",
            "..",
            "a/../b",
            "a\nb",
            "\x7f",
            "🗳",
            "\ue000",
            ".electctl",
            "/.electctl/x",
            "zookeeper/quota",
            "//zookeeper",
        ],
    )
    def test_what_is_no_path_of_elections_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError) as caught:
            NAMING.canonical(name)
        assert caught.value.hint
        assert "\n" not in caught.value.message

    @given(st.lists(st.text("ab/.%2Fé", min_size=1, max_size=6), min_size=2))
    def test_no_two_names_share_a_path(self, spellings: list[str]) -> None:
        names = set(canonical_ones(spellings))
        paths = [Paths.of(name, "") for name in names]
        assert len({path.parent for path in paths}) == len(names)
        assert len({path.marks for path in paths}) == len(names)

    @given(st.text(st.characters(codec="utf-8"), max_size=20))
    def test_what_is_ours_lies_outside_every_election(self, spelling: str) -> None:
        for name in canonical_ones([spelling]):
            paths = Paths.of(name, "")
            for own in (paths.marks, paths.checkpoints, paths.mark(UID), paths.checkpoint(name)):
                assert own.startswith("/.electctl/")
                assert is_path(own[1:])
            assert is_path(paths.parent[1:])
            assert not f"{paths.parent}/".startswith("/.electctl/")

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_each_recipe_is_read_back(self, recipe: str) -> None:
        found = contender(prefix(recipe, UID) + "0000000007")
        assert found is not None
        assert (found.uid, found.sequence) == (UID, 7)

    def test_the_shapes_are_those_of_the_native_tools(self) -> None:
        assert prefix("kazoo", UID) == f"{UID}__lock__"
        dashed = "01234567-89ab-cdef-0123-456789abcdef"
        assert prefix("curator-latch", UID) == f"_c_{dashed}-latch-"
        assert prefix("curator-lock", UID) == f"_c_{dashed}-lock-"

    @pytest.mark.parametrize(
        "name", ["nightly", "x__rlock__0000000001", "leader", f"{UID}__lock__1", "lock-0000000001x"]
    )
    def test_other_children_are_no_contenders(self, name: str) -> None:
        assert contender(name) is None

    def test_a_foreign_name_without_a_uuid_is_a_contender(self) -> None:
        found = contender("me__lock__0000000003")
        assert found is not None
        assert (found.uid, found.sequence) == ("", 3)


class TestOrder:
    """By sequence number, as long as the server's counter has not come to its end."""

    @given(
        start=st.integers(0, 1 << 30),
        steps=st.lists(st.integers(1, 1 << 24), max_size=20),
        seed=st.integers(),
    )
    def test_contenders_are_in_the_order_in_which_they_came(
        self, start: int, steps: list[int], seed: int
    ) -> None:
        number, made = start, []
        for step in [0, *steps]:
            number += step
            made.append(prefix(RECIPES[number % len(RECIPES)], UID) + java(number))
        shuffled = random.Random(seed).sample(made, len(made))
        found = in_order([*shuffled, "config", "nested-election"])
        assert [one.name for one in found] == made
        assert not overflowed(found)

    @pytest.mark.parametrize("number", [2**31 - 1, -(2**31), -1_000_000_000, -5, -1])
    def test_numbers_beyond_the_end_are_read_and_not_trusted(self, number: int) -> None:
        found = contender(f"x__lock__{java(number)}")
        assert found is not None
        assert found.sequence == number
        assert overflowed(in_order(["x__lock__0000000001", found.name]))


class Ensemble:
    """A leader and the one follower that we are connected to, in simulated time.

    The follower's link to the leader delays by up to ``delay`` each way, in order, until it is cut.
    What it models is written at the top of electctl_zookeeper.proof.
    """

    def __init__(self, rng: random.Random, tick: float, delay: float) -> None:
        self.rng = rng
        self.tick = tick
        self.delay = delay
        self.phase = rng.uniform(0, tick / 2)

    def last_touch(self, opened: float, writes: list[tuple[float, float]], cut: float) -> float:
        """The leader's last touch if the link to it was cut at ``cut``.

        ``writes`` are (arrival at the follower, of our knowing) pairs.
        """
        touch = opened
        ping = self.phase
        while ping < cut:
            at_follower = ping + self.rng.uniform(0, self.delay)
            reported = [arrived for arrived, _ in writes if arrived <= at_follower < cut]
            if reported:
                # It is counted when the table arrives, which is later still.
                touch = max(touch, max(reported))
            ping += self.tick / 2
        return touch


class TestProof:
    """Validity never counts from later than the leader's last touch."""

    @settings(max_examples=300)
    @given(
        seed=st.integers(0, 1 << 32),
        tick=st.sampled_from([0.2, 1.0, 2.0]),
        interval=st.floats(0.05, 5.0),
    )
    def test_the_leader_was_told_no_earlier(self, seed: int, tick: float, interval: float) -> None:
        rng = random.Random(seed)
        ensemble = Ensemble(rng, tick, delay=0.0)
        proof = Proof(0.0, tick)
        writes: list[tuple[float, float]] = []
        at = rng.uniform(0, 2)
        for _ in range(rng.randrange(1, 30)):
            trip = rng.uniform(0.0001, 0.01)
            arrived = at + trip / 2
            writes.append((arrived, at))
            # The worst moment for a cut is right after the write was forwarded.
            proof.committed(at, at + trip)
            assert proof.since <= ensemble.last_touch(0.0, writes, cut=arrived + 1e-9) + 1e-9
            # Renewals are regular, missed at times, tried again soon at times.
            at += trip + rng.choice([interval, interval, interval * 3, interval / 4, 0.0])

    def test_a_write_counts_once_a_ping_and_another_write_have_passed(self) -> None:
        proof = Proof(0.0, tick=2.0)
        proof.committed(1.0, 1.1)
        assert proof.since == 0.0
        proof.committed(2.0, 2.1)
        assert proof.since == 0.0, "no ping of the leader lay in between"
        proof.committed(2.2, 2.3)
        assert proof.since == 1.0
        proof.taken_up(5.0)
        assert proof.since == 5.0
        proof.committed(6.0, 6.1)
        assert proof.since == 5.0, "an older write never takes back what is known"


class TestRecord:
    """What a checkpoint's znode holds."""

    @given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 40), st.binary(max_size=99))
    def test_it_is_read_as_it_was_written(self, token: int, seq: int, value: bytes) -> None:
        record = Record(token, seq, value)
        assert Record.unpack(record.pack(), "/x") == record

    def test_a_value_over_a_megabyte_is_refused(self) -> None:
        assert len(Record(1, 1, b"x" * MAX_VALUE).pack()) < 1_048_575 - 2048
        with pytest.raises(UsageError) as caught:
            Record(1, 1, b"x" * (MAX_VALUE + 1)).pack()
        assert caught.value.hint

    def test_what_we_did_not_write_is_named(self) -> None:
        with pytest.raises(ConfigError, match="/x/y"):
            Record.unpack(b"something else", "/x/y")


def kazoo_errors() -> list[type[Exception]]:
    found = [
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, Exception)
    ]
    return [*found, KazooTimeoutError, ConnectionRefusedError, TimeoutError]


class TestFailures:
    """Every error of kazoo has a meaning here."""

    @pytest.mark.parametrize("kind", kazoo_errors(), ids=lambda kind: kind.__name__)
    def test_each_is_translated_in_one_line(self, kind: type[Exception]) -> None:
        found = translate(kind(), "h:2181")
        assert isinstance(found, ElectctlError)
        assert "h:2181" in found.message
        assert "\n" not in found.message

    def test_kazoo_has_the_errors_that_we_know(self) -> None:
        assert len(kazoo_errors()) > 40

    @pytest.mark.parametrize(
        ("kind", "meaning"),
        [
            (exceptions.SessionExpiredError, SessionLost),
            (exceptions.ConnectionClosedError, SessionLost),
            (exceptions.ConnectionLoss, Unreachable),
            (KazooTimeoutError, Unreachable),
            (exceptions.SessionMovedError, Unreachable),
            (exceptions.ThrottledOpError, Throttled),
            (exceptions.NotReadOnlyCallError, Unreachable),
            (exceptions.NoAuthError, Refused),
            (exceptions.AuthFailedError, Refused),
            (exceptions.SessionClosedRequireSaslError, Refused),
            (exceptions.QuotaExceededError, ConfigError),
            (exceptions.NoNodeError, LeadershipLost),
        ],
    )
    def test_those_that_matter(self, kind: type[Exception], meaning: type[Exception]) -> None:
        assert isinstance(translate(kind(), "h:2181"), meaning)

    def test_answers_are_definite(self) -> None:
        assert exceptions.ConnectionLoss not in ANSWERS
        assert KazooTimeoutError not in ANSWERS


def target(text: str) -> Target:
    return Target.of(BackendURL.parse(text))


class TestURL:
    """zk:// and its options."""

    def test_all_that_it_can_carry(self, tmp_path: Path) -> None:
        make_certificates(tmp_path)
        files = f"ca={tmp_path}/ca.crt&cert={tmp_path}/client.crt&key={tmp_path}/client.key"
        found = target(
            f"zk://u:p@a:1,[::1],c/x/y/?recipe=curator-latch&tick=500ms&auth=sasl&{files}"
        )
        assert found.hosts == (("a", 1), ("::1", 2181), ("c", 2181))
        assert found.peer == "a:1,[::1]:2181,c:2181"
        assert found.chroot == "/x/y"
        assert (found.user, found.credentials.get().secret, found.auth) == ("u", "p", "sasl")
        assert found.acl == "parent"
        assert found.recipe == "curator-latch"
        assert found.tick == 0.5
        assert found.tls is not None
        assert len(found.tls.get().get_ca_certs()) == 1
        assert "'p'" not in repr(found)

    def test_defaults(self) -> None:
        found = target("zk://h")
        assert found.hosts == (("h", 2181),)
        assert (found.chroot, found.recipe, found.acl, found.tls) == (
            "",
            "kazoo",
            "open",
            None,
        )

    @pytest.mark.parametrize(
        ("negotiated", "tick"), [(10.0, 2.0), (4.0, 2.0), (3.0, 1.5), (0.4, 0.2)]
    )
    def test_the_tick_is_assumed_to_be_long(self, negotiated: float, tick: float) -> None:
        assert target("zk://h").tick_for(negotiated) == tick
        assert target("zk://h?tick=0.1s").tick_for(negotiated) == 0.1

    @pytest.mark.parametrize(
        "bad",
        [
            "zk:///x",
            "zk://h?recipe=mine",
            "zk://h?tick=0s",
            "zk://h?tick=soon",
            "zk://h?auth=sasl",
            "zk://u:p@h?auth=kerberos",
            "zk://u@h",
            "zk://h?acl=creator",
            "zk://h//x",
            "zk://h/../x",
            "zk://h?tls=perhaps",
            "zk://h?tls=true&cert=/dev/null",
            "zk://h?nonsense=1",
        ],
    )
    def test_what_makes_no_sense_is_refused_with_a_hint(self, bad: str) -> None:
        with pytest.raises(ElectctlError) as caught:
            open_backend(bad)
        assert caught.value.exit_code in {2, 78}
        assert caught.value.hint
        assert "\n" not in caught.value.message

    def test_the_plugin_and_the_options_need_no_client_library(self) -> None:
        code = (
            "import sys, electctl_zookeeper\n"
            "assert electctl_zookeeper.PLUGIN.schemes == ('zk',)\n"
            "assert not {name for name in sys.modules if name.startswith('kazoo')}\n"
        )
        done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
