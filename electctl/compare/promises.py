"""What each backend promises, in rows that can stand side by side. All of it is from its Traits.

What this does not guarantee: that a promise is kept. These are claims, each under its assumptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from electctl.backend import Plugin
from electctl.errors import UnsafeTiming
from electctl.lease import Timing
from electctl.registry import plugin, plugins
from electctl.traits import Traits, Weakness
from electctl.url import BackendURL, written

FAMILIES = {
    "consensus": "consensus",
    "ttl-lock": "weak: a lock with a time limit",
    "lock-quorum": "weak: locks with a time limit on a majority of servers, no consensus",
    "managed-lock": "a lock of a managed store",
    "row-ttl": "weak: a row with an expiry",
    "no-quorum": "weak: no quorum",
}
_TOKENS = {
    "revision": "the create revision",
    "czxid": "the czxid of the candidate's znode",
    "index": "the log index of the grant",
    "counter": "a counter",
    "transitions": "the number of transitions",
    "epoch": "an epoch",
    "none": "none",
}
_LOSSES = {
    "exclusion": "two leaders",
    "token": "tokens fall",
    "liveness": "no leader",
    "checkpoint": "checkpoint lost",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """The promises of the schemes that share them, with a TTL put in. Times in seconds."""

    schemes: tuple[str, ...]
    traits: Traits
    ttl: float
    failover: float
    #: Why ``campaign`` would refuse the TTL; None if it is safe.
    unsafe: str | None
    #: A URL, to show how the schemes are written.
    example: str

    @classmethod
    def of(cls, owner: Plugin, traits: Traits, ttl: float | None) -> Promise:
        """``ttl`` defaults to the scheme's. Raises ConfigError if its formula has no value."""
        schemes = tuple(s for s in owner.schemes if owner.traits_of(s) == traits)
        chosen = traits.default_ttl if ttl is None else ttl
        try:
            Timing.of(traits, chosen)
        except UnsafeTiming as error:
            unsafe: str | None = error.message
        else:
            unsafe = None
        bound = traits.failover_bound(chosen)
        return cls(schemes, traits, chosen, bound, unsafe, owner.example)

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "schemes": list(self.schemes),
            "ttl": self.ttl,
            "failover_seconds": self.failover,
            "unsafe": self.unsafe,
            "traits": asdict(self.traits),
        }


def promises(chosen: Sequence[str] = (), ttl: float | None = None) -> list[Promise]:
    """One for each set of promises among the ``chosen`` schemes or URLs, in their order.

    All installed ones, by family and title, where none is chosen. Raises UsageError for what is
    neither a scheme nor a URL, or not installed.
    """
    found: dict[Traits, Plugin] = {}
    if chosen:
        for text in chosen:
            # A bare scheme is checked as strictly as a URL, and shown as little.
            scheme = BackendURL.parse(text if ":" in text else f"{text}:").scheme
            owner = plugin(scheme)
            found.setdefault(owner.traits_of(scheme), owner)
    else:
        pairs = [(p.traits_of(scheme), p) for p in plugins() for scheme in p.schemes]
        order = list(FAMILIES)
        pairs.sort(key=lambda pair: (order.index(pair[0].family), pair[0].title))
        found = dict(pairs)
    return [Promise.of(owner, traits, ttl) for traits, owner in found.items()]


def _token(promise: Promise) -> str:
    traits = promise.traits
    if traits.token == "none":
        return "none"
    sound = "sound" if traits.token_sound else "not sound: it can repeat or fall"
    return f"{_TOKENS[traits.token]}; {sound}"


def _release(promise: Promise) -> str:
    traits = promise.traits
    if traits.wakeup == "notify":
        return f"the store tells {'one' if traits.herd == 'one' else 'all'} of those who wait"
    every = "" if traits.poll_interval is None else f" every {traits.poll_interval:g} s"
    return f"those who wait look{every}, and {'one' if traits.herd == 'one' else 'all'} of them try"


def _failover(promise: Promise) -> str:
    traits = promise.traits
    text = f"{promise.failover:.4g} s at most with a TTL of {promise.ttl:g} s"
    if promise.unsafe is not None:
        text += f", which campaign refuses ({promise.unsafe})"
    text += f"; as a formula: {traits.failover}"
    return f"{text} ({traits.failover_note})" if traits.failover_note else text


#: Label → what stands beside it, for everything that is one sentence or less.
ROWS: dict[str, Callable[[Promise], str]] = {
    "mechanism": lambda p: p.traits.mechanism,
    "family": lambda p: FAMILIES[p.traits.family],
    "scope": lambda p: p.traits.scope,
    "who ends a lease": lambda p: p.traits.expiry_decided_by,
    "clocks": lambda p: p.traits.clocks,
    "fencing token": _token,
    "order": lambda p: "first come, first served" if p.traits.order == "fifo" else "none",
    "after a release": _release,
    "checkpoint": lambda p: "guarded" if p.traits.checkpoint else "none",
    "fail-over": _failover,
}


def schemes_of(promise: Promise) -> str:
    """``redis://, rediss://``, or ``local:``."""
    return written(promise.schemes, promise.example)


def losses(weakness: Weakness) -> str:
    """What a weakness costs, in words."""
    return ", ".join(_LOSSES[loss] for loss in weakness.breaks)
