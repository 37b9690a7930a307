"""What each backend promises, in rows that can stand side by side. All of it is from its Traits.

What this does not guarantee: that a promise is kept. These are claims, each under its assumptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from electctl.contract.backend import Plugin
from electctl.contract.traits import Traits, Weakness
from electctl.contract.url import BackendURL, written
from electctl.core.lease import Timing, leading_rate
from electctl.core.registry import plugin, plugins
from electctl.errors import UnsafeTiming

FAMILIES = {
    "consensus": "consensus",
    "ttl-lock": "weak: a lock with a time limit",
    "lock-quorum": "weak: locks with a time limit on a majority of servers, no consensus",
    "managed-lock": "a lock of a managed store",
    "row-ttl": "weak: a row with an expiry",
    "no-quorum": "weak: no quorum",
}
#: From the strongest to the weakest.
EXCLUSIONS = {
    "quorum": "a majority of the store",
    "lease": "a time limit alone",
    "best effort": "nothing that all must ask",
}
_JUDGES = {
    "store": "the store",
    "session": "the store, with the holder's session",
    "observer": "each observer",
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
    #: What the store makes of the TTL, with its usual settings.
    granted: float
    #: Requests a second of who leads (None if the TTL is unsafe), and at most of each who waits.
    leading_rate: float | None
    waiting_rate: float
    #: Why ``campaign`` would refuse the TTL; None if it is safe.
    unsafe: str | None
    #: A URL, to show how the schemes are written.
    example: str

    @classmethod
    def of(cls, owner: Plugin, traits: Traits, ttl: float | None) -> Promise:
        """``ttl`` defaults to the scheme's. Raises ConfigError if its formula has no value."""
        schemes = tuple(s for s in owner.schemes if owner.traits_of(s) == traits)
        chosen = traits.default_ttl if ttl is None else ttl
        granted = traits.granted(chosen)
        leading, unsafe = None, None
        try:
            leading = leading_rate(traits, Timing.of(traits, chosen))
        except UnsafeTiming as error:
            unsafe = error.message
        return cls(
            schemes,
            traits,
            chosen,
            traits.failover_bound(granted),
            granted,
            leading,
            traits.waiting_rate(granted),
            unsafe,
            owner.example,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "schemes": list(self.schemes),
            "ttl": self.ttl,
            "failover_seconds": self.failover,
            "granted": self.granted,
            "leading_rate": self.leading_rate,
            "waiting_rate": self.waiting_rate,
            "unsafe": self.unsafe,
            "traits": asdict(self.traits),
        }


def promises(chosen: Sequence[str] = (), ttl: float | None = None) -> list[Promise]:
    """One for each set of promises among the ``chosen`` schemes or URLs, in their order.

    All installed ones, the strongest first, where none is chosen. Raises UsageError for what is
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
        pairs.sort(key=lambda pair: strength(pair[0]))
        found = dict(pairs)
    return [Promise.of(owner, traits, ttl) for traits, owner in found.items()]


def strength(traits: Traits) -> tuple[int, int, str]:
    """To sort by: what excludes two leaders most reliably comes first, then family and title."""
    return (
        list(EXCLUSIONS).index(traits.exclusion),
        list(FAMILIES).index(traits.family),
        traits.title,
    )


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
    if promise.granted != promise.ttl:
        text += f", of which the store makes {promise.granted:g} s with its usual settings"
    if promise.unsafe is not None:
        text += f", which campaign refuses ({promise.unsafe})"
    text += f"; as a formula: {traits.failover}"
    if traits.failover_note:
        text += f" ({traits.failover_note})"
    if traits.gives_back:
        text += "; at once, if the guardian is left to stop the command and give the grant back"
    return text


def _ttls(promise: Promise) -> str:
    traits = promise.traits
    step = {0.0: "any", 0.001: "milliseconds", 1.0: "whole seconds"}.get(
        traits.ttl_step, f"multiples of {traits.ttl_step:g} s"
    )
    least = f", {traits.least_ttl:g} s at least with usual settings" if traits.least_ttl else ""
    return f"{step}{least}"


def _requests(promise: Promise) -> str:
    leads = "" if promise.leading_rate is None else f"{promise.leading_rate:.2g} by who leads, "
    return f"{leads}{promise.waiting_rate:.2g} at most by each who waits (TTL {promise.ttl:g} s)"


#: Label → what stands beside it, for everything that is one sentence or less.
ROWS: dict[str, Callable[[Promise], str]] = {
    "mechanism": lambda p: p.traits.mechanism,
    "family": lambda p: FAMILIES[p.traits.family],
    "two leaders are kept out by": lambda p: EXCLUSIONS[p.traits.exclusion],
    "scope": lambda p: p.traits.scope,
    "who ends a lease": lambda p: f"{_JUDGES[p.traits.judge]}: {p.traits.expiry_decided_by}",
    "clocks": lambda p: p.traits.clocks,
    "fencing token": _token,
    "names": lambda p: (
        "a path: /a/b, a//b and a/b/ are a/b"
        if p.traits.naming.path
        else "each spelling is a name of its own"
    ),
    "order": lambda p: "first come, first served" if p.traits.order == "fifo" else "none",
    "after a release": _release,
    "checkpoint": lambda p: "guarded" if p.traits.checkpoint else "none",
    "fail-over": _failover,
    "a grant taken away is known": lambda p: (
        "at once" if p.traits.tells_loss else "at the next renewal"
    ),
    "TTLs": _ttls,
    "requests a second": _requests,
}


def schemes_of(promise: Promise) -> str:
    """``redis://, rediss://``, or ``local:``."""
    return written(promise.schemes, promise.example)


def losses(weakness: Weakness) -> str:
    """What a weakness costs, in words."""
    return in_words(weakness.breaks)


def in_words(breaks: Iterable[str]) -> str:
    """What is lost, in words for those of ``Weakness.breaks``."""
    return ", ".join(_LOSSES[loss] for loss in breaks)
