"""A leadership that keeps itself alive, and tells in time when it ends.

What this does not guarantee: that nobody else believes in a leadership of their own. What the
store promises is in ``traits``; what leaves this process needs the fencing token.

Three threads serve a leadership, and are there when it begins: one runs the timing machine, one
renews, and the one that made the way into the store gives the grant back. So a client library that
hangs delays no deadline, and a limit on processes that is reached later costs nothing. A listener
(``on_change``) is called by any of them with the machine locked: it must be quick and must not
raise. :meth:`Leadership.remaining` and :meth:`Leadership.check` need none of them to run.

A leadership belongs to the process that won it. In a fork of that process it is over, and giving it
back does nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl.base import forks, threads
from electctl.base.clock import now
from electctl.core import lease
from electctl.core.receipt import Receipt
from electctl.errors import ElectctlError, LeadershipLost, OutcomeUnknown, Throttled, Unreachable

if TYPE_CHECKING:
    from electctl.contract.backend import Backend, Bid, Candidacy, Gone, Grant
    from electctl.contract.lifecycle import Stay

Listener = Callable[[lease.Instruction], None]

_LOST = {
    "expired": "the lease expired before a renewal reached the server",
    "deleted": "the store no longer holds our grant",
    "evicted": "we were asked to stop",
    "released": "the leadership was released",
    "forked": "it belongs to the process that won it, and this is a fork of it",
}

#: Seconds, beyond one request's, that are waited for a grant to be given back.
_LINGER = 1.5


class Checkpoint:
    """The guarded checkpoint of an election, written under one grant."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._seq = 0
        self._lock = threading.Lock()

    def set(self, value: bytes, slot: str = "") -> int:
        """Store ``value`` if we still lead *in the store*, in one atomic step there.

        Returns its number among the writes of this grant, from 1.

        Raises LeadershipLost (nothing was written), OutcomeUnknown (no answer came while we were
        still leading), Unsupported (the scheme has no guarded checkpoint).
        """
        # First: in a fork of the leader's process the lock may never be free.
        self._leadership.check()
        with self._lock:
            self._seq += 1
            unknown: ElectctlError | None = None
            while True:
                try:
                    self._leadership.check()
                    self._leadership.candidacy.write_checkpoint(slot, value, self._seq)
                    return self._seq
                except LeadershipLost as error:
                    # It answers for this try; an earlier one may have acted while we still led.
                    if unknown is None:
                        raise
                    raise _unknown_write(unknown) from error
                except (Unreachable, OutcomeUnknown) as error:
                    unknown = error
                    pause = self._leadership.timing.retry_interval
                    if isinstance(error, Throttled):
                        # Asked once more while what is certain of our leadership lasts.
                        pause = max(pause, min(error.retry_after, self._leadership.remaining()))
                    if self._leadership.lost.wait(pause):
                        raise _unknown_write(error) from error

    def get(self, slot: str = "") -> bytes | None:
        """The last value written under any grant; None if there is none."""
        return self._leadership.backend.read_checkpoint(self._leadership.election, slot)


def _unknown_write(cause: ElectctlError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the checkpoint may or may not be written: {cause.message}",
        hint="read it back once the backend answers",
    )


class Word:
    """What a candidacy has to say of its loss (:attr:`Bid.superseded`), kept until it is heard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: Gone | None = None
        self._listener: Callable[[Gone], None] | None = None

    def say(self, reason: Gone) -> None:
        """From any thread."""
        with self._lock:
            self._reason = self._reason or reason
            listener = self._listener
        if listener is not None:
            listener(reason)

    def listen(self, listener: Callable[[Gone], None]) -> None:
        """Have ``listener`` told, at once if it was said already."""
        with self._lock:
            self._listener = listener
            reason = self._reason
        if reason is not None:
            listener(reason)


class Leadership:
    """One term as the leader. A context manager: leaving it releases.

    ``lost`` is set when the leadership is over, for whatever reason, a release among them, or when
    no renewal came and what is left of its validity is for stopping. ``stop_requested`` is set when
    somebody asks us to stop (evict); leadership goes on until it is released. In a fork of the
    process that won it both are set.

    ``caller`` has made the candidacy's calls, and gives the grant back; ``word`` is what the
    candidacy may say of its loss; ``stay`` ends when the candidacy is closed. Raises Unreachable if
    the threads that it needs cannot be had.
    """

    def __init__(
        self,
        backend: Backend,
        candidacy: Candidacy,
        bid: Bid,
        grant: Grant,
        timing: lease.Timing,
        on_change: Listener | None = None,
        caller: threads.Caller | None = None,
        word: Word | None = None,
        stay: Stay | None = None,
    ) -> None:
        self._home = forks.here()
        self.backend = backend
        self.candidacy = candidacy
        self.election = bid.election
        self._asked = bid.ttl
        self.candidate = bid.candidate
        self.token = grant.token
        self.timing = timing
        #: When we learned of the grant, on :func:`electctl.base.clock.now`.
        self.elected_at = now()
        self.lost: threading.Event = forks.OwnEvent()
        self.stop_requested: threading.Event = forks.OwnEvent()
        self.checkpoint = Checkpoint(self)
        #: What went wrong when the grant was given back; it then runs out by itself.
        self.release_error: ElectctlError | None = None
        self._lease = lease.Lease(timing, since=grant.since, ttl=self._granted(grant.ttl))
        self._on_change = on_change
        self._stay = stay
        self._renewals: deque[int] = deque()
        self._wake = threading.Condition()
        #: Taken by the first release, and never given back.
        self._released = threading.Lock()
        self._caller = caller or threads.Caller("electctl-calls")
        with self._wake:
            try:
                self._renewer = threads.start(self._renew, "electctl-renew")
                threads.start(self._run, "electctl-lease")
            except Unreachable:
                # The one that was started ends without having acted.
                self._lease.handle(lease.Released(), now())
                self._wake.notify_all()
                raise
            self._carry_out(self._lease.start(now()))
        if word is not None:
            word.listen(lambda reason: self._post(lease.Superseded(reason)))

    # What needs no thread ------------------------------------------------------------------------

    @property
    def valid_until(self) -> float:
        """The end of validity, on :func:`electctl.base.clock.now`; 0 in a fork of this process."""
        return 0.0 if self._forked else self._lease.valid_until

    @property
    def reason(self) -> str | None:
        """Why it ended or is ending; None while held.

        One of ``expired``, ``deleted``, ``released``, and ``forked`` in a fork of this process.
        """
        return "forked" if self._forked else self._lease.reason

    @property
    def _forked(self) -> bool:
        return self._home != forks.here()

    def remaining(self) -> float:
        """Seconds for which it is still safe to act; 0 when leadership is over."""
        return 0.0 if self._forked else self._lease.remaining(now())

    def check(self) -> None:
        """Raise LeadershipLost unless :meth:`remaining` is positive."""
        if self.remaining() <= 0:
            reason = self.reason or "expired"
            raise LeadershipLost(
                f"leadership of {self.election!r} is over: {_LOST[reason]}", reason=reason
            )

    # Giving back ---------------------------------------------------------------------------------

    @property
    def receipt(self) -> str | None:
        """With this text another process can give the grant back if this one is killed.

        :meth:`electctl.core.elector.LeaderElector.give_back` takes it. None if the scheme cannot.
        """
        grant = self.candidacy.receipt()
        return None if grant is None else Receipt(self.timing.ttl, grant).pack()

    def release(self) -> None:
        """Stop leading and wake the next candidate; idempotent. Call it when nothing acts any more.

        An error of the store is kept in ``release_error``: the grant then runs out by itself. So
        it does if the store, or a name's resolver, does not answer in time: what the answer would
        take is not waited for. In a fork of the process that won it this does nothing.
        """
        if self._forked or not self._released.acquire(blocking=False):
            return
        try:
            self._post(lease.Released())
        finally:  # an interrupted release must not leave a grant that is renewed for ever
            call = self._caller.call(self._give_back)
            self._caller.end()
        if call.wait(now() + self.timing.request_timeout + _LINGER):
            self.release_error = call.result()
        else:
            self.release_error = OutcomeUnknown("the store did not answer in time")

    def _give_back(self) -> ElectctlError | None:
        if self._lease.state != "ended":  # who released was interrupted before it was said
            self._post(lease.Released())
        try:
            self.candidacy.release()
        except ElectctlError as error:
            return error
        finally:
            # A renewal that is under way still uses what close() takes away.
            self._renewer.join(self.timing.request_timeout)
            self.candidacy.close()
            if self._stay is not None:
                self._stay.end()
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    # The threads ---------------------------------------------------------------------------------

    def _post(self, event: lease.Event) -> None:
        with self._wake:
            # Taken in here, not by the thread: what the caller sees next must already be true.
            self._carry_out(self._lease.handle(event, now()))
            self._wake.notify_all()

    def _run(self) -> None:
        with self._wake:
            while (due := self._lease.wake_at()) is not None:
                pause = due - now()
                if pause > 0:
                    # Bounded, because a condition does not count time spent in suspend.
                    self._wake.wait(min(pause, 0.5))
                self._carry_out(self._lease.handle(lease.Tick(), now()))
            self._wake.notify_all()

    def _renew(self) -> None:
        while True:
            with self._wake:
                while not self._renewals and self._lease.state != "ended":
                    self._wake.wait()
                if self._lease.state == "ended":
                    return
                seq = self._renewals.popleft()
            self._post(self._one_renewal(seq))

    def _one_renewal(self, seq: int) -> lease.Event:
        try:
            renewal = self.candidacy.renew()
        except LeadershipLost:
            return lease.RenewalRefused(seq)
        except Throttled as error:
            return lease.RenewalUnknown(seq, error.message, error.retry_after)
        except ElectctlError as error:
            return lease.RenewalUnknown(seq, error.message)
        ttl = self._granted(renewal.ttl)
        return lease.Renewed(seq, renewal.since, ttl, renewal.stop_requested)

    def _granted(self, ttl: float) -> float:
        return lease.ttl_granted(self.backend.traits, ttl, self._asked)

    def _carry_out(self, instructions: list[lease.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case lease.SendRenewal(seq=seq):
                    self._renewals.append(seq)
                    self._wake.notify_all()
                case lease.StopRequested():
                    self.stop_requested.set()
                case lease.StepDown() | lease.Ended():
                    self.lost.set()
            if self._on_change is not None:
                self._on_change(instruction)
