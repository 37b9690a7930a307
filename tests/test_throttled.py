"""A store that asks to be left alone: heeded everywhere, and no lease is counted longer for it.

What this does not show: a store that is overloaded. The candidacies here answer what
each test says.
"""

from __future__ import annotations

import itertools
import math
import threading

import grpc
import pytest
from electctl_file.backend import FileBackend
from hypothesis import given
from hypothesis import strategies as st

from electctl.base.clock import now
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal, View
from electctl.contract.url import BackendURL
from electctl.core import lease
from electctl.core.elector import LeaderElector
from electctl.core.observe import Observation
from electctl.errors import NotElected, Throttled
from electctl_etcd.rpc import describe

# A renewal ---------------------------------------------------------------------------------------


def sent_until_the_end(machine: lease.Lease, answer_after: float, patience: float) -> list[float]:
    """When renewals go out to a store that answers each of them by asking for patience."""
    times: list[float] = []
    at = machine.since
    todo = machine.start(at)
    while machine.state == "held":
        sent = [each for each in todo if isinstance(each, lease.SendRenewal)]
        if sent:
            times.append(at)
            at += answer_after
            event: lease.Event = lease.RenewalUnknown(sent[-1].seq, "slow down", patience)
        else:
            at = machine.wake_at() or at
            event = lease.Tick()
        todo = machine.handle(event, at)
    return times


@given(st.floats(1, 100), st.floats(0, 1), st.floats(0, 200))
def test_patience_moves_no_deadline_and_leaves_one_last_try(
    ttl: float, part: float, patience: float
) -> None:
    timing = lease.Timing.plan(ttl)
    machine = lease.Lease(timing, since=0, ttl=ttl)
    until, stop_at = machine.valid_until, machine.terminate_at
    answer = part * timing.request_timeout / 2
    times = sent_until_the_end(machine, answer, patience)
    assert (machine.valid_until, machine.terminate_at) == (until, stop_at)
    last = stop_at - timing.request_timeout
    assert times[0] == timing.renew_interval
    for earlier, later in itertools.pairwise(times):
        assert later + 1e-9 >= min(earlier + answer + patience, last)
    assert times[-1] >= last - timing.renew_interval - patience - 1e-9
    if times[0] + answer < last:
        assert len(times) >= 2, "given up without a last try that could have been answered"


def test_a_store_that_asks_for_more_than_there_is_gets_one_last_try() -> None:
    timing = lease.Timing.plan(9.0)
    machine = lease.Lease(timing, since=0, ttl=9.0)
    last = machine.terminate_at - timing.request_timeout
    assert sent_until_the_end(machine, 0.01, 1000) == pytest.approx([timing.renew_interval, last])


# Entering, watching ------------------------------------------------------------------------------


class Overloaded(Candidacy):
    """Asks for patience ``times`` times, then elects; each renewal after that is confirmed."""

    def __init__(self, bid: Bid, times: int, patience: float) -> None:
        self.bid, self.left, self.patience = bid, times, patience
        self.contacted = True
        self.asked: list[float] = []
        self.cancelled = False

    def acquire(self, deadline: float | None) -> Grant | None:
        if self.cancelled:
            return None
        self.asked.append(now())
        if self.left:
            self.left -= 1
            raise Throttled("slow down", retry_after=self.patience)
        return Grant(1, now(), self.bid.ttl)

    def renew(self) -> Renewal:
        return Renewal(now(), self.bid.ttl)

    def release(self) -> None: ...

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None: ...


class OverloadedBackend(FileBackend):
    def __init__(self, times: int, patience: float) -> None:
        super().__init__(BackendURL.parse("file:///nowhere"))
        self.times, self.patience = times, patience
        self.given: list[Overloaded] = []
        self.looks: list[float] = []

    def candidacy(self, bid: Bid) -> Candidacy:
        self.given.append(Overloaded(bid, self.times, self.patience))
        return self.given[-1]

    def view(self, election: str) -> View:
        self.looks.append(now())
        if len(self.looks) <= self.times:
            raise Throttled("slow down", retry_after=self.patience)
        return View(None)


def test_who_enters_waits_for_as_long_as_the_store_asks() -> None:
    backend = OverloadedBackend(1, 0.4)
    with LeaderElector(backend).campaign("e", "a", ttl=6.0):
        first, second = backend.given[0].asked
        assert second - first >= 0.4


def test_a_wait_that_ends_sooner_than_that_is_an_outage_and_asks_no_more() -> None:
    backend = OverloadedBackend(1, 60.0)
    began = now()
    with pytest.raises(Throttled, match="slow down") as caught:
        LeaderElector(backend).campaign("e", "a", ttl=6.0, wait=0.3)
    assert caught.value.exit_code == 69
    assert now() - began >= 0.3
    assert len(backend.given[0].asked) == 1


def test_who_waits_for_the_store_can_be_cancelled() -> None:
    backend = OverloadedBackend(1, 600.0)
    asked = threading.Event()
    attempt = LeaderElector(backend).attempt("e", "a", ttl=6.0, on_trouble=lambda _: asked.set())

    def cancel() -> None:
        assert asked.wait(10)
        attempt.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(NotElected, match="cancelled"):
        attempt.run()
    thread.join()


@pytest.mark.parametrize(("patience", "seen"), [(0.5, ["vacant"]), (1.5, ["unreachable"])])
def test_an_observer_leaves_it_alone_too(patience: float, seen: list[str]) -> None:
    """For longer than a watch waits, it is an outage that is told."""
    backend = OverloadedBackend(1, patience)
    changes = iter(Observation(backend, "e"))
    assert [next(changes).kind for _ in seen] == seen
    if seen == ["unreachable"]:
        assert next(changes).kind == "recovered"
    first, second = backend.looks[:2]
    assert second - first >= patience


@pytest.mark.parametrize("asked", [60.5, 86400.0, 1e300, math.inf])
def test_a_store_is_left_alone_for_a_minute_at_most(asked: float) -> None:
    assert Throttled("slow down", retry_after=asked).retry_after == 60


@pytest.mark.parametrize("asked", [-1.0, -math.inf, math.nan])
def test_what_is_no_time_is_none(asked: float) -> None:
    assert Throttled("slow down", retry_after=asked).retry_after == 0


def test_an_observer_of_a_store_that_asks_for_ages_can_be_closed() -> None:
    backend = OverloadedBackend(1, 1e300)
    observation = Observation(backend, "e")
    changes = iter(observation)
    assert next(changes).kind == "unreachable"
    closer = threading.Timer(0.1, observation.close)
    closer.start()
    assert list(changes) == []
    closer.join()


def test_etcd_says_that_it_is_asked_too_much() -> None:
    told = describe(grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", "h:1")
    assert isinstance(told, Throttled)
    assert "h:1" in told.message
