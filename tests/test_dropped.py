"""A leadership that a program neither releases nor keeps a name for."""

from __future__ import annotations

import gc
import weakref

from electctl.base.clock import now
from electctl.core.elector import connect
from tests.processes import wait_for

TTL = 1.5


def test_it_is_renewed_until_it_is_released(redis_url: str, election: str) -> None:
    """As LeaderElector.campaign and README.md say: the collector never gives it back."""
    with connect(redis_url) as elector, connect(redis_url) as observer:
        leadership = elector.campaign(election, "we", ttl=TTL)
        token, expiry = leadership.token, now() + TTL
        dropped = weakref.ref(leadership)
        del leadership
        gc.collect()
        wait_for(lambda: now() > expiry + TTL / 3, what="the first grant would have run out")
        holder = observer.holder(election)
        assert holder is not None
        assert (holder.id, holder.token) == ("we", token)
        # Its own threads are all that knows of it.
        again = dropped()
        assert again is not None
        again.release()
        assert observer.holder(election) is None
