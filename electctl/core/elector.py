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

from electctl.base import forks, threads
from electctl.base.clock import now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant, Holder, View
from electctl.contract.naming import check_name
from electctl.core.leadership import Leadership, Listener, Word
from electctl.core.lease import MARGIN, Timing, ttl_granted
from electctl.core.receipt import Receipt
from electctl.core.registry import open_backend
from electctl.errors import (
    ElectctlError,
    Inconclusive,
    NotElected,
    OutcomeUnknown,
    Throttled,
    Unreachable,
    UnsafeTiming,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from electctl.contract.lifecycle import Stay
    from electctl.contract.traits import Traits
    from electctl.contract.url import BackendURL
    from electctl.core.observe import Change

#: Seconds within which a first contact must be made.
CONTACT_LIMIT = 10.0
#: Seconds beyond the time for waiting that an answer, or a withdrawal, is waited for.
LINGER = 1.5
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 2.0
_EVICT_POLL = 0.5
#: Seconds beyond the time for a first contact in which a candidacy may say itself what is amiss.
_LAST_WORD = 0.15
#: Seconds between two looks at what moves a limit.
_GLANCE = 0.5


def default_id() -> str:
    """``<host>_<uuid>``, as client-go's users write it."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Attempt:
    """One campaign for one term: :meth:`run` once, in one thread; :meth:`cancel` from any other."""

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
        self._word = Word()
        #: What runs for the candidacy, once it has entered.
        self._stay: Stay | None = None
        self.bid = Bid(
            backend.canonical(election),
            check_name(candidate, "candidate id"),
            timing.ttl,
            timing.request_timeout,
            self._word.say,
        )
        self.candidacy: Candidacy = backend.candidacy(self.bid)
        self._backend = backend
        self._timing = timing
        self._wait = wait
        self._grace = grace
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._home = forks.here()
        #: Taken by the first run, and never given back.
        self._used = threading.Lock()
        self._began = 0.0
        #: What kept us from entering last.
        self._trouble: ElectctlError | None = None
        self._cancelled_at: float | None = None
        #: The candidacy did not come back in time, and its call was given up.
        self.given_up = False
        #: Set when nobody waits any more.
        self._stopped = threading.Event()

    def cancel(self) -> None:
        """Make :meth:`run` withdraw and raise NotElected soon. Does nothing in a fork."""
        if self._home != forks.here():
            return
        if self._cancelled_at is None:
            self._cancelled_at = now()
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self.candidacy.cancel()

    def run(self) -> Leadership:
        """Wait to be elected.

        Raises NotElected (somebody leads, and ``wait`` ran out; or cancelled), Unreachable (no
        first contact within the smaller of ``wait`` and 10 s; or ``wait`` ran out, nobody was seen
        leading, and the store could not take us in), Refused, DuplicateId, UnsafeTiming (the store
        granted a TTL that is too short), UsageError (it was called before: there would be two
        leaderships of one grant, and the release of one would not end the other).

        It ends in time also if a request does not, or a name's resolver: what such a request brings
        late is given back at once, by a thread that is left behind.
        """
        if not self._used.acquire(blocking=False):
            raise UsageError(
                "an attempt is for one term, and this one was run before",
                hint="make another: elector.attempt(…)",
            )
        self._began = now()
        caller = threads.Caller("electctl-calls")
        try:
            grant = self._wait_for(caller)
            if grant is None:
                raise self._in_vain()
            return self._lead(grant, caller)
        except BaseException:
            caller.end()
            raise

    def _wait_for(self, caller: threads.Caller) -> Grant | None:
        """The grant, if it comes for as long as we may wait. Raises what :meth:`_enter` raises."""
        call = caller.call(self._enter)
        try:
            # The limit moves when we are cancelled, and with the first contact.
            while not call.wait(min(self._limit(), now() + _GLANCE)):
                if now() >= self._limit():
                    break
        except BaseException:  # KeyboardInterrupt above all
            self._stop()
            try:
                call.wait(now() + LINGER)
            finally:  # whoever is in a hurry interrupts that too
                given_up = call.give_up(self._too_late)
                if not given_up and call.succeeded and call.result() is not None:
                    caller.call(self._withdraw).wait(now() + LINGER)
            raise
        self.given_up = call.give_up(self._too_late)
        if self.given_up:
            self._stop()
            return None
        return call.result()

    def _too_late(self, grant: Grant | None) -> None:
        if grant is not None:
            self._withdraw()

    def _limit(self) -> float:
        """Until when the store's answer is waited for."""
        if self._cancelled_at is not None:
            return self._cancelled_at + LINGER
        if not self.candidacy.contacted:
            # One try is no try without the time for it.
            return self._contact_by + (CONTACT_LIMIT if self._wait == 0 else _LAST_WORD)
        if self._wait is None:
            return float("inf")
        return self._began + (self._wait or CONTACT_LIMIT) + LINGER

    @property
    def _contact_by(self) -> float:
        return self._began + (
            CONTACT_LIMIT if self._wait is None else min(self._wait, CONTACT_LIMIT)
        )

    def _in_vain(self) -> ElectctlError:
        """Why there is no leadership, and no error either that tells why."""
        election = f"not elected for {self.bid.election!r}"
        if self._cancelled_at is not None:
            return NotElected(f"{election}: cancelled")
        waited = f" (waited {self._wait:g} s)" if self._wait else ""
        rival = self.candidacy.rival
        if rival is not None:
            who = repr(rival) if rival else "somebody"
            return NotElected(
                f"{election}: {who} leads{waited}", hint="electctl holders shows who leads"
            )
        # Not a word of who leads: it is the store that did not let us in.
        if self._trouble is not None:
            return _no_entry(self._trouble)
        return Unreachable(
            f"{election}: the backend did not answer in time{waited}",
            hint="is it running, and does the name server answer?",
        )

    # In the caller's thread ----------------------------------------------------------------------

    def _enter(self) -> Grant | None:
        try:
            grant = self._acquire()
        except BaseException:
            self._withdraw()
            raise
        if grant is None:
            self._withdraw()
        return grant

    def _acquire(self) -> Grant | None:
        """None if it was in vain."""
        deadline = None if self._wait is None else self._began + self._wait
        backoff = _FIRST_BACKOFF
        while True:
            tried_at = now()
            try:
                self._stay = self._stay or self._backend.campaigning.enter()
                return self.candidacy.acquire(deadline)
            except (Unreachable, OutcomeUnknown) as error:
                if self._stopped.is_set():
                    return None
                self._trouble = error
                if not self.candidacy.contacted and now() >= self._contact_by:
                    raise _no_entry(error) from error
                if deadline is not None and now() >= deadline:
                    return None
                if self._on_trouble is not None:
                    self._on_trouble(error)
            if now() - tried_at > _MAX_BACKOFF:
                backoff = _FIRST_BACKOFF  # it had been waiting in good order until then
            limit = self._contact_by if not self.candidacy.contacted else deadline
            patience = self._trouble.retry_after if isinstance(self._trouble, Throttled) else 0.0
            pause = max(patience, backoff * random.uniform(0.5, 1.0))
            left = float("inf") if limit is None else max(0.0, limit - now())
            self._stopped.wait(min(pause, left, threading.TIMEOUT_MAX))
            if patience > left:  # it does not want to be asked before our time is up
                return None
            backoff = min(backoff * 2, _MAX_BACKOFF)

    def _withdraw(self) -> None:
        """Best effort: what cannot be delivered runs out by itself."""
        try:
            if self.candidacy.contacted:
                self.candidacy.release()
        except ElectctlError:
            pass
        finally:
            self.candidacy.close()
            if self._stay is not None:
                self._stay.end()

    # Elected -------------------------------------------------------------------------------------

    def _lead(self, grant: Grant, caller: threads.Caller) -> Leadership:
        try:
            timing = self._timing_for(grant)
            return Leadership(
                self._backend,
                self.candidacy,
                self.bid,
                grant,
                timing,
                self._on_change,
                caller,
                self._word,
                self._stay,
            )
        except BaseException:
            caller.call(self._withdraw).wait(now() + LINGER)
            raise

    def _timing_for(self, grant: Grant) -> Timing:
        try:
            ttl = ttl_granted(self._backend.traits, grant.ttl, self.bid.ttl)
            return self._timing.granted(ttl, self._grace)
        except UnsafeTiming as error:
            raise UnsafeTiming(
                f"the store granted {grant.ttl:g} s instead of {self.bid.ttl:g} s: {error.message}",
                hint=error.hint,
            ) from None


def _no_entry(error: ElectctlError) -> ElectctlError:
    """To whoever waited, a request without an answer says no more than one that was not sent."""
    return (
        Unreachable(error.message, hint=error.hint) if isinstance(error, OutcomeUnknown) else error
    )


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

    def timing(
        self, ttl: float | None = None, grace: float | None = None, margin: float = MARGIN
    ) -> Timing:
        """The timing for this scheme; raises UnsafeTiming."""
        return Timing.of(self.traits, ttl, grace, margin)

    def attempt(
        self,
        election: str,
        candidate: str | None = None,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        grace: float | None = None,
        margin: float = MARGIN,
        on_change: Listener | None = None,
        on_trouble: Callable[[ElectctlError], None] | None = None,
    ) -> Attempt:
        """A campaign that another thread can cancel; :meth:`campaign` is the simple form."""
        return Attempt(
            self.backend,
            election,
            default_id() if candidate is None else candidate,
            self.timing(ttl, grace, margin),
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
        margin: float = MARGIN,
    ) -> Leadership:
        """Wait up to ``wait`` seconds (None: for ever, 0: try once) to lead, and lead.

        ``ttl`` seconds is asked of the store; ``grace`` seconds is kept for stopping, ``margin``
        seconds for killing what has not stopped.

        The leadership is kept until it is released: use it in a ``with`` block, or call
        ``release()``. One that is merely dropped is renewed for as long as this process lives, and
        nobody else can lead: that nothing refers to it any more is not noticed.

        Raises NotElected (somebody leads, and ``wait`` ran out), Unreachable (no first contact
        within the smaller of ``wait`` and 10 s; or the store could not take us in, and nobody was
        seen leading), Refused, DuplicateId, UnsafeTiming, all of :mod:`electctl.errors`. In the
        ``with`` block, ``check()`` and ``checkpoint.set()`` raise LeadershipLost.
        """
        return self.attempt(
            election, candidate, ttl=ttl, wait=wait, grace=grace, margin=margin
        ).run()

    def give_back(self, receipt: str) -> None:
        """Remove the grant of :attr:`Leadership.receipt`, and no other, and wake the next.

        For a leadership whose process is gone, once nothing acts under it any more. One that has
        ended already is no error. Raises Unreachable, OutcomeUnknown, Refused, UsageError (it is no
        receipt), Unsupported.
        """
        self.backend.give_back(Receipt.unpack(receipt).grant)

    def holder(self, election: str) -> Holder | None:
        """Who leads now, in the store's view; None when vacant."""
        return self.backend.view(election).holder

    def candidates(self, election: str) -> tuple[str, ...]:
        """The ids of those who wait, in order where ``traits.order`` is ``fifo``."""
        return self.backend.view(election).waiting

    def observe(self, election: str) -> Iterator[Change]:
        """Follow an election for ever: the current state first, then each change.

        Survives the loss of the backend, and yields ``unreachable`` and ``recovered`` for it.
        """
        from electctl.core.observe import Observation

        return iter(Observation(self.backend, self.backend.canonical(election)))

    def evict(
        self, election: str, *, force: bool = False, wait: float | None = None
    ) -> Holder | None:
        """Ask the holder to stop and wait until it has; ``force`` deletes its grant at once.

        Returns the holder that has gone, None if nobody led. Raises Inconclusive if it still leads
        after ``wait`` seconds (None: for ever). Forcing can itself make two leaders: the deleted
        holder does not know yet.
        """
        election = self.backend.canonical(election)
        target = self.backend.evict(election, force=force)
        if target is None or force:
            return target
        deadline = None if wait is None else now() + wait
        asked = (target.id, target.token, target.key)

        def gone(view: View | None) -> bool:
            return view is not None and view.certain and view.term != asked

        watch = self.backend.watch(election)
        try:
            while True:
                pause = _EVICT_POLL if deadline is None else min(_EVICT_POLL, deadline - now())
                if gone(watch.next(max(0.0, pause))):
                    return target
                if deadline is not None and now() >= deadline:
                    if gone(self.backend.view(election)):  # a watch that polls looks now and then
                        return target
                    raise Inconclusive(
                        f"{target.id!r} was asked to stop and still leads {election!r}",
                        hint="wait longer, or --force (which can itself make two leaders)",
                    )
        finally:
            watch.close()

    def close(self) -> None:
        """Free connections; leaderships are not released by it, and go on."""
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
