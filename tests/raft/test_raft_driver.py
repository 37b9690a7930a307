"""When a node ticks, what it takes in at once, and that it writes before it sends.

What this does not show: that nothing else runs; the simulation is driven by the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from electctl.raft.pure.commands import Enter, Expire, Open
from electctl.raft.pure.core import Raft
from electctl.raft.pure.driver import Action, Driver, Write
from electctl.raft.pure.messages import Entry, Stored
from electctl.raft.pure.replica import FromClient, Replica, ReplicaEvent, Tell
from electctl.raft.pure.requests import LookElection, Request, Submit
from electctl.raft.pure.steps import Role, Settings

TICK = 1.0
TTL = 12.0
START = 100.0
STORED = Stored(1, 1, entries=(Entry(1, 1, Open(12_000)), Entry(2, 1, Enter(1, 1, "e", "c"))))


def driver_of(*voters: int) -> Driver:
    raft = Raft(1, frozenset(voters), STORED, Settings(), lambda n: 0)
    return Driver(Replica(raft, round(TICK * 1000)), TICK)


def expired(actions: list[Action]) -> bool:
    writes = [action for action in actions if isinstance(action, Write)]
    entries = [entry for write in writes for p in write.persists for entry in p.entries]
    return any(isinstance(entry.command, Expire) for entry in entries)


def asks(count: int) -> Iterator[ReplicaEvent]:
    return (FromClient("c", Request(n, LookElection("e"))) for n in range(count))


@pytest.mark.parametrize("late", [0.0, 0.1, 0.9, 5.0])
def test_a_node_alone_ends_no_lease_before_its_ttl_has_passed_since_its_start(late: float) -> None:
    """The leader before it may have renewed it the moment before."""
    driver = driver_of(1)
    driver.begin(START)
    assert driver.replica.raft.role is Role.LEADER
    at = START
    while not expired(driver.turn((), at)):
        at = driver.wake_at + late
    assert TTL <= at - START <= (TTL / TICK + 1.01) * (TICK + late)


def test_a_node_with_others_waits_for_them() -> None:
    driver = driver_of(1, 2, 3)
    assert driver.begin(START) == []
    assert driver.turn((), START + 0.99 * TICK) == []
    assert driver.wake_at == START + TICK


def test_a_tick_that_is_late_is_one_tick() -> None:
    driver = driver_of(1, 2, 3)
    driver.begin(START)
    at = START + 100 * TICK
    assert driver.turn((), at) == []
    assert driver.wake_at == at + TICK


def test_one_write_comes_before_all_that_follows_from_the_events() -> None:
    driver = driver_of(1)
    driver.begin(START)
    events = [FromClient("c", Request(n, Submit(Open(1000)))) for n in (1, 2, 3)]
    first, *rest = driver.turn(events, START)
    assert isinstance(first, Write)
    assert len(first.persists) == 3
    assert [type(item) for item in rest] == [Tell, Tell, Tell]


def test_what_a_turn_does_not_handle_it_leaves() -> None:
    driver = Driver(driver_of(1).replica, TICK, batch=3)
    driver.begin(START)
    events = deque(asks(5))
    waiting = (events.popleft() for _ in range(5))
    told = [item for item in driver.turn(waiting, START) if isinstance(item, Tell)]
    assert len(told) == 3
    assert len(events) == 2
