"""Which election is looked at on which backend.

What this does not guarantee: contact; backends are opened, not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from electctl.cli.frame import Frame
    from electctl.contract.backend import Backend
    from electctl.contract.url import BackendURL
    from electctl.record.watch import Target


def prepare(frame: Frame, url: BackendURL) -> None:
    """Have started what the scheme starts by itself, and say so. See :func:`registry.prepare`."""
    from electctl.core import registry

    registry.prepare(url, frame.note)


def open_targets(
    frame: Frame, elections: Sequence[str], stack: ExitStack
) -> list[tuple[Target, Backend]]:
    """Every election on every backend that is named for it, each with a backend of its own.

    Raises UsageError, ConfigError, MissingDependency, Unreachable (what a scheme starts by itself
    does not start). ``stack`` closes what was opened.
    """
    from electctl.core.registry import canonical, open_backend
    from electctl.record.watch import Target

    found: dict[Target, Backend] = {}
    for election in elections:
        for url in frame.settings.backend_urls(election):
            # Two spellings of one name are one.
            target = Target(canonical(url, election), url)
            if target in found:
                continue
            prepare(frame, url)
            # Not shared between elections: a client library need not bear several threads.
            found[target] = stack.enter_context(open_backend(url))
    return [*found.items()]
