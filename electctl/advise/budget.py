"""The timing budget of one leadership: what happens when, and whether it fits.

The arithmetic is :class:`electctl.core.lease.Timing`'s, which also refuses what is unsafe; this
only lays it out. What this does not guarantee: the times of the store itself; a server may grant
another TTL, or round it.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.contract.traits import Traits
from electctl.core.lease import Timing, leading_rate


@dataclass(frozen=True, slots=True)
class Budget:
    """All times are seconds after the last renewal that was confirmed had been sent."""

    timing: Timing
    #: The next renewal goes out.
    renew: float
    #: One renewal that brought no answer is given up, and the next one goes out.
    detect: float
    #: What is left for the answer of that one.
    spare: float
    #: SIGTERM to the command.
    term: float
    #: SIGKILL to what is left of it.
    kill: float
    #: Here the leadership ends, whatever the store says.
    valid_until: float
    #: The store may let go of it from here on.
    expiry: float
    #: By then another one knows that it is free, if the store lets go at once.
    takeover: float
    #: The longest time without a leader after its crash, as the scheme promises it.
    failover: float
    #: Requests a second: of who leads, and at most of each who waits.
    leading_rate: float
    waiting_rate: float
    #: The TTL that the store makes of it, with its usual settings.
    granted: float


def plan(traits: Traits, ttl: float | None = None, grace: float | None = None) -> Budget:
    """The budget of one TTL (seconds) on a scheme. Raises UnsafeTiming, as a campaign does."""
    timing = Timing.of(traits, ttl, grace)
    # Rule 1 of the contract: what was proved a renewal ago is counted from there.
    renew = (1 + timing.proof_lag) * timing.renew_interval
    valid_until = timing.ttl - timing.drift
    kill = valid_until - timing.margin
    granted = traits.granted(timing.ttl)
    return Budget(
        timing,
        renew=renew,
        detect=renew + timing.request_timeout,
        spare=timing.room - timing.drift,
        term=kill - timing.grace,
        kill=kill,
        valid_until=valid_until,
        expiry=timing.ttl,
        takeover=timing.ttl + (traits.poll_interval or 0.0),
        failover=traits.failover_bound(granted),
        leading_rate=leading_rate(traits, timing),
        waiting_rate=traits.waiting_rate(granted),
        granted=granted,
    )
