"""What the suite must be told of a store: how to reach it, break it and bypass it.

What this does not guarantee: that a fault had an effect. Each case asserts that it saw one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from electctl.core.elector import LeaderElector, connect
from electctl.faults.fault import Injected
from electctl.faults.members import OF_MEMBER
from electctl.lab.capable import Separable
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Counters, Directions, Proxy

#: Holds an election by a native tool: called with its name and the seconds it may try, it yields
#: whether it got it, and gives it back on leaving.
Foreign = Callable[[str, float], AbstractContextManager[bool]]


class Link:
    """A way to the store that can be broken: one proxy before each of its entrances.

    A context manager. Its faults are those of :class:`electctl.lab.proxy.Proxy`, put on all of
    them; ``url`` leads through it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._proxies = [Proxy(server.address) for server in cluster.entrances]
        self.url = cluster.url_for([("127.0.0.1", proxy.port) for proxy in self._proxies])

    def forward(self) -> None:
        """Pass everything on, deliver what was held, accept connections again."""
        for proxy in self._proxies:
            proxy.forward()

    def delay(self, seconds: float, direction: Directions = "both") -> None:
        """Deliver every byte ``seconds`` later."""
        for proxy in self._proxies:
            proxy.delay(seconds, direction=direction)

    def swallow(self, direction: Directions = "both") -> None:
        """Accept and drop: silence, as of a cut cable."""
        for proxy in self._proxies:
            proxy.swallow(direction)

    def hold(self, direction: Directions = "both") -> None:
        """Keep bytes back until :meth:`forward`."""
        for proxy in self._proxies:
            proxy.hold(direction)

    def cut(self, *, refuse: bool = True) -> None:
        """Reset every connection, and refuse new ones until :meth:`forward`."""
        for proxy in self._proxies:
            proxy.cut(refuse=refuse)

    def admit_only(self, entrance: int) -> None:
        """Lead to that entrance alone until :meth:`forward`; whoever is connected to it stays."""
        for number, proxy in enumerate(self._proxies):
            if number != entrance:
                proxy.cut()

    def cut_after(self, count: int, direction: Directions) -> None:
        """Reset the connection that carries byte ``count`` + 1 of one direction from now on."""
        assert direction != "both"
        for proxy in self._proxies:
            proxy.cut_after(count, direction)

    @property
    def counters(self) -> list[Counters]:
        """What each proxy has passed and broken."""
        return [proxy.counters for proxy in self._proxies]

    @property
    def held(self) -> int:
        """Bytes of requests that are held or delayed now."""
        return sum(counters.requests.held for counters in self.counters)

    @property
    def replied(self) -> int:
        """Bytes of replies that have passed; of the busiest entrance."""
        return max(counters.replies.forwarded for counters in self.counters)

    @property
    def requested(self) -> int:
        """Bytes of requests that have passed; of the busiest entrance."""
        return max(counters.requests.forwarded for counters in self.counters)

    @property
    def sent(self) -> tuple[int, int]:
        """What clients did so far: connections made, bytes sent."""
        counters = self.counters
        return (
            sum(each.accepted for each in counters),
            sum(
                each.requests.forwarded + each.requests.swallowed + each.requests.held
                for each in counters
            ),
        )

    @property
    def broken(self) -> int:
        """Connections that were reset by a fault."""
        return sum(counters.cut for counters in self.counters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for proxy in self._proxies:
            proxy.close()


class Harness(ABC):
    """One running store. Subclass it for each backend; every answer is yours to give.

    ``ttl`` is the TTL in seconds that the cases ask for: as short as the store honours, long
    enough for a renewal to be missed on a busy machine (a second or two).
    """

    ttl: float = 2.0
    #: Whether ``LeaderElector.candidates`` can tell who waits. True wherever there is an order.
    lists_waiters: bool = True

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def url(self) -> str:
        """The store's URL, with no proxy in between."""
        return self.cluster.url

    def open(self, url: str) -> LeaderElector:
        """An elector. The default finds the backend by its entry point, as users do."""
        return connect(url)

    def link(self) -> Link:
        """A way to the store that can be broken without harm to others."""
        return Link(self.cluster)

    def stop(self) -> None:
        """Stop the store; what it keeps over a restart is its own affair."""
        self.cluster.stop()

    def start(self) -> None:
        """Start it again, on the same addresses, and wait until it answers."""
        self.cluster.start()

    @abstractmethod
    def revoke(self, election: str) -> None:
        """Take the present grant away on the server's side, past electctl.

        Delete the key, revoke the lease, kill the session: what an operator could do.
        """

    @abstractmethod
    def wrong_credentials(self) -> str | None:
        """A URL with a password of ``wrong-secret`` that the store refuses.

        None where the scheme has no credentials.
        """

    def full(self) -> AbstractContextManager[None] | None:
        """While it is entered the store answers reads and takes no writes: it is full.

        None where the store has no such state.
        """
        return None

    @abstractmethod
    def foreign(self) -> Foreign | None:
        """How to hold an election with a native tool; None where there is none."""


class EnsembleHarness(Harness):
    """A store of three members or more, of which a majority serves, for EnsembleConformance.

    A member is named by its place in ``cluster.entrances``. The cluster must be breakable, and be
    able to separate its members (:class:`electctl.lab.capable.Separable`).
    """

    #: Seconds: a TTL that outlives the loss of any one member, the store's own leader included.
    patient_ttl: float = 10.0
    #: Whether the others elect another leader of the store soon (some ten seconds) when theirs is
    #: separated from them, all connections staying open. If not, only followers are separated.
    replaces_separated_leader: bool = True

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._suffered = ExitStack()

    @property
    def _store(self) -> Separable:
        assert isinstance(self.cluster, Separable), "its members cannot be separated"
        assert self.cluster.breakable, "it was not made breakable"
        return self.cluster

    @property
    def followers_serve(self) -> bool:
        """Whether clients are served by way of any member.

        If not, they reach the store's leader alone, and the cases that need a client of a follower
        are left out.
        """
        return self._store.followers_serve

    @property
    def members(self) -> range:
        """The numbers of all members."""
        return range(len(self.cluster.entrances))

    def url_of(self, *members: int) -> str:
        """The URL of these members alone, in this order."""
        return self.cluster.url_for([self.cluster.entrances[m].address for m in members])

    def leading(self) -> int:
        """The member that leads the store itself. Asked only of a store that is whole."""
        return self._store.leading()

    def whole(self) -> bool:
        """Whether every member serves, and knows of the majority."""
        return self._store.settled()

    def suffer(self, fault: str, member: int) -> Injected:
        """Have a member killed, paused or separated (``OF_MEMBER``) until :meth:`mend`.

        Returns once it was seen to have happened; raises NotInjected if it was not.
        """
        return self._suffered.enter_context(OF_MEMBER[fault](self.cluster, member))

    def restart(self, member: int) -> None:
        """Stop it in good order and start it again on what it stored."""
        self.cluster.entrances[member].restart()

    def mend(self) -> None:
        """Undo all of the above. The store is :meth:`whole` some time later."""
        self._suffered.close()
        self.cluster.start()
