"""A store that runs already, and is not ours to break: what can be done to candidates is.

What this does not guarantee: that other elections there notice nothing. A drill has an election of
its own, with a name that no other has, and what that leaves in the store is removed again where the
scheme can do so; its load is that of three campaigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from electctl.contract.url import BackendURL
from electctl.core import registry
from electctl.errors import ElectctlError, UsageError
from electctl.lab.cluster import Cluster

_FILES = ("ca", "cert", "key")


class Given(Cluster):
    """The store at a URL: no server to start, stop or separate, no way to it to be cut."""

    proxyable: ClassVar[bool] = False

    def __init__(self, home: Path, text: str) -> None:
        """Raises UsageError for a URL that means another place in another directory."""
        self._text, self._given = text, BackendURL.parse(text)
        super().__init__(home, scheme=self._given.scheme)
        files = [self._given.password_file, *map(self._given.options.get, _FILES)]
        for name in filter(None, files):
            # Candidates run in directories of their own.
            if not Path(name).is_absolute():
                raise UsageError(
                    f"the file {name} is named from this directory",
                    hint=f"a drill needs {Path(name).absolute()}",
                )

    def configure(self) -> None:
        """There is nothing to be configured."""

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """The URL, password and all: whoever is told it must not show it."""
        return self._text

    def version(self) -> str:
        """The scheme: a store that is not ours is not asked."""
        return self._given.scheme

    def start(self) -> None:
        """Make sure that it answers. Raises ElectctlError."""
        with registry.open_backend(self._given) as backend:
            backend.view("electctl-drill")

    def forget(self, election: str) -> None:
        """Remove what that election has left, where the scheme can; else it stays."""
        with suppress(ElectctlError), registry.open_backend(self._given) as backend:
            for left in backend.leftovers():
                if left.election == backend.canonical(election):
                    backend.sweep(left)
