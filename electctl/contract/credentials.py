"""Who we are to a store, asked for at each new connection, because it may be renewed meanwhile.

What this does not guarantee: that a connection which is open already is closed when what it was
opened with is renewed, or revoked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["none", "password", "token"]


@dataclass(frozen=True, slots=True)
class Credential:
    """What to show now. ``token`` stands alone; ``user`` may be None beside a password too."""

    kind: Kind
    user: str | None = None
    secret: str | None = field(default=None, repr=False)


class Credentials:
    """From a URL, a file or a command: :meth:`electctl.contract.url.BackendURL.credentials`.

    ``secret`` is asked each time, and may read a file or run a command, within some seconds.
    """

    def __init__(self, kind: Kind, user: str | None, secret: Callable[[], str | None]) -> None:
        self.kind: Kind = kind
        self.user = user
        self._secret = secret

    def get(self) -> Credential:
        """What to show to the store at a new connection. From any thread.

        Raises ConfigError if there is nothing to show: a file or a command that has never worked.
        """
        return Credential(self.kind, self.user, self._secret())


def nobody() -> Credentials:
    """For a store that asks for none."""
    return Credentials("none", None, lambda: None)
