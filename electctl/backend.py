"""The contract between the core and a backend.

A backend knows one store and does no timing arithmetic, no retries and no waiting longer than it
is told. It says when a request was sent and what the store granted; the core decides what follows.

Every method that talks to the store may raise

- ``Unreachable``: no contact; if a request was sent, it may still act;
- ``Refused``: credentials or permissions;
- ``OutcomeUnknown``: a request was sent and no answer came (same meaning as Unreachable for a
  candidacy: unknown stays unknown);

and maps *every* error of its client library to one of the classes of :mod:`electctl.errors`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl.errors import Unsupported
from electctl.traits import Traits

if TYPE_CHECKING:
    from electctl.lab.cluster import Cluster
    from electctl.url import BackendURL


@dataclass(frozen=True, slots=True)
class Bid:
    """What a candidate asks for. Times in seconds."""

    election: str
    candidate: str
    ttl: float
    #: How long one request to the store may take before its outcome counts as unknown.
    request_timeout: float


@dataclass(frozen=True, slots=True)
class Grant:
    """The store made us the leader.

    ``since`` is a reading of :func:`electctl.clock.now` from before the request that the store's
    expiry counts from was sent; ``ttl`` is what the store granted, in seconds.
    """

    token: int | None
    since: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """The store confirmed that we lead. ``stop_requested``: somebody asked us to stop (evict)."""

    since: float
    ttl: float
    stop_requested: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """Who leads, as the store sees it.

    ``id`` is "" for an anonymous holder; ``key`` tells two terms of one id apart (nonce, lease,
    znode) and is opaque. ``since`` is a wall-clock text (RFC 3339), only where the store knows
    when leadership began. ``ttl`` and ``expires_in`` are seconds, where the scheme can tell.
    ``can_be_asked`` is False for a foreign tool's holder, which no eviction mark reaches.
    """

    id: str
    token: int | None = None
    key: str = ""
    since: str | None = None
    ttl: float | None = None
    expires_in: float | None = None
    can_be_asked: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """One election at one moment, as the store sees it. ``waiting`` is in order where there is one.

    Two views show the same leadership if :attr:`term` is equal.
    """

    holder: Holder | None
    waiting: tuple[str, ...] = ()

    @property
    def term(self) -> tuple[str, int | None, str] | None:
        """What identifies this leadership; None when vacant."""
        return None if self.holder is None else (self.holder.id, self.holder.token, self.holder.key)


class Candidacy(ABC):
    """One attempt to lead, from entering to release; used once.

    ``acquire`` may be called again after it raised or returned None (the core's retry after an
    outage); the candidacy keeps its place and its nonce where it can, and settles what became of
    requests whose outcome was unknown. ``renew``, ``write_checkpoint`` and ``cancel`` are called
    from different threads.
    """

    #: Set by the backend at the store's first answer: before it, silence means "unreachable".
    contacted = False

    @abstractmethod
    def acquire(self, deadline: float | None) -> Grant | None:
        """Enter, wait until elected, and return the grant; None once ``deadline`` has passed.

        ``deadline`` is on :func:`electctl.clock.now`; None waits for ever; one that has passed
        already tries once without waiting. None also after :meth:`cancel`. After None nothing of
        ours may stay in the store that could win later (a withdrawal that could not be delivered
        is left to expire). Raises DuplicateId where the scheme can tell that another live process
        campaigns under this id.
        """

    @abstractmethod
    def renew(self) -> Renewal:
        """Ask the store once to go on. LeadershipLost is a definite no; unknown raises the others.

        Answers within the bid's ``request_timeout``, one way or another.
        """

    @abstractmethod
    def release(self) -> None:
        """Give up: remove our grant or our place in the queue, and nobody else's; wake the next.

        Safe to call at any time, also twice, also when it is not known whether we hold anything.
        """

    @abstractmethod
    def cancel(self) -> None:
        """From any thread: make a blocked :meth:`acquire` return None soon."""

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """Store ``value`` in one atomic step with the check that our grant is current.

        Raises LeadershipLost if it is not (nothing is written), OutcomeUnknown if no answer came.
        ``seq`` grows with each value within one grant and is the same when an unknown write is
        tried again: the store ignores a write whose ``seq`` is below the one it has for this
        grant, so a delayed write can never undo a later one.
        """
        raise Unsupported("this scheme has no guarded checkpoint")

    @abstractmethod
    def close(self) -> None:
        """Free local resources. Sends nothing."""


class Watch(ABC):
    """A stream of views of one election. After an error it is closed, and a new one opened."""

    @abstractmethod
    def next(self, timeout: float) -> View | None:
        """The current view on the first call, then every change in order.

        None if nothing changed for ``timeout`` seconds.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop watching; a blocked :meth:`next` in another thread returns or raises soon."""


class Backend(ABC):
    """One store, opened from a URL. Opening makes no contact.

    ``notes`` collects remarks for people on what was found in the store, each one line; commands
    show them as warnings.
    """

    def __init__(self, url: BackendURL) -> None:
        self.url = url
        self.notes: set[str] = set()

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What this scheme promises."""

    @abstractmethod
    def candidacy(self, bid: Bid) -> Candidacy:
        """A new attempt to lead. Makes no contact. Raises UsageError on a name it cannot carry."""

    @abstractmethod
    def view(self, election: str) -> View:
        """Who leads and who waits, now."""

    @abstractmethod
    def watch(self, election: str) -> Watch:
        """Follow an election."""

    @abstractmethod
    def evict(self, election: str, *, force: bool) -> Holder | None:
        """Ask the present holder to stop, or with ``force`` delete its grant at once.

        Returns the holder that was asked or deleted, None if nobody leads. The mark names that one
        term, so it can never hit a later one.
        """

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value written under that slot; None if there is none."""
        raise Unsupported(f"{self.traits.scheme}:// has no guarded checkpoint")

    @abstractmethod
    def close(self) -> None:
        """Free connections. Grants are not released by it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point of the group ``electctl.backends`` names.

    Importing the module that holds it must not import a client library: ``backend`` and ``lab``
    are "module:attribute" texts, loaded when they are used. ``requires`` is the distribution to
    name in the hint when the client library is missing.
    """

    schemes: tuple[str, ...]
    traits: Traits
    backend: str
    requires: str = ""
    #: "module:function", called with the URL and a function that takes a line for people, before a
    #: command opens the backend: starts what the scheme starts by itself. Most start nothing.
    prepare: str = ""
    lab: str | None = None
    #: Submodules of the client library that ``backend`` imports, where its package loads more than
    #: these need. The command line loads only these (:mod:`electctl.deferral`).
    parts: tuple[str, ...] = ()
    #: An example URL for messages and docs.
    example: str = ""
    #: URL query options, name → what it does, checked when the URL is opened.
    options: dict[str, str] = field(default_factory=dict)
    #: Schemes of ours that promise something else than :attr:`traits` says, and what.
    variants: dict[str, Traits] = field(default_factory=dict)

    def traits_of(self, scheme: str) -> Traits:
        """What one of our schemes promises."""
        return self.variants.get(scheme, self.traits)


BackendFactory = Callable[["BackendURL"], Backend]
ClusterFactory = Callable[..., "Cluster"]
