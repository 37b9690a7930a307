"""What a leadership leaves with another process, so that its grant can be given back without it.

What this does not guarantee: that nothing acts under the grant any more. Whoever gives it back must
know that.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Receipt:
    """``ttl``: seconds after which a grant that nobody renews has run out; ``grant``: the backend's
    own text (:meth:`electctl.contract.backend.Candidacy.receipt`)."""

    ttl: float
    grant: str

    def pack(self) -> str:
        """As one text."""
        return f"{self.ttl!r} {self.grant}"

    @classmethod
    def unpack(cls, text: str) -> Receipt:
        """Read what :meth:`pack` made. Raises UsageError."""
        ttl, _, grant = text.partition(" ")
        try:
            return cls(float(ttl), grant)
        except ValueError:
            raise UsageError("this is no receipt of a leadership") from None
