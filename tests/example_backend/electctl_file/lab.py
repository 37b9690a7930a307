"""A directory to try it on: ``electctl lab up file``.

What this does not guarantee: a fault to inject. There is no server to stop and no link to cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from electctl.lab.cluster import Cluster


class FileCluster(Cluster):
    """A directory and no servers."""

    def configure(self) -> None:
        """Make it."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        """Where it is."""
        return f"file://{self._folder}"

    @property
    def _folder(self) -> Path:
        return self.home.absolute() / "elections"
