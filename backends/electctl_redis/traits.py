"""What electing on Redis promises, and what breaks it."""

from __future__ import annotations

from electctl.traits import Traits

TRAITS = Traits(
    scheme="redis",
    title="Redis",
    mechanism="SET NX PX: a key with a time to live on one primary",
    family="ttl-lock",
    scope="one primary",
    expiry_decided_by="the primary, on its wall clock",
    clocks="the primary's wall clock does not jump forward",
    token="counter",
    token_sound=False,
    order="none",
    wakeup="notify",
    herd="one",
    checkpoint=True,
    failover="ttl",
)


def traits_of(scheme: str) -> Traits:
    """The traits of one of our URL schemes."""
    return TRAITS
