"""Every "kill by" of a tree, with many simulated processes and no clock."""

from __future__ import annotations

import math
import signal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from electctl.campaign import stopping
from electctl.campaign.stopping import (
    LONGEST_PAUSE,
    LOOKS,
    STUCK_LIMIT,
    Abandoned,
    Deadline,
    Gone,
    Kill,
    Scope,
    Signal,
    Stop,
    Stopping,
    Stuck,
    Tick,
)
from tests.simulated_tree import CONT, GUARDIAN, MAIN, TERM, Simulated, World

# What is told, and to whom


def test_all_are_told_once_and_continued() -> None:
    world = World()
    others = [world.spawn(MAIN, obeys=False) for _ in range(5)]
    world.main.obeys = False
    world.feed(Stop(5.0))
    world.feed(Stop(5.0))
    world.feed(Signal(TERM))
    assert sorted(world.sent) == [(p.pid, (TERM, CONT)) for p in (world.main, *others)]


def test_main_alone_is_told_and_all_are_killed() -> None:
    world = World()
    other = world.spawn(MAIN, obeys=False)
    world.main.obeys = False
    world.feed(Stop(5.0, "main"))
    assert world.sent == [(MAIN, (TERM, CONT))]
    world.pass_time(4.9)
    assert other.alive
    world.pass_time(0.2)
    assert world.gone
    assert world.destroyed[0] == 1005.0


def test_a_stop_of_main_then_of_all_tells_main_once() -> None:
    world = World()
    other = world.spawn(MAIN, obeys=False)
    world.main.obeys = False
    world.feed(Stop(5.0, "main"))
    world.feed(Stop(5.0, "all"))
    world.feed(Signal(TERM, "main"))
    assert world.sent == [(MAIN, (TERM, CONT)), (other.pid, (TERM, CONT))]


def test_another_signal_is_passed_on_each_time() -> None:
    world = World()
    other = world.spawn(MAIN)
    world.feed(Signal(signal.SIGUSR1))
    world.feed(Signal(signal.SIGUSR1, "main"))
    usr1 = (signal.SIGUSR1,)
    assert world.sent == [(MAIN, usr1), (other.pid, usr1), (MAIN, usr1)]


def test_a_stop_with_another_signal_leaves_sigterm_for_the_deadline() -> None:
    world = World(terminate=2.0, kill=4.0)
    world.main.obeys = False
    world.feed(Stop(60.0, "main", signal.SIGINT))
    world.pass_time(3.0)
    assert world.sent == [(MAIN, (signal.SIGINT,)), (MAIN, (TERM, CONT))]


@pytest.mark.parametrize("scope", ["main", "all"])
def test_a_stop_without_a_signal_only_sets_the_limit(scope: Scope) -> None:
    world = World()
    world.main.obeys = False
    world.feed(Stop(3.0, scope, 0))
    world.pass_time(2.9)
    assert world.sent == []
    world.pass_time(0.2)
    assert world.destroyed == [pytest.approx(1003.0)]


def test_what_a_handler_starts_is_not_told_but_what_was_missed_is() -> None:
    world = World()
    world.main.obeys = False
    late: list[Simulated] = []

    def fork() -> None:
        if not late:
            missed = world.spawn(MAIN, obeys=False)
            missed.start -= 500  # it was there when the order came
            world.now += 0.05
            late.extend([missed, world.spawn(MAIN, obeys=False)])

    world.meanwhile = fork
    world.feed(Stop(5.0))
    assert [pid for pid, _ in world.sent] == [MAIN, late[0].pid]


def test_a_tree_that_forks_for_ever_is_not_looked_at_for_ever() -> None:
    world = World()
    world.end(world.main)
    world.spawn(GUARDIAN, obeys=False)
    looks = 0

    def fork() -> None:
        nonlocal looks
        looks += 1
        world.spawn(GUARDIAN, obeys=False)

    world.meanwhile = fork
    world.turn()
    assert LOOKS <= looks <= LOOKS + 1


def test_a_hidden_process_is_told_once_by_its_id_until_it_is_waited_for() -> None:
    world = World()
    hidden = world.spawn(GUARDIAN, hidden=True, obeys=False)
    world.main.obeys = False
    world.feed(Stop(5.0))
    world.feed(Signal(TERM))
    assert [pid for pid, _ in world.sent].count(hidden.pid) == 1
    world.end(hidden)
    world.turn()
    again = world.spawn(GUARDIAN, hidden=True, obeys=False)
    del world.processes[again.pid]
    again.pid = hidden.pid
    world.processes[again.pid] = again
    world.feed(Signal(TERM))
    assert [pid for pid, _ in world.sent].count(hidden.pid) == 2


# Who kills when


@pytest.mark.parametrize(
    ("events", "kill_by"),
    [
        ([], 1110.0),
        ([Deadline(1200.0, 1210.0)], 1210.0),
        ([Deadline(1005.0, 1006.0)], 1006.0),
        ([Stop(30.0)], 1030.0),
        ([Stop(30.0), Stop(60.0)], 1030.0),
        ([Stop(60.0), Stop(30.0)], 1030.0),
        ([Stop(300.0)], 1110.0),
        ([Stop(30.0), Deadline(1010.0, 1020.0)], 1020.0),
        ([Abandoned()], 1010.0),
        ([Abandoned(), Stop(60.0)], 1010.0),
        ([Stop(5.0), Abandoned()], 1005.0),
        ([Stop(5.0), Kill()], 1000.0),
    ],
)
def test_the_earliest_kill_by_wins(events: list[stopping.Event], kill_by: float) -> None:
    world = World()
    world.main.obeys = False
    for event in events:
        world.feed(event)
    world.pass_time(kill_by - world.now - 0.001)
    assert (world.destroyed == []) is (kill_by > 1000.0)
    world.pass_time(0.002)
    assert world.destroyed[0] == pytest.approx(kill_by)
    assert world.gone


def test_the_deadline_terminates_and_says_so() -> None:
    world = World()
    world.pass_time(99.5)
    assert world.sent == []
    assert not world.machine.overdue
    world.pass_time(1.0)
    assert world.machine.overdue
    assert world.sent == [(MAIN, (TERM, CONT))]
    assert world.said == [Gone(1100.0, 0)]


def test_without_any_deadline_all_is_killed_at_once() -> None:
    machine = Stopping(MAIN, Deadline(-math.inf, -math.inf))
    assert stopping.Destroy() in machine.handle(Tick(), 5.0)


def test_a_tree_that_forks_as_fast_as_it_is_killed_is_killed_without_a_pause() -> None:
    world = World(terminate=0.0, kill=0.0)
    world.settled = False
    world.main.killable = False
    world.turn()
    assert world.machine.wake_at() == world.now


def test_the_pause_between_kills_grows_to_its_limit_and_starts_afresh_with_a_new_process() -> None:
    world = World(terminate=0.0, kill=0.0)
    world.main.killable = False
    world.pass_time(5.0)
    gaps = [b - a for a, b in zip(world.destroyed, world.destroyed[1:], strict=False)]
    assert gaps[0] < 0.011
    assert gaps[-1] == pytest.approx(LONGEST_PAUSE)
    world.spawn(MAIN, killable=False)
    before = len(world.destroyed)
    world.pass_time(1.0)
    assert world.destroyed[before + 1] - world.destroyed[before] < 0.011


# The end


def test_gone_at_once_where_nothing_is_left() -> None:
    world = World()
    world.end(world.main)
    world.turn()
    assert world.said == [Gone(1000.0, 0)]
    assert world.sent == []
    world.feed(Kill())
    world.feed(Tick())
    assert world.destroyed == []
    assert world.machine.wake_at() == math.inf


def test_what_is_left_behind_is_terminated_counted_and_has_the_grace() -> None:
    world = World(terminate=100.0, kill=103.0)
    obedient = [world.spawn(MAIN) for _ in range(2)]
    stubborn = world.spawn(MAIN, obeys=False)
    world.end(world.main)
    world.pass_time(2.9)
    assert sorted(pid for pid, _ in world.sent) == [p.pid for p in (*obedient, stubborn)]
    assert not world.gone
    world.pass_time(0.2)
    assert world.destroyed[0] == pytest.approx(1003.0)
    assert [type(word) for word in world.said] == [Gone]
    assert world.machine.left == 3


def test_zombies_are_not_counted_as_left() -> None:
    world = World()
    child = world.spawn(MAIN)
    world.end(child)
    world.end(world.main)
    child.parent = MAIN  # not waited for by its parent, nor by us yet
    world.feed(stopping.MainEnded())
    assert world.machine.handle(stopping.NoChildLeft(), world.now) == [Gone(world.now, 0)]


def test_what_is_stopped_together_with_the_command_was_not_left_behind() -> None:
    world = World()
    world.spawn(MAIN)
    world.feed(Stop(5.0))
    world.pass_time(1.0)
    assert world.said == [Gone(1000.0, 0)]
    world = World(terminate=0.0, kill=0.0)
    world.spawn(MAIN)
    world.main.obeys = False
    world.pass_time(1.0)
    assert world.said == [Gone(1000.0, 0)]


def test_who_ignored_the_stop_that_the_command_obeyed_was_left_behind() -> None:
    world = World()
    world.spawn(MAIN, obeys=False)
    world.feed(Stop(5.0))
    world.pass_time(6.0)
    assert world.machine.left == 1
    assert world.gone


def test_what_cannot_be_killed_is_stuck_once_and_then_gone_after_all() -> None:
    world = World(terminate=0.0, kill=1.0)
    stone = world.spawn(MAIN, obeys=False, killable=False)
    world.pass_time(1.0 + STUCK_LIMIT - 0.01)
    assert world.said == []
    world.pass_time(0.02)
    assert world.said == [Stuck(1)]
    world.pass_time(60.0)
    assert world.said == [Stuck(1)]
    assert world.destroyed[-1] > world.now - 2 * LONGEST_PAUSE, "it goes on trying"
    world.end(stone)
    world.pass_time(1.0)
    assert isinstance(world.said[-1], Gone)


def test_the_last_transitions_can_be_asked_for() -> None:
    world = World()
    for number in range(100):
        world.feed(Deadline(2000.0 + number, 2100.0 + number))
        world.feed(Tick())
    recent = world.machine.recent()
    assert len(recent) == 64
    assert "2099" in recent[-1]
    world.feed(Stop(5.0))
    text = "\n".join(world.machine.recent())
    assert "Stop(timeout=5.0" in text
    assert "1 processes, signals=[15, 18]" in text
    assert "1 of 1 alive" in text


def test_what_is_for_main_alone_is_not_sent_once_it_was_killed_and_waited_for() -> None:
    world = World()
    world.spawn(MAIN, obeys=False, killable=False)
    world.feed(Kill())
    world.turn()
    assert world.main_reaped
    world.feed(Signal(signal.SIGUSR1, "main"))
    assert (MAIN, (signal.SIGUSR1,)) not in world.sent


# Whatever happens, in any order


class Anything(RuleBasedStateMachine):
    """A tree that does what it likes, under orders that come as they like."""

    @initialize(grace=st.floats(0.0, 5.0))
    def begin(self, grace: float) -> None:
        self.world = World(terminate=20.0, kill=20.0 + grace)
        self.kill_by = self.world.deadline.kill_at
        self.stop_by = math.inf
        self.world.on_main_ended = self.main_ended
        self.world.on_destroy = self.destroyed

    def main_ended(self) -> None:
        self.stop_by = min(self.stop_by, self.world.now + self.world.machine.grace)

    def destroyed(self) -> None:
        assert self.world.now >= self.due, "killed before its time"

    @property
    def due(self) -> float:
        return min(self.kill_by, self.stop_by)

    def alive(self) -> bool:
        return bool(self.world.living()) and not self.world.gone

    @precondition(alive)
    @rule(
        data=st.data(),
        obeys=st.booleans(),
        killable=st.integers(0, 9).map(bool),
        hidden=st.booleans(),
    )
    def fork(self, data: st.DataObject, obeys: bool, killable: bool, hidden: bool) -> None:
        if self.world.machine.state == "killing":
            return  # who could not be killed sleeps, uninterruptibly, and forks nothing
        living = self.world.living()
        parent = data.draw(st.sampled_from([process.pid for process in living]))
        self.world.spawn(parent, obeys=obeys, killable=killable, hidden=hidden)

    @precondition(alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.world.end(data.draw(st.sampled_from(self.world.living())))

    @rule(timeout=st.floats(0.0, 30.0), scope=st.sampled_from(["main", "all"]))
    def stop(self, timeout: float, scope: Scope) -> None:
        self.stop_by = min(self.stop_by, self.world.now + timeout)
        self.world.feed(Stop(timeout, scope))

    @rule(
        signum=st.sampled_from([signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP]),
        scope=st.sampled_from(["main", "all"]),
    )
    def pass_on(self, signum: int, scope: Scope) -> None:
        self.world.feed(Signal(signum, scope))

    @rule(terminate=st.floats(-5.0, 30.0), grace=st.floats(0.0, 5.0))
    def renew(self, terminate: float, grace: float) -> None:
        if self.due > self.world.now:  # no deadline brings back what is being killed
            self.kill_by = self.world.now + terminate + grace
        self.world.feed(Deadline(self.world.now + terminate, self.world.now + terminate + grace))

    @rule()
    def kill(self) -> None:
        self.stop_by = min(self.stop_by, self.world.now)
        self.world.feed(Kill())

    @rule()
    def abandon(self) -> None:
        self.stop_by = min(self.stop_by, self.world.now + self.world.machine.grace)
        self.world.feed(Abandoned())

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @invariant()
    def nothing_acts_after_its_time(self) -> None:
        if not hasattr(self, "world") or self.world.now <= self.due:
            return
        self.world.turn()
        if self.world.now > self.due:
            assert all(not each.killable for each in self.world.living()) or self.world.gone

    @invariant()
    def gone_is_said_once_and_last(self) -> None:
        if hasattr(self, "world"):
            kinds = [type(word) for word in self.world.said]
            assert kinds in ([], [Gone], [Stuck], [Stuck, Gone])

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.kill()
        self.world.pass_time(STUCK_LIMIT + 1)
        stones = self.world.living()
        assert self.world.gone is not bool(stones)
        assert not stones or Stuck(len(stones)) in self.world.said
        for stone in stones:
            self.world.end(stone)
        self.world.pass_time(1.0)
        assert self.world.gone


TestAnything = Anything.TestCase
TestAnything.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
