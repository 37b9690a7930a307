"""How a fault is seen to have taken hold, and the store to be whole again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from electctl.base.clock import now
from electctl.core.elector import connect
from electctl.core.leadership import Leadership
from electctl.errors import ElectctlError, NotElected, Unreachable
from electctl.faults.fault import NotInjected
from electctl.lab.capable import Led
from electctl.lab.cluster import Cluster

#: Seconds within which a fault must be seen to have taken hold. One look at a tree of processes
#: takes seconds on a host that is full of them.
DEADLINE = 20.0
#: Seconds that a store may take to be whole again; ZooKeeper has been seen to need minutes.
WHOLE_LIMIT = 240.0
#: Seconds for which an entry that is to be lost would last otherwise.
_LASTS = 60.0
_POLL = 0.002


def until(condition: Callable[[], bool], what: str, seconds: float | None = None) -> None:
    """Wait for ``condition``; raise NotInjected, saying ``what``, after ``seconds`` (DEADLINE)."""
    deadline = now() + (DEADLINE if seconds is None else seconds)
    while not condition():
        if now() > deadline:
            raise NotInjected(what)
        time.sleep(_POLL)


def mend(cluster: Cluster) -> None:
    """Resume and start what does not run, and wait until the store is whole.

    Raises Unreachable.
    """
    for server in cluster.servers:
        if server.paused:
            server.resume()
    cluster.start()
    if isinstance(cluster, Led):
        deadline = now() + WHOLE_LIMIT
        while not cluster.settled():
            if now() > deadline:
                raise Unreachable(f"the store is not whole again after {WHOLE_LIMIT:g} s")
            time.sleep(_POLL)


@contextmanager
def witness(cluster: Cluster) -> Iterator[Callable[[], bool | None]]:
    """A grant of an election of its own, and whether the store still has it; None: no answer.

    Raises NotInjected if there can be none now.
    """
    name = f"electctl-witness-{secrets.token_hex(4)}"
    with connect(cluster.url) as elector, ExitStack() as stack:
        try:
            leadership = elector.campaign(name, "witness", ttl=_LASTS, wait=DEADLINE)
            stack.callback(_give_back, leadership)
            granted = elector.holder(name)
            if granted is None:
                raise NotInjected("the store does not know what it granted")
        except (NotElected, Unreachable) as error:
            raise NotInjected(f"the store does not serve: {error.message}") from error

        def stands() -> bool | None:
            # By a new connection: a ZooKeeper that was put back refuses clients that know more.
            try:
                with connect(cluster.url) as asking:
                    holder = asking.holder(name)
                return holder is not None and holder.key == granted.key
            except ElectctlError:
                return None

        yield stands


def _give_back(leadership: Leadership) -> None:
    with suppress(ElectctlError):
        leadership.release()
