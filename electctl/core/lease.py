"""The timing machine of one leadership: events in, instructions out, time as an argument.

What this does not guarantee: that the store keeps its promise. A server whose clock jumps, a
fail-over or an eviction can give a lease away before :attr:`Lease.valid_until`; the backend's
traits say which of these exist. It guarantees only that nothing is taken for granted that the
store did not grant, counted from before the request was sent.

Rules (numbers as in docs/architecture.md):

- validity is ``since + ttl granted − drift``, where ``since`` was read before the request went out
  and the drift allowance is 1 % of the TTL + 50 ms (Gray and Cheriton, "Leases", SOSP 1989,
  section 5, on clocks of bounded drift), whoever takes it off (:func:`ttl_granted`);
- a renewal that is late, refused or unknown never extends it;
- SIGTERM is due ``grace + margin`` before the end of validity and SIGKILL ``margin`` before it;
- renewals go out often enough for one to be missed.

All times are seconds on :func:`electctl.base.clock.now`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from electctl.errors import UnsafeTiming

if TYPE_CHECKING:
    from electctl.contract.traits import Traits

MARGIN = 0.1
MAX_GRACE = 5.0
DRIFT_RATE = 0.01
DRIFT_FIXED = 0.05

Reason = Literal["expired", "deleted", "evicted", "released"]


def drift_allowance(ttl: float) -> float:
    """Seconds by which our clock and the store's may disagree over one TTL: 1 % of it + 50 ms."""
    return ttl * DRIFT_RATE + DRIFT_FIXED


def ttl_granted(traits: Traits, ttl: float, asked: float) -> float:
    """The TTL of a grant or renewal of ``ttl`` seconds, with the allowance for drift still in it.

    Where the scheme takes that allowance off (``Traits.drift``), it is put back, so that it is
    taken off once, and a plan is the same on every scheme. A scheme that took off less, or nothing,
    gains nothing by it: no more than the TTL ``asked`` for is believed. What it took off beyond
    ours stays off.
    """
    if traits.drift == "core":
        return ttl
    return min(asked, (ttl + DRIFT_FIXED) / (1 - DRIFT_RATE))


class Timing(Struct, frozen=True):
    """The plan for one TTL, checked when it is built. Build it with :meth:`plan`."""

    ttl: float
    grace: float
    renewals: int = 3
    proof_lag: int = 0
    margin: float = MARGIN
    #: Seconds one request may take where that is fixed already; None for the renewal interval.
    fixed_timeout: float | None = None

    @classmethod
    def plan(
        cls,
        ttl: float,
        grace: float | None = None,
        *,
        renewals: int = 3,
        proof_lag: int = 0,
        margin: float = MARGIN,
        fixed_timeout: float | None = None,
    ) -> Timing:
        """The timing for ``ttl`` seconds; ``grace`` defaults to the smaller of 5 s and ttl / 3.

        ``margin`` is how many seconds before the end of validity SIGKILL is due: what it takes to
        kill a process tree on this host. Raises UnsafeTiming, naming the inequality that fails.
        """
        chosen = min(MAX_GRACE, ttl / 3) if grace is None else grace
        return cls(ttl, chosen, renewals, proof_lag, margin, fixed_timeout)

    @classmethod
    def of(
        cls,
        traits: Traits,
        ttl: float | None = None,
        grace: float | None = None,
        margin: float = MARGIN,
    ) -> Timing:
        """The timing on a scheme, whose TTLs go in steps. Raises UnsafeTiming.

        ``ttl`` defaults to the scheme's.
        """
        return cls.plan(
            traits.in_steps(traits.default_ttl if ttl is None else ttl),
            grace,
            renewals=traits.renewals,
            proof_lag=traits.proof_lag,
            margin=margin,
        )

    def granted(self, ttl: float, grace: float | None) -> Timing:
        """The timing where the store granted ``ttl`` seconds instead. Raises UnsafeTiming."""
        if ttl == self.ttl:
            return self
        return Timing.plan(
            ttl,
            grace,
            renewals=self.renewals,
            proof_lag=self.proof_lag,
            margin=self.margin,
            # The candidacy's requests were timed by the TTL asked for. A shorter grant must stand
            # one of them; a longer one is renewed no later for it.
            fixed_timeout=self.request_timeout,
        )

    def __post_init__(self) -> None:
        if not 0 < self.ttl < float("inf"):
            raise UnsafeTiming(
                f"a TTL of {self.ttl:g} s is not a positive time", hint="--ttl 10s is the default"
            )
        if not 0 <= self.grace < float("inf"):
            raise UnsafeTiming(
                f"a grace of {self.grace:g} s is not a time", hint="leave --grace out for ttl / 3"
            )
        if not 0 < self.margin < float("inf"):
            raise UnsafeTiming(
                f"a margin of {self.margin:g} s is not a positive time",
                hint="leave --margin out for 100 ms",
            )
        if self.renewals <= 2 + self.proof_lag:
            raise UnsafeTiming(
                f"{self.renewals} renewals cannot survive one that is missed",
                hint=f"at least {3 + self.proof_lag} are needed",
            )
        # After a confirmed renewal the next may be missed; the one after it must be answered
        # before SIGTERM is due. What is left for its round trip must exceed the drift allowance.
        if self.room <= self.drift:
            raise UnsafeTiming(
                f"ttl {self.ttl:g} s with grace {self.grace:g} s is unsafe: "
                f"(ttl - grace - {self.margin:g}) / {self.renewals} leaves "
                f"{max(self.room, 0):.3f} s for a second renewal, "
                f"and that must exceed the drift allowance of {self.drift:.3f} s",
                hint="raise --ttl or lower --grace"
                + (" or --margin" if self.margin > MARGIN else ""),
            )

    @property
    def drift(self) -> float:
        """The drift allowance for the whole TTL."""
        return drift_allowance(self.ttl)

    @property
    def room(self) -> float:
        """Seconds between giving up one missed renewal and the time at which SIGTERM would be due
        without drift: the next renewal's round trip plus :attr:`drift` must fit in.

        Round trips longer than :attr:`renew_interval` also delay the renewal after them, which is
        not reckoned with here: one that is missed then may be one too many."""
        return (self.renewals - 1 - self.proof_lag) * self.renew_interval - self.request_timeout

    @property
    def renew_interval(self) -> float:
        """Seconds between two renewals: (ttl − grace − margin) / renewals."""
        return (self.ttl - self.grace - self.margin) / self.renewals

    @property
    def retry_interval(self) -> float:
        """Seconds before a renewal that failed at once is tried again."""
        return self.renew_interval / 4

    @property
    def request_timeout(self) -> float:
        """Seconds after which an unanswered request counts as unknown."""
        return self.renew_interval if self.fixed_timeout is None else self.fixed_timeout


def leading_rate(traits: Traits, timing: Timing) -> float:
    """Requests a second by which a leader renews on a scheme, while all of them are answered."""
    return traits.renewal_requests / timing.renew_interval


# Events ------------------------------------------------------------------------------------------


class Tick(Struct, frozen=True):
    """Time has passed."""


class Renewed(Struct, frozen=True):
    """Renewal ``seq`` was confirmed: the store granted ``ttl`` from no earlier than ``since``."""

    seq: int
    since: float
    ttl: float
    stop_requested: bool = False


class RenewalRefused(Struct, frozen=True):
    """Renewal ``seq`` was answered: the store no longer has our grant."""

    seq: int
    reason: Reason = "deleted"


class RenewalUnknown(Struct, frozen=True):
    """Renewal ``seq`` was not answered, or could not be sent."""

    seq: int
    cause: str = ""
    #: Seconds for which the store asks to be left alone.
    retry_after: float = 0.0


class Released(Struct, frozen=True):
    """The holder gives the leadership back of its own accord."""


class Superseded(Struct, frozen=True):
    """The store said by itself, between two renewals, that it no longer has our grant."""

    reason: Reason = "deleted"


Event = Tick | Renewed | RenewalRefused | RenewalUnknown | Superseded | Released


# Instructions ------------------------------------------------------------------------------------


class SendRenewal(Struct, frozen=True):
    """Send renewal ``seq``, and report what became of it."""

    seq: int


class Extended(Struct, frozen=True):
    """The deadlines have moved."""

    valid_until: float
    terminate_at: float
    kill_at: float
    #: The store confirmed the grant after this moment; what it did later is not known.
    since: float


class StopRequested(Struct, frozen=True):
    """Somebody asked the store to have us stop. Leadership goes on until we release it."""


class RenewalFailed(Struct, frozen=True):
    """For the record: a renewal brought no answer. Validity is unchanged."""

    cause: str


class StepDown(Struct, frozen=True):
    """Stop acting now: no renewal came in time, and what is left is for stopping."""

    reason: Reason


class Ended(Struct, frozen=True):
    """Leadership is over. Nothing may act under it any more."""

    reason: Reason


Instruction = SendRenewal | Extended | StopRequested | RenewalFailed | StepDown | Ended


State = Literal["held", "stepping_down", "ended"]


class Lease:
    """One leadership in time. Call :meth:`start` once, then :meth:`handle` for every event.

    States: ``held`` → ``stepping_down`` (SIGTERM is due; no way back) → ``ended``.
    """

    def __init__(self, timing: Timing, *, since: float, ttl: float) -> None:
        self.timing = timing
        self.state: State = "held"
        self.reason: Reason | None = None
        self.since = since
        self.valid_until = since + ttl - drift_allowance(ttl)
        self._next_renewal = since + timing.renew_interval
        self._sent_at = since
        self._seq = 0
        self._outstanding: int | None = None
        self._stop_requested = False

    @property
    def terminate_at(self) -> float:
        """When the command must get SIGTERM."""
        return self.kill_at - self.timing.grace

    @property
    def kill_at(self) -> float:
        """When the command must get SIGKILL."""
        return self.valid_until - self.timing.margin

    def remaining(self, now: float) -> float:
        """Seconds for which it is still safe to act; 0 once leadership has ended."""
        return 0.0 if self.state == "ended" else max(0.0, self.valid_until - now)

    def wake_at(self) -> float | None:
        """When the next Tick is due; None once nothing is left to happen."""
        if self.state == "ended":
            return None
        if self.state == "stepping_down":
            return self.valid_until
        if self._outstanding is None:
            return min(self._next_renewal, self.terminate_at)
        return self.terminate_at

    def start(self, now: float) -> list[Instruction]:
        """The first instructions, at the moment at which the grant is known here."""
        return [self._extended(), *self._on_time(now)]

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in one event at time ``now``; return what must be done, in order.

        Time is looked at first: a confirmation that is handled after its deadline is late, however
        early it arrived, and extends nothing.
        """
        if self.state == "ended":
            return []
        out = self._expire(now)
        if not self._ended():
            out += self._take(event, now)
        if not self._ended():
            out += self._on_time(now)
        return out

    def _ended(self) -> bool:
        return self.state == "ended"

    def _take(self, event: Event, now: float) -> list[Instruction]:
        match event:
            case Released():
                return self._end("released")
            case Superseded(reason=reason):
                return self._end(reason)
            case RenewalRefused(seq=seq, reason=reason):
                # Also of an earlier renewal: a grant that is gone does not come back.
                return self._end(reason) if 0 < seq <= self._seq else []
            case Renewed(seq=seq) if seq == self._outstanding:
                self._outstanding = None
                return self._renewed(event, now)
            case RenewalUnknown(seq=seq, cause=cause) if seq == self._outstanding:
                self._outstanding = None
                self._next_renewal = self._retry_at(event.retry_after, now)
                return [RenewalFailed(cause)]
        return []

    def _retry_at(self, retry_after: float, now: float) -> float:
        # At once if it timed out, after a pause if it failed at once.
        at = self._sent_at + self.timing.retry_interval
        asked = now + retry_after
        # A store that asks for patience gets it, but for one last try that can still be answered
        # before SIGTERM is due. The deadlines stay where they are.
        last = self.terminate_at - self.timing.request_timeout
        return max(at, min(asked, last) if now < last else asked)

    def _renewed(self, event: Renewed, now: float) -> list[Instruction]:
        out: list[Instruction] = []
        if event.stop_requested and not self._stop_requested:
            self._stop_requested = True
            out.append(StopRequested())
        if self.state != "held" or event.since < self.since:
            return out
        # The latest word of the store counts, also where it granted less than before.
        self.since = event.since
        self.valid_until = event.since + event.ttl - drift_allowance(event.ttl)
        self._next_renewal -= max(0.0, self.timing.ttl - event.ttl) / self.timing.renewals
        return [*out, self._extended()]

    def _extended(self) -> Instruction:
        return Extended(self.valid_until, self.terminate_at, self.kill_at, self.since)

    def _expire(self, now: float) -> list[Instruction]:
        if now >= self.valid_until:
            return self._end("expired")
        if self.state == "held" and now >= self.terminate_at:
            self.state = "stepping_down"
            self.reason = "expired"
            return [StepDown("expired")]
        return []

    def _on_time(self, now: float) -> list[Instruction]:
        out = self._expire(now)
        if self.state == "held" and self._outstanding is None and now >= self._next_renewal:
            self._seq += 1
            self._outstanding = self._seq
            self._sent_at = now
            self._next_renewal = now + self.timing.renew_interval
            out.append(SendRenewal(self._seq))
        return out

    def _end(self, reason: Reason) -> list[Instruction]:
        self.state = "ended"
        # Who lets go while stepping down does so because no renewal came.
        self.reason = self.reason or reason
        return [Ended(reason)]
