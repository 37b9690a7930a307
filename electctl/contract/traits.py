"""What a scheme promises, under which assumptions, and what breaks it.

Declared once for each scheme. Tables, refusals and advice are generated from it; nothing else in
the project keeps a list of what a backend can do. A trait is a claim: each one that can be
broken names the condition, and the drill that shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from electctl.contract.naming import VERBATIM, Naming
from electctl.errors import ConfigError

Family = Literal["consensus", "ttl-lock", "lock-quorum", "managed-lock", "row-ttl", "no-quorum"]
TokenKind = Literal["revision", "czxid", "index", "counter", "transitions", "epoch", "none"]
#: Who judges that a lease has run out. ``store``: the store, by a time that the grant has there.
#: ``session``: the store, which ends the holder's session for want of a sign of life, and all that
#: hangs on it. ``observer``: each who looks, by its own clock and what it has seen of the record.
Judge = Literal["store", "observer", "session"]
#: What stands between two leaders. ``quorum``: a majority of the store's members decides, so what
#: a minority loses gives nothing away. ``lease``: a grant with an end, on one server or by clocks
#: alone: a server that forgets, or a clock that jumps, gives it away. ``best effort``: nothing that
#: all must ask; those who cannot hear each other both lead.
Exclusion = Literal["quorum", "lease", "best effort"]

#: Of a bound where nothing else is said: servers of an ordinary ensemble, a round trip (s) within
#: one site.
MEMBERS = 3
RTT = 0.001


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that a guarantee stands on, and where it is from."""

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Weakness:
    """One way in which the scheme fails, which promise goes, and the fault that shows it.

    ``breaks`` names what is lost: ``exclusion`` (two leaders), ``token`` (tokens stop growing),
    ``liveness`` (nobody leads), ``checkpoint``. ``fault`` is the name of the drill's fault with all
    its variants, or one of these (``electctl drill list``).
    """

    text: str
    breaks: tuple[Literal["exclusion", "token", "liveness", "checkpoint"], ...]
    fault: str = ""
    source: str = ""
    #: Why no drill shows it, or not all of it, where none does.
    unshown: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """The promises of one scheme. Times are in seconds."""

    scheme: str
    title: str
    mechanism: str
    family: Family
    exclusion: Exclusion
    #: What one leadership covers: "one primary", "a quorum of servers".
    scope: str
    judge: Judge
    #: :attr:`judge` in words: who decides that a lease has run out, and on whose clock.
    expiry_decided_by: str
    #: What is assumed of clocks for exclusion to hold.
    clocks: str
    token: TokenKind
    #: False where some failure of the store can make tokens repeat or fall.
    token_sound: bool
    order: Literal["fifo", "none"]
    wakeup: Literal["notify", "poll"]
    #: Who is woken by one release.
    herd: Literal["one", "all"]
    checkpoint: bool
    #: The longest time without a leader after the crash of all that knows of its grant (its whole
    #: host), while the store stands: a formula (:mod:`electctl.contract.formula`), seconds.
    failover: str
    assumptions: tuple[Claim, ...] = ()
    weaknesses: tuple[Weakness, ...] = ()
    sources: tuple[str, ...] = ()
    #: What the bound does not cover, or rests on.
    failover_note: str = ""
    #: Whether another process can give back the grant of one that died, by its receipt: then a
    #: crash costs no TTL while the guardian lives and the store answers.
    gives_back: bool = False
    #: Whether a leader that has contact learns at once, and not at its next renewal, that its grant
    #: was taken away (:attr:`Bid.superseded`).
    tells_loss: bool = False
    poll_interval: float | None = None
    #: True where one look cannot take over an expired lease. Only an observer judges like that.
    needs_observation: bool = False
    #: Who takes the allowance for clocks that drift off a grant's TTL: the core, or the scheme,
    #: whose :attr:`Grant.ttl` and :attr:`Renewal.ttl` are then what is left. It is taken off once.
    #: The core reckons with its own allowance when it plans, and believes no scheme that took off
    #: less of the TTL asked for (:func:`electctl.core.lease.ttl_granted`).
    drift: Literal["core", "scheme"] = "core"
    #: Renewals sent within the time in which one must be confirmed.
    renewals: int = 3
    #: How many renewals back the proof lies that a confirmed renewal gives (ZooKeeper: 1).
    proof_lag: int = 0
    #: Who can take part: the candidates of one host, or all that the network reaches.
    reach: Literal["host", "network"] = "network"
    #: Which names an election may have, and which of them are one.
    naming: Naming = VERBATIM
    #: TTL used when none is given.
    default_ttl: float = 10.0
    #: A TTL is a multiple of this, in seconds: the store knows no others. 0 for any.
    ttl_step: float = 0.0
    #: The least TTL, in seconds, that a store with its usual settings grants; it raises others.
    least_ttl: float = 0.0
    #: What one renewal asks of the store, in requests.
    renewal_requests: int = 1
    #: Requests a second by each who waits, at most: a formula.
    waiting_requests: str = "3 / ttl"

    def __post_init__(self) -> None:
        if self.needs_observation and self.judge != "observer":
            raise ConfigError(
                f"the traits of {self.scheme}:// say that a lease must be observed to be over, and "
                f"that the {self.judge} judges it",
                hint="judge='observer', or needs_observation=False",
            )

    def in_steps(self, ttl: float) -> float:
        """The shortest TTL of the scheme that is not below ``ttl``, in seconds."""
        if not self.ttl_step:
            return ttl
        # Rounded first: 0.3 is three steps of 0.1 and a little more only in binary.
        return math.ceil(round(ttl / self.ttl_step, 6)) * self.ttl_step

    def granted(self, ttl: float) -> float:
        """What the store, with its usual settings, makes of a TTL of ``ttl`` seconds."""
        return max(self.least_ttl, self.in_steps(ttl))

    def failover_bound(
        self,
        ttl: float,
        *,
        holder_ttl: float | None = None,
        members: int = MEMBERS,
        rtt: float = RTT,
        dead_waiters: int = 0,
    ) -> float:
        """:attr:`failover` in seconds, for TTLs that the store has (:meth:`granted`).

        ``holder_ttl`` is that of who crashed, by default the same. Raises ConfigError if it is no
        formula.
        """
        held = ttl if holder_ttl is None else holder_ttl
        values = {"ttl": ttl, "holder_ttl": held, "members": members, "rtt": rtt}
        return self._value("bound on fail-over", self.failover, dead_waiters=dead_waiters, **values)

    def waiting_rate(self, ttl: float) -> float:
        """:attr:`waiting_requests` for a TTL that the store has. Raises ConfigError."""
        values = {"ttl": ttl, "holder_ttl": ttl, "members": MEMBERS, "rtt": RTT}
        return self._value("requests", self.waiting_requests, dead_waiters=0, **values)

    def _value(self, what: str, formula: str, **values: float) -> float:
        from electctl.contract.formula import evaluate

        try:
            return evaluate(formula, {"poll": self.poll_interval or 0.0, **values})
        except ConfigError as error:
            message = f"the {what} of {self.scheme}://: {error.message}"
            raise ConfigError(message, hint=error.hint) from error
