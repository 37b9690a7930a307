"""The supervisor where a whole campaign does not get it: a leadership that comes too late."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from electctl.campaign import orders
from electctl.campaign.inbox import Inbox
from electctl.campaign.supervisor import Supervisor
from electctl.campaign.task import Job
from electctl.core.elector import LeaderElector, connect
from tests.guarded import LINUX_ONLY, guarded
from tests.processes import wait_for

pytestmark = LINUX_ONLY


@pytest.fixture
def elector(redis_url: str) -> Iterator[LeaderElector]:
    with connect(redis_url) as found:
        yield found


@pytest.fixture
def supervisor(elector: LeaderElector, election: str, tmp_path: Path) -> Iterator[Supervisor]:
    """One whose term is about to begin."""
    with guarded(tmp_path) as harness:
        job = Job(election, "we", "redis", "redis://", argv=("true",))
        found = Supervisor(job, elector, harness.guardian, Inbox(), lambda _event: None)
        yield found
        found._desk.close()


def test_what_was_won_after_we_had_given_it_up_is_given_back(
    supervisor: Supervisor, elector: LeaderElector, election: str
) -> None:
    """The win was on its way to the main thread when the signal came."""
    term = supervisor._term
    term.begin(0.0)
    leadership = elector.campaign(election, "we", ttl=30.0)
    for at in (1.0, 10.0):  # the second is not to be kept waiting
        term.handle(orders.Signalled(signal.SIGTERM, False), at)
    assert term.stage != "waiting"
    supervisor._win(term, leadership)
    wait_for(lambda: elector.holder(election) is None, what="it is given back")
    assert supervisor._leadership is None
    assert term.elected_at is None


def test_what_was_won_in_an_earlier_term_is_given_back(
    supervisor: Supervisor, elector: LeaderElector, election: str
) -> None:
    earlier = supervisor._term
    earlier.begin(0.0)
    leadership = elector.campaign(election, "we", ttl=30.0)
    supervisor._begin()
    supervisor._term.begin(2.0)
    assert supervisor._term.stage == earlier.stage == "waiting"
    supervisor._win(earlier, leadership)
    wait_for(lambda: elector.holder(election) is None, what="it is given back")
    assert supervisor._term.elected_at is None
