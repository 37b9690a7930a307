"""Looking again and again: the pace as a pure decision, and the loop over it.

What this does not show: a store that polls (tests/test_conformance_example.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl.base.clock import now
from electctl.contract.backend import Holder, View
from electctl.core.polling import Pace, Pause, Poll, PollingWatch
from electctl.errors import Throttled, Unreachable

# The pace ----------------------------------------------------------------------------------------

TIMES = st.floats(0, 1e6)


@given(TIMES, st.floats(0.001, 60), st.floats(0, 1), st.floats(0, 1), st.floats(0, 100))
def test_a_pause_is_the_interval_or_a_little_less_unless_the_server_asks_for_more(
    at: float, interval: float, jitter: float, chance: float, retry_after: float
) -> None:
    pause = Pace(interval, jitter).after_a_look(at, chance, retry_after=retry_after)
    assert pause.then_look
    waited = pause.until - at
    assert waited >= retry_after - 1e-6
    assert waited <= max(interval, retry_after) + 1e-6
    assert waited >= interval * (1 - jitter) - 1e-6


@given(TIMES, st.floats(0.001, 60), st.floats(0, 1), st.floats(-10, 100), st.floats(0, 100))
def test_nothing_is_waited_for_beyond_the_deadline_and_the_last_look_is_at_it(
    at: float, interval: float, chance: float, left: float, retry_after: float
) -> None:
    deadline = at + left
    pause = Pace(interval).after_a_look(at, chance, deadline=deadline, retry_after=retry_after)
    assert at <= pause.until <= max(at, deadline)
    if pause.then_look:
        assert pause.until - at >= min(retry_after, max(left, 0)) - 1e-6
        assert at < deadline
    else:
        assert at >= deadline or at + retry_after > deadline, "given up too soon"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.1, 5))
def test_looks_of_any_chance_end_with_one_at_the_deadline(
    chances: list[float], deadline: float
) -> None:
    pace, at, looks = Pace(0.1), 0.0, [0.0]
    for chance in chances * 100:
        pause = pace.after_a_look(at, chance, deadline=deadline)
        if not pause.then_look:
            break
        at = pause.until
        looks.append(at)
    assert looks[-1] == deadline
    assert len(looks) <= 2 + deadline / 0.08


def test_a_server_that_asks_for_longer_than_there_is_time_is_not_asked_again() -> None:
    assert Pace(1.0).after_a_look(10, 0, deadline=15, retry_after=6) == Pause(15, False)
    assert Pace(1.0).after_a_look(10, 0, deadline=15, retry_after=4) == Pause(14, True)


# The loop ----------------------------------------------------------------------------------------


def counted(outcomes: list[object]) -> tuple[Callable[[], object], list[float]]:
    """Looks that end with each of ``outcomes`` in turn, then with None; and when they were."""
    times: list[float] = []

    def look() -> object:
        times.append(now())
        outcome = outcomes.pop(0) if outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return look, times


def test_it_looks_until_a_look_brings_something() -> None:
    look, times = counted([None, None, "found"])
    assert Poll(0.01).until(look, None) == "found"
    assert len(times) == 3


def test_a_deadline_that_has_passed_means_one_look() -> None:
    look, times = counted([])
    assert Poll(60).until(look, now() - 1) is None
    assert len(times) == 1
    assert Poll(60).until(lambda: "at once", now() - 1) == "at once"


def test_the_last_look_is_not_before_the_deadline() -> None:
    look, times = counted([])
    deadline = now() + 0.05
    assert Poll(60).until(look, deadline) is None
    assert len(times) == 2
    assert times[-1] >= deadline


def test_an_error_is_the_callers() -> None:
    look, times = counted([Unreachable("gone"), "never asked for"])
    with pytest.raises(Unreachable, match="gone"):
        Poll(0.01).until(look, None)
    assert len(times) == 1


def test_a_server_that_is_asked_too_much_is_left_alone_for_as_long_as_it_says() -> None:
    look, times = counted([Throttled("slow down", retry_after=0.2), "found"])
    assert Poll(0.001).until(look, None) == "found"
    assert times[1] - times[0] >= 0.2


def test_it_says_so_where_there_is_no_time_for_that() -> None:
    look, times = counted([Throttled("slow down", retry_after=60), "never asked for"])
    deadline = now() + 0.05
    with pytest.raises(Throttled, match="slow down"):
        Poll(0.001).until(look, deadline)
    assert len(times) == 1
    assert now() >= deadline


def test_cancelling_ends_it_for_good() -> None:
    poll = Poll(600)
    looked = threading.Event()
    ended: list[object] = []

    def look() -> None:
        looked.set()

    thread = threading.Thread(target=lambda: ended.append(poll.until(look, None)))
    thread.start()
    assert looked.wait(10)
    poll.cancel()
    thread.join(10)
    assert ended == [None]
    assert poll.until(lambda: "never looked for", None) is None


def test_a_watch_of_looks_tells_what_is_new_and_nothing_else() -> None:
    views = [
        View(Holder("a", 1, "k", expires_in=3.0)),
        View(Holder("a", 1, "k", expires_in=2.0)),
        View(Holder("a", 1, "k"), ("b",)),
        View(None),
    ]
    watch = PollingWatch(lambda: views.pop(0) if len(views) > 1 else views[0], 0.001)
    told = [watch.next(1.0) for _ in range(3)]
    assert [view and (view.term, view.waiting) for view in told] == [
        (("a", 1, "k"), ()),
        (("a", 1, "k"), ("b",)),
        (None, ()),
    ]
    assert watch.next(0.01) is None
    watch.close()
    assert watch.next(60) is None


def test_a_watch_looks_once_an_interval_however_often_it_is_asked() -> None:
    look, times = counted([View(None)] * 10)
    watch = PollingWatch(cast("Callable[[], View]", look), 600)
    assert watch.next(0) == View(None)
    for timeout in (0, 0.01, 0.01):
        assert watch.next(timeout) is None
    assert len(times) == 1


def test_a_watch_tells_of_a_store_that_asks_for_longer_than_it_may_wait() -> None:
    look, times = counted([Throttled("slow down", retry_after=60), "never asked for"])
    watch = PollingWatch(cast("Callable[[], View]", look), 0.001)
    began = now()
    with pytest.raises(Throttled, match="slow down"):
        watch.next(0.05)
    assert len(times) == 1
    assert now() - began >= 0.05
