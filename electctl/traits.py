"""What a scheme promises, under which assumptions, and what breaks it.

Declared once for each scheme. Tables, refusals and advice are generated from it; nothing else in
the project keeps a list of what a backend can do. A trait is a claim: each one that can be
broken names the condition, and the drill that shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from electctl.errors import ConfigError

Family = Literal["consensus", "ttl-lock", "lock-quorum", "managed-lock", "row-ttl", "no-quorum"]
TokenKind = Literal["revision", "czxid", "index", "counter", "transitions", "epoch", "none"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that a guarantee stands on, and where it is from."""

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Weakness:
    """One way in which the scheme fails, which promise goes, and the fault that shows it.

    ``breaks`` names what is lost: ``exclusion`` (two leaders), ``token`` (tokens stop growing),
    ``liveness`` (nobody leads), ``checkpoint``. ``fault`` is the name of the drill's fault.
    """

    text: str
    breaks: tuple[Literal["exclusion", "token", "liveness", "checkpoint"], ...]
    fault: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """The promises of one scheme. Times are in seconds."""

    scheme: str
    title: str
    mechanism: str
    family: Family
    #: What one leadership covers: "one primary", "a quorum of servers".
    scope: str
    #: Who decides that a lease has run out, and on whose clock.
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
    #: The longest time without a leader after its crash, while the store stands: a formula in
    #: ``ttl``, seconds (:mod:`electctl.formula`).
    failover: str
    assumptions: tuple[Claim, ...] = ()
    weaknesses: tuple[Weakness, ...] = ()
    sources: tuple[str, ...] = ()
    #: What the bound does not cover, or rests on.
    failover_note: str = ""
    poll_interval: float | None = None
    #: True where one look cannot take over an expired lease (``--no-wait`` then says so).
    needs_observation: bool = False
    #: Renewals sent within the time in which one must be confirmed.
    renewals: int = 3
    #: How many renewals back the proof lies that a confirmed renewal gives (ZooKeeper: 1).
    proof_lag: int = 0
    #: Who can take part: the candidates of one host, or all that the network reaches.
    reach: Literal["host", "network"] = "network"
    #: TTL used when none is given.
    default_ttl: float = 10.0

    def failover_bound(self, ttl: float) -> float:
        """:attr:`failover` for ``ttl`` seconds, in seconds. ConfigError if it is no formula."""
        from electctl.formula import evaluate

        try:
            return evaluate(self.failover, ttl)
        except ConfigError as error:
            message = f"the bound on fail-over of {self.scheme}://: {error.message}"
            raise ConfigError(message, hint=error.hint) from error
