"""Which faults there are, and on which schemes each can be played here."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from electctl.core import registry
from electctl.errors import UsageError
from electctl.faults import library
from electctl.lab.cluster import make_cluster


def schemes(candidate: str = "electctl") -> list[str]:
    """Those that have servers to break; of schemes that differ in TLS alone, the plain one.

    Of a native tool those that have it. Raises UsageError for a candidate that none has.
    """
    found = []
    known = ["electctl"]
    for plugin in registry.plugins():
        known += plugin.natives
        if candidate != "electctl" and candidate not in plugin.natives:
            continue
        plain = [scheme for scheme in plugin.schemes if f"{scheme[:-1]}" not in plugin.schemes]
        found += [scheme for scheme in plain if plugin.lab is not None]
    if not found:
        near = get_close_matches(candidate, known, 1)
        raise UsageError(
            f"there is no candidate {candidate}",
            hint=f"did you mean {near[0]}?" if near else f"there: {', '.join(known)}",
        )
    return sorted(found)


def nodes_of(scheme: str) -> int | None:
    """How many servers a drill starts: as many as it takes to lose one; None for the default.

    Raises UsageError, Unsupported.
    """
    return 3 if 3 in make_cluster(scheme, Path("/nonexistent")).node_counts else None


def applicable(scheme: str) -> list[str]:
    """The faults that can be played on a scheme. Raises as make_cluster does."""
    return [fault.name for fault in library.applicable(scheme, nodes_of(scheme))]


def faults(scheme: str | None = None) -> list[dict[str, Any]]:
    """Each fault, what it does, and where; of all schemes, or one."""
    where = {each: applicable(each) for each in ([scheme] if scheme else schemes())}
    return [
        {
            "fault": fault.name,
            "does": fault.summary,
            "schemes": [each for each, names in where.items() if fault.name in names],
        }
        for fault in library.FAULTS.values()
        if any(fault.name in names for names in where.values())
    ]
