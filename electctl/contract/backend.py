"""The contract between the core and a backend.

A backend knows one store and does no timing arithmetic, no retries and no waiting longer than it
is told. It says when a request was sent and what the store granted; the core decides what follows.

Every method that talks to the store may raise

- ``Unreachable``: no contact; if a request was sent, it may still act;
- ``Throttled``: the store answered that it is asked too much, and for how long it wants to be left
  alone; the request has not acted;
- ``Refused``: credentials or permissions;
- ``OutcomeUnknown``: a request was sent and no answer came (same meaning as Unreachable for a
  candidacy: unknown stays unknown);

and maps *every* error of its client library to one of the classes of :mod:`electctl.errors`.

What a backend makes belongs to the process that made it. In a fork of that process connections are
shared with it, and locks may be held by threads that are not there; so nothing of the backend's own
code runs there: :class:`Candidacy`, :class:`Watch` and :class:`Backend` answer for it (``release``,
``cancel`` and ``close`` do nothing, ``renew`` is lost, the rest is an error).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from electctl.base import forks
from electctl.contract.lifecycle import Campaigning
from electctl.contract.traits import Traits
from electctl.errors import LeadershipLost, Unsupported, UsageError

if TYPE_CHECKING:
    from electctl.contract.url import BackendURL


#: Why a grant is not in the store any more, as the store says.
Gone = Literal["expired", "deleted"]


def _unheard(reason: Gone) -> None:
    """Nobody listens: the next renewal tells."""


@dataclass(frozen=True, slots=True)
class Bid:
    """What a candidate asks for. Times in seconds."""

    election: str
    candidate: str
    ttl: float
    #: How long one request to the store may take before its outcome counts as unknown.
    request_timeout: float
    #: To be called, from any thread, by a candidacy that learns between two renewals that the grant
    #: it returned is gone: a definite no of the store, as LeadershipLost is. Leadership ends in
    #: that call. May be called again, and for a grant that was released.
    superseded: Callable[[Gone], None] = field(default=_unheard, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """The store made us the leader.

    ``since`` is a reading of :func:`electctl.base.clock.now` from before the request that the
    store's expiry counts from was sent; ``ttl`` is what the store granted, in seconds; less the
    allowance for drift where :attr:`Traits.drift` says that the scheme takes it off.
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

    Two views show the same leadership if :attr:`term` is equal. ``doubt`` says in a few words why
    what it shows may be otherwise ("2 of 5 servers answered"; "an expired record looks like this
    one on first sight"); "" where it is certain.
    """

    holder: Holder | None
    waiting: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def certain(self) -> bool:
        """Whether the store stands by it, at some moment between question and answer."""
        return not self.doubt

    @property
    def term(self) -> tuple[str, int | None, str] | None:
        """What identifies this leadership; None when vacant."""
        return None if self.holder is None else (self.holder.id, self.holder.token, self.holder.key)

    @property
    def state(self) -> tuple[object, ...]:
        """What a watch tells of: two views whose ``state`` is equal differ by time alone."""
        return self.term, self.waiting, self.doubt


def _nothing() -> None:
    return None


def _lost() -> None:
    raise LeadershipLost(
        "leadership belongs to the process that won it, and this is a fork of it", reason="forked"
    )


def _error() -> None:
    raise UsageError(
        "this backend was opened by another process, of which this one is a fork",
        hint="open one in each process: electctl.connect(url)",
    )


class _Own:
    """Belongs to the process that made it; a fork of that process is kept away from it."""

    #: What is done in a fork instead of a public method; those that are not named are an error.
    _in_a_fork: ClassVar[Mapping[str, Callable[[], None]]] = {}
    _home: forks.Process

    def __new__(cls, *_args: object, **_more: object) -> Self:
        made = super().__new__(cls)
        made._home = forks.here()
        return made

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, method in [*vars(cls).items()]:
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(cls, name, _at_home(method, cls._in_a_fork.get(name, _error)))


def _at_home(method: Callable[..., Any], instead: Callable[[], None]) -> Callable[..., Any]:
    @wraps(method)
    def kept(self: _Own, *args: Any, **more: Any) -> Any:
        # Before anything else, a lock above all.
        return method(self, *args, **more) if self._home == forks.here() else instead()

    return kept


class Candidacy(_Own, ABC):
    """One attempt to lead, from entering to release; used once.

    ``acquire`` may be called again after it raised or returned None (the core's retry after an
    outage); the candidacy keeps its place and its nonce where it can, and settles what became of
    requests whose outcome was unknown. ``renew``, ``write_checkpoint`` and ``cancel`` are called
    from different threads.
    """

    _in_a_fork: ClassVar = {
        "renew": _lost,
        "write_checkpoint": _lost,
        "receipt": _nothing,
        "release": _nothing,
        "cancel": _nothing,
        "close": _nothing,
    }

    #: Set by the backend at the store's first answer: before it, silence means "unreachable".
    contacted = False
    #: Set by the backend when the store shows that somebody else leads: its id, or "" where that is
    #: not known. Only then is a wait in vain "not elected"; else the store could not take us in.
    rival: str | None = None

    @abstractmethod
    def acquire(self, deadline: float | None) -> Grant | None:
        """Enter, wait until elected, and return the grant; None once ``deadline`` has passed.

        ``deadline`` is on :func:`electctl.base.clock.now`; None waits for ever; one that has passed
        already tries once without waiting. None also after :meth:`cancel`. None because of the
        deadline only if :attr:`rival` was seen; else the error that kept us out. After None nothing
        of ours may stay in the store that could win later (a withdrawal that could not be delivered
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

    def receipt(self) -> str | None:
        """After a grant: a text with which any process can give back exactly this grant.

        It names the grant by what no other grant has (its nonce, lease, session), and no secret
        that :meth:`Backend.give_back` has from its URL. Makes no contact. None where the scheme
        cannot do that.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Free local resources. Sends nothing."""


class Watch(_Own, ABC):
    """A stream of views of one election. After an error it is closed, and a new one opened."""

    _in_a_fork: ClassVar = {"close": _nothing}

    @abstractmethod
    def next(self, timeout: float) -> View | None:
        """The current view on the first call, then every change in order.

        None if nothing changed for ``timeout`` seconds.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop watching; a blocked :meth:`next` in another thread returns or raises soon."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an election that nobody leads or awaits has left in the store.

    ``what`` names the kinds (``checkpoint``, ``token counter``, ``znodes``). ``last_used`` is Unix
    time in seconds, never earlier than the election was really used; None where the store cannot
    tell. ``seen`` is the backend's own, and what :meth:`Backend.sweep` makes sure of.
    """

    election: str
    what: tuple[str, ...]
    last_used: float | None
    seen: object = field(default=None, compare=False, repr=False)


#: Methods of a backend whose first argument is an election's name, or a bid that holds it.
_NAMES_AN_ELECTION = frozenset({"candidacy", "view", "watch", "evict", "read_checkpoint"})


def _by_canonical_name(method: Callable[..., Any]) -> Callable[..., Any]:
    """However somebody spells an election, a backend is told its one name."""

    @wraps(method)
    def named(self: Backend, election: str | Bid, *args: Any, **more: Any) -> Any:
        if isinstance(election, Bid):
            election = replace(election, election=self.canonical(election.election))
        else:
            election = self.canonical(election)
        return method(self, election, *args, **more)

    return named


class Backend(_Own, ABC):
    """One store, opened from a URL. Opening makes no contact.

    Every method that is told of an election gets its canonical name, whatever its caller wrote.

    ``notes`` collects remarks for people on what was found in the store, each one line; commands
    show them as warnings.
    """

    _in_a_fork: ClassVar = {"close": _nothing, "stop": _nothing}

    def __init_subclass__(cls, **more: Any) -> None:
        for name, method in [*vars(cls).items()]:
            if name in _NAMES_AN_ELECTION:
                setattr(cls, name, _by_canonical_name(method))
        # Last, for it must be outermost: in a fork nothing else runs.
        super().__init_subclass__(**more)

    def __init__(self, url: BackendURL) -> None:
        self.url = url
        self.notes: set[str] = set()
        #: Those who campaign. The core counts them in and out.
        self.campaigning = Campaigning(self.start, self.stop)

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What this scheme promises."""

    def canonical(self, election: str) -> str:
        """The one name of that election here. Raises UsageError for a name that can be none."""
        return self.traits.naming.canonical(election)

    def start(self) -> None:
        """Have running what must run here while anybody campaigns, and return once it does.

        For schemes without a store, whose candidates are peers of each other: a peer that answers
        the others, also those that only ask who leads. Called before the first candidacy enters,
        in the thread that enters it, again after it raised (Unreachable: it is tried again), and
        again after :meth:`stop`. Most have nothing to start.
        """

    def stop(self) -> None:
        """End what :meth:`start` started: the last candidacy is closed. Raises nothing.

        Closing the backend is another matter: candidacies go on after it, and so does this.
        """

    @abstractmethod
    def candidacy(self, bid: Bid) -> Candidacy:
        """A new attempt to lead. Makes no contact."""

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

    def give_back(self, receipt: str) -> None:
        """Remove the grant that ``receipt`` names, and no other; wake the next.

        For when its holder is gone: another process calls it once nothing acts under that grant any
        more. A grant that is not there any more is no error, so it may be called again. Raises
        UsageError for what is no receipt of this scheme.
        """
        raise Unsupported(f"{self.traits.scheme}:// cannot give back another process's grant")

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value written under that slot; None if there is none."""
        raise Unsupported(f"{self.traits.scheme}:// has no guarded checkpoint")

    def leftovers(self) -> Iterator[Leftover]:
        """What elections that are over have left, in no order; each is asked for as it is needed.

        Never one that is led or awaited now. Raises Unsupported where nothing is left.
        """
        raise Unsupported(f"{self.traits.scheme}:// knows no leftovers")

    def sweep(self, leftover: Leftover) -> bool:
        """Remove a leftover; False if the election has been used since, and nothing was removed.

        One atomic step in the store, with the check that nobody leads or waits and that nothing was
        changed. Tokens of that election go on growing when it is used again. Called from several
        threads at a time.
        """
        raise Unsupported(f"{self.traits.scheme}:// knows no leftovers")

    @abstractmethod
    def close(self) -> None:
        """Free connections. Grants are not released by it, and candidacies go on."""

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
class Native:
    """What a native tool of a store is asked in a drill: to run ``command`` while it leads.

    ``ttl`` in seconds; ``candidate`` is our name for it, of use where the tool has one.
    """

    url: BackendURL
    election: str
    candidate: str
    ttl: float
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NativeRun:
    """How a native tool is started, and what it gives."""

    argv: list[str]
    #: Added to the environment.
    env: dict[str, str]
    #: Whether the command finds a token that grows in ``ELECTCTL_TOKEN``.
    token: bool = False
    #: In seconds, where it is not the one asked for.
    ttl: float | None = None


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
    #: these need. The command line loads only these (:mod:`electctl.base.deferral`).
    parts: tuple[str, ...] = ()
    #: Native tools that elect on the same store, for drills: name → "module:function", which is
    #: given a :class:`Native` and gives a :class:`NativeRun`. Raises UsageError, MissingDependency.
    natives: dict[str, str] = field(default_factory=dict)
    #: An example URL for messages and docs.
    example: str = ""
    #: URL query options, name → what it does, checked when the URL is opened.
    options: dict[str, str] = field(default_factory=dict)
    #: Schemes of ours that promise something else than :attr:`traits` says, and what.
    variants: dict[str, Traits] = field(default_factory=dict)

    def traits_of(self, scheme: str) -> Traits:
        """What one of our schemes promises."""
        return self.variants.get(scheme, self.traits)
