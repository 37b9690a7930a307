"""Tests that start servers are told from those that do not, by what they call."""

from __future__ import annotations

from pathlib import Path

from electctl_etcd.lab import EtcdCluster
from tests.processes import wait_for
from tests.selection import starts_server
from tests.test_check_outside import quorum, store


def starts_one(home: Path) -> EtcdCluster:
    return EtcdCluster(home)


def in_a_helper(home: Path) -> None:
    wait_for(lambda: starts_one(home))


class Stage:
    def begin(self, home: Path) -> None:
        in_a_helper(home)


def through_a_class(home: Path) -> None:
    Stage().begin(home)


def starts_none(home: Path) -> None:
    wait_for(home.exists)


def test_what_starts_a_server_is_seen_however_deep() -> None:
    fixtures = [getattr(fixture, "_fixture_function", fixture) for fixture in (store, quorum)]
    for function in (starts_one, in_a_helper, through_a_class, *fixtures):
        assert starts_server(function), function
    assert not starts_server(starts_none)
    assert not starts_server(wait_for)
