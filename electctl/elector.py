"""LeaderElector: campaign, holder, candidates, observe, evict over any backend.

What this does not guarantee: more than the backend's ``traits`` promise.
"""

from __future__ import annotations

import random
import socket
import threading
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl.backend import Backend, Bid, Candidacy, Grant, Holder
from electctl.clock import now
from electctl.errors import (
    ElectctlError,
    Inconclusive,
    NotElected,
    OutcomeUnknown,
    Unreachable,
    UnsafeTiming,
    UsageError,
)
from electctl.leadership import Leadership, Listener
from electctl.lease import Timing
from electctl.registry import open_backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from electctl.observe import Change
    from electctl.traits import Traits
    from electctl.url import BackendURL

#: Seconds within which a first contact must be made.
CONTACT_LIMIT = 10.0
MAX_NAME_BYTES = 1024
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 2.0
_EVICT_POLL = 0.5


def default_id() -> str:
    """``<host>_<uuid>``, as client-go's users write it."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it can name an election or a candidate; raise UsageError if not."""
    if not text:
        raise UsageError(f"the {what} is empty", hint="give it a name")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the {what} is not valid UTF-8", hint="use text") from None
    if size > MAX_NAME_BYTES:
        raise UsageError(
            f"the {what} has {size} bytes; {MAX_NAME_BYTES} are allowed", hint="shorten it"
        )
    if "\0" in text:
        raise UsageError(f"the {what} has a NUL byte in it", hint="remove it")
    return text


class Attempt:
    """One campaign for one term: :meth:`run` in one thread, :meth:`cancel` from any other."""

    def __init__(
        self,
        backend: Backend,
        election: str,
        candidate: str,
        timing: Timing,
        *,
        wait: float | None,
        grace: float | None,
        on_change: Listener | None = None,
        on_trouble: Callable[[ElectctlError], None] | None = None,
    ) -> None:
        self.bid = Bid(
            check_name(election, "election name"),
            check_name(candidate, "candidate id"),
            timing.ttl,
            timing.request_timeout,
        )
        self.candidacy: Candidacy = backend.candidacy(self.bid)
        self._backend = backend
        self._timing = timing
        self._wait = wait
        self._grace = grace
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make :meth:`run` withdraw and raise NotElected soon."""
        self._cancelled.set()
        self.candidacy.cancel()

    def run(self) -> Leadership:
        """Wait to be elected.

        Raises NotElected (``wait`` ran out, or cancelled), Unreachable (no first contact within
        the smaller of ``wait`` and 10 s), Refused, DuplicateId, UnsafeTiming (the store granted a
        TTL that is too short).
        """
        try:
            grant = self._acquire()
        except BaseException:
            self._withdraw()
            raise
        if grant is None:
            self._withdraw()
            raise NotElected(
                f"not elected for {self.bid.election!r}: "
                + ("cancelled" if self._cancelled.is_set() else self._why_not()),
                hint=None if self._cancelled.is_set() else "electctl holders shows who leads",
            )
        return self._lead(grant)

    def _why_not(self) -> str:
        if self._wait is None:
            return "the backend gave up waiting"
        return "somebody leads" if self._wait == 0 else f"waited {self._wait:g} s"

    def _acquire(self) -> Grant | None:
        began = now()
        deadline = None if self._wait is None else began + self._wait
        contact_by = began + (
            CONTACT_LIMIT if self._wait is None else min(self._wait, CONTACT_LIMIT)
        )
        backoff = _FIRST_BACKOFF
        while True:
            tried_at = now()
            try:
                return self.candidacy.acquire(deadline)
            except (Unreachable, OutcomeUnknown) as error:
                if self._cancelled.is_set():
                    return None
                if not self.candidacy.contacted and now() >= contact_by:
                    raise
                if deadline is not None and now() >= deadline:
                    return None
                if self._on_trouble is not None:
                    self._on_trouble(error)
            if now() - tried_at > _MAX_BACKOFF:
                backoff = _FIRST_BACKOFF  # it had been waiting in good order until then
            limit = contact_by if not self.candidacy.contacted else deadline
            pause = backoff * random.uniform(0.5, 1.0)
            if limit is not None:
                pause = min(pause, max(0.0, limit - now()))
            self._cancelled.wait(pause)
            backoff = min(backoff * 2, _MAX_BACKOFF)

    def _lead(self, grant: Grant) -> Leadership:
        timing = self._timing
        if grant.ttl != timing.ttl:
            try:
                timing = Timing.plan(
                    grant.ttl,
                    self._grace,
                    renewals=timing.renewals,
                    proof_lag=timing.proof_lag,
                    # The candidacy's requests were timed by the TTL asked for. A shorter grant
                    # must stand one of them; a longer one is renewed no later for it.
                    fixed_timeout=self.bid.request_timeout,
                )
            except UnsafeTiming as error:
                self._withdraw()
                raise UnsafeTiming(
                    f"the store granted {grant.ttl:g} s instead of {self.bid.ttl:g} s: "
                    f"{error.message}",
                    hint=error.hint,
                ) from None
        return Leadership(self._backend, self.candidacy, self.bid, grant, timing, self._on_change)

    def _withdraw(self) -> None:
        """Best effort: what cannot be delivered runs out by itself."""
        try:
            if self.candidacy.contacted:
                self.candidacy.release()
        except ElectctlError:
            pass
        finally:
            self.candidacy.close()


class LeaderElector:
    """Every way of electing a leader behind one interface; :func:`electctl.connect` opens one."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def traits(self) -> Traits:
        """What this scheme promises, under which assumptions, with sources."""
        return self.backend.traits

    @property
    def url(self) -> BackendURL:
        """The backend's URL; shown masked."""
        return self.backend.url

    def timing(self, ttl: float | None = None, grace: float | None = None) -> Timing:
        """The timing for this scheme; raises UnsafeTiming."""
        return Timing.of(self.traits, ttl, grace)

    def attempt(
        self,
        election: str,
        candidate: str | None = None,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        grace: float | None = None,
        on_change: Listener | None = None,
        on_trouble: Callable[[ElectctlError], None] | None = None,
    ) -> Attempt:
        """A campaign that another thread can cancel; :meth:`campaign` is the simple form."""
        return Attempt(
            self.backend,
            election,
            default_id() if candidate is None else candidate,
            self.timing(ttl, grace),
            wait=wait,
            grace=grace,
            on_change=on_change,
            on_trouble=on_trouble,
        )

    def campaign(
        self,
        election: str,
        candidate: str | None = None,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        grace: float | None = None,
    ) -> Leadership:
        """Wait up to ``wait`` seconds (None: for ever, 0: try once) to lead, and lead.

        ``ttl`` seconds is asked of the store; ``grace`` seconds is kept for stopping.

        Raises NotElected (``wait`` ran out), Unreachable (no first contact within the smaller of
        ``wait`` and 10 s), Refused, DuplicateId, UnsafeTiming, all of :mod:`electctl.errors`. In
        the ``with`` block, ``check()`` and ``checkpoint.set()`` raise LeadershipLost.
        """
        return self.attempt(election, candidate, ttl=ttl, wait=wait, grace=grace).run()

    def holder(self, election: str) -> Holder | None:
        """Who leads now, in the store's view; None when vacant."""
        return self.backend.view(check_name(election, "election name")).holder

    def candidates(self, election: str) -> tuple[str, ...]:
        """The ids of those who wait, in order where ``traits.order`` is ``fifo``."""
        return self.backend.view(check_name(election, "election name")).waiting

    def observe(self, election: str) -> Iterator[Change]:
        """Follow an election for ever: the current state first, then each change.

        Survives the loss of the backend, and yields ``unreachable`` and ``recovered`` for it.
        """
        from electctl.observe import Observation

        return iter(Observation(self.backend, check_name(election, "election name")))

    def evict(
        self, election: str, *, force: bool = False, wait: float | None = None
    ) -> Holder | None:
        """Ask the holder to stop and wait until it has; ``force`` deletes its grant at once.

        Returns the holder that has gone, None if nobody led. Raises Inconclusive if it still leads
        after ``wait`` seconds (None: for ever). Forcing can itself make two leaders: the deleted
        holder does not know yet.
        """
        target = self.backend.evict(check_name(election, "election name"), force=force)
        if target is None or force:
            return target
        deadline = None if wait is None else now() + wait
        asked = (target.id, target.token, target.key)
        watch = self.backend.watch(election)
        try:
            while True:
                pause = _EVICT_POLL if deadline is None else min(_EVICT_POLL, deadline - now())
                view = watch.next(max(0.0, pause))
                if view is not None and view.term != asked:
                    return target
                if deadline is not None and now() >= deadline:
                    raise Inconclusive(
                        f"{target.id!r} was asked to stop and still leads {election!r}",
                        hint="wait longer, or --force (which can itself make two leaders)",
                    )
        finally:
            watch.close()

    def close(self) -> None:
        """Free connections; leaderships are not released by it."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(url: str | BackendURL) -> LeaderElector:
    """Open a backend by URL. Makes no contact yet.

    Raises UsageError (malformed URL, unknown scheme), MissingDependency (client library).
    """
    return LeaderElector(open_backend(url))
