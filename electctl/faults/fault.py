"""What a fault is: how it is injected, how it is seen to have been suffered, how it is undone.

What this does not guarantee: that the fault did harm; that is for whoever looks on to say. A fault
that was not seen to take hold is :class:`NotInjected`, so that nothing passes for safe because
nothing happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

from electctl.base.clock import now
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy

#: Which of the store's members the leader reaches: all; the one that leads the store; one that
#: follows it. What the fault is done to depends on it.
Via = Literal["all", "leading", "following"]


class NotInjected(Exception):
    """The target was not seen to suffer the fault, or it cannot be set up here; the reason."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that took hold."""

    #: Who suffered it: "the leader a", "etcd-1".
    target: str
    #: What was seen of it: one sentence, with figures.
    confirmed: str
    #: When it was done, on electctl's clock; seeing it may have taken longer.
    at: float = field(default_factory=now)


class Candidate(Protocol):
    """A process that campaigns, and its command."""

    @property
    def name(self) -> str:
        """Its id."""

    @property
    def pid(self) -> int:
        """Of electctl itself, or of the tool in its place."""

    @property
    def ended(self) -> bool:
        """Whether that process has ended."""

    def tree(self) -> list[int]:
        """That process and all below it: guardian, command, what the command started."""

    def command_pids(self) -> list[int]:
        """The command and what it started, without electctl and its guardian."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may touch. The leader leads, and its command acts."""

    leader: Candidate
    cluster: Cluster
    #: The leader's own ways to the store: place in ``cluster.entrances`` → proxy.
    links: Mapping[int, Proxy]
    election: str
    #: Of the leader's lease, in seconds.
    ttl: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break something.

    >>> with fault.before(cluster):            # the store runs, nobody campaigns yet
    ...     ...                                # candidates start; the leader's command acts
    ...     with fault.inject(scene) as injected:   # NotInjected; else it has taken hold
    ...         ...                            # for as long as ``hold`` says
    ...     ...                                # undone

    Both contexts may raise NotInjected on entering, and leave things as they were then.
    """

    #: ``NAME`` or ``NAME:VARIANT``.
    name: str
    #: One line: what is done to whom.
    summary: str
    inject: Callable[[Scene], AbstractContextManager[Injected]]
    #: In TTLs: how long it is meant to last. None: until a successor acts.
    hold: float | None = None
    #: Why it does not apply to a cluster, started or not; None if it does.
    needs: Callable[[Cluster], str | None] = lambda cluster: None
    #: Done before anybody campaigns: a copy of the store is taken, replication is stopped.
    before: Callable[[Cluster], AbstractContextManager[None]] = lambda cluster: nullcontext()
    #: How the leader reaches the store; the others then reach the rest of its members.
    via: Via = "all"
