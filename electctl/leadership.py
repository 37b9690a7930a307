"""A leadership that keeps itself alive, and tells in time when it ends.

What this does not guarantee: that nobody else believes in a leadership of their own. What the
store promises is in ``traits``; what leaves this process needs the fencing token.

Two threads serve a leadership: one runs the timing machine, the other makes the blocking calls,
so that a client library that hangs delays no deadline. A listener (``on_change``) is called by
either with the machine locked: it must be quick and must not raise. :meth:`Leadership.remaining`
and :meth:`Leadership.check` need neither of them to run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from electctl import lease
from electctl.clock import now
from electctl.errors import ElectctlError, LeadershipLost, OutcomeUnknown, Unreachable

if TYPE_CHECKING:
    from electctl.backend import Backend, Bid, Candidacy, Grant

Listener = Callable[[lease.Instruction], None]

_LOST = {
    "expired": "the lease expired before a renewal reached the server",
    "deleted": "the store no longer holds our grant",
    "evicted": "we were asked to stop",
    "released": "the leadership was released",
}


class Checkpoint:
    """The guarded checkpoint of an election, written under one grant."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._seq = 0
        self._lock = threading.Lock()

    def set(self, value: bytes, slot: str = "") -> None:
        """Store ``value`` if we still lead *in the store*, in one atomic step there.

        Raises LeadershipLost (nothing was written), OutcomeUnknown (no answer came while we were
        still leading), Unsupported (the scheme has no guarded checkpoint).
        """
        with self._lock:
            self._seq += 1
            unknown: ElectctlError | None = None
            while True:
                try:
                    self._leadership.check()
                    self._leadership.candidacy.write_checkpoint(slot, value, self._seq)
                    return
                except LeadershipLost as error:
                    # It answers for this try; an earlier one may have acted while we still led.
                    if unknown is None:
                        raise
                    raise _unknown_write(unknown) from error
                except (Unreachable, OutcomeUnknown) as error:
                    unknown = error
                    if self._leadership.lost.wait(self._leadership.timing.retry_interval):
                        raise _unknown_write(error) from error

    def get(self, slot: str = "") -> bytes | None:
        """The last value written under any grant; None if there is none."""
        return self._leadership.backend.read_checkpoint(self._leadership.election, slot)


def _unknown_write(cause: ElectctlError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the checkpoint may or may not be written: {cause.message}",
        hint="read it back once the backend answers",
    )


class Leadership:
    """One term as the leader. A context manager: leaving it releases.

    ``lost`` is set when the leadership is over, or when no renewal came and what is left of its
    validity is for stopping. ``stop_requested`` is set when somebody asks us to stop (evict);
    leadership goes on until it is released.
    """

    def __init__(
        self,
        backend: Backend,
        candidacy: Candidacy,
        bid: Bid,
        grant: Grant,
        timing: lease.Timing,
        on_change: Listener | None = None,
    ) -> None:
        self.backend = backend
        self.candidacy = candidacy
        self.election = bid.election
        self.candidate = bid.candidate
        self.token = grant.token
        self.timing = timing
        #: When we learned of the grant, on :func:`electctl.clock.now`.
        self.elected_at = now()
        self.lost = threading.Event()
        self.stop_requested = threading.Event()
        self.checkpoint = Checkpoint(self)
        #: What went wrong when the grant was given back; it then runs out by itself.
        self.release_error: ElectctlError | None = None
        self._lease = lease.Lease(timing, since=grant.since, ttl=grant.ttl)
        self._on_change = on_change
        self._renewals: deque[int] = deque()
        self._wake = threading.Condition()
        self._released = False
        #: Started with the first renewal: many leaderships end before one is due.
        self._renewer: threading.Thread | None = None
        with self._wake:
            self._carry_out(self._lease.start(now()))
        threading.Thread(target=self._run, name="electctl-lease", daemon=True).start()

    # What needs no thread ------------------------------------------------------------------------

    @property
    def valid_until(self) -> float:
        """The end of validity, on :func:`electctl.clock.now`."""
        return self._lease.valid_until

    @property
    def reason(self) -> str | None:
        """Why it ended or is ending (``expired``, ``deleted``, ``released``); None while held."""
        return self._lease.reason

    def remaining(self) -> float:
        """Seconds for which it is still safe to act; 0 when leadership is over."""
        return self._lease.remaining(now())

    def check(self) -> None:
        """Raise LeadershipLost unless :meth:`remaining` is positive."""
        if self.remaining() <= 0:
            reason = self._lease.reason or "expired"
            raise LeadershipLost(
                f"leadership of {self.election!r} is over: {_LOST[reason]}", reason=reason
            )

    # Giving back ---------------------------------------------------------------------------------

    def release(self) -> None:
        """Stop leading and wake the next candidate; idempotent. Call it when nothing acts any more.

        An error of the store is kept in ``release_error``: the grant then runs out by itself.
        """
        if self._released:
            return
        self._released = True
        self._post(lease.Released())
        try:
            self.candidacy.release()
        except ElectctlError as error:
            self.release_error = error
        finally:
            if self._renewer is not None:
                # A renewal that is under way still uses what close() takes away.
                self._renewer.join(self.timing.request_timeout)
            self.candidacy.close()

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
                if self._renewals and self._renewer is None:
                    # Not by who has just been elected: to start a thread takes a moment.
                    self._renewer = threading.Thread(
                        target=self._renew, name="electctl-renew", daemon=True
                    )
                    self._renewer.start()
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
        except ElectctlError as error:
            return lease.RenewalUnknown(seq, error.message)
        return lease.Renewed(seq, renewal.since, renewal.ttl, renewal.stop_requested)

    def _carry_out(self, instructions: list[lease.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case lease.SendRenewal(seq=seq):
                    self._renewals.append(seq)
                    self._wake.notify_all()
                case lease.StopRequested():
                    self.stop_requested.set()
                case lease.StepDown():
                    self.lost.set()
                case lease.Ended(reason=reason) if reason != "released":
                    self.lost.set()
            if self._on_change is not None:
                self._on_change(instruction)
