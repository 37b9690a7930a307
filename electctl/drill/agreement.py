"""Do traits and drills agree: each weakness is shown by its drill, each break has a weakness.

Pure: traits and results in, disagreements out. What this does not guarantee: that a weakness which
was not shown is none; it may need more rounds, or more than one machine, which it then says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from electctl.contract.traits import Traits

_SAY_NOTHING = ("not_injected", "inconclusive")


def disagreements(traits: Iterable[Traits], results: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence each; none if they agree. Results of native tools are left out."""
    shown: dict[tuple[str, str], set[str]] = {}
    for result in results:
        if result["candidate"] == "electctl" and result["verdict"] not in _SAY_NOTHING:
            for name in (result["fault"], base(result["fault"])):
                shown.setdefault((result["scheme"], name), set()).update(result["breaks"])
    found = []
    for each in traits:
        found += _unshown(each, shown)
        found += _unnamed(each, shown)
    return found


def base(fault: str) -> str:
    """A fault without its variant."""
    return fault.partition(":")[0]


def _unshown(traits: Traits, shown: Mapping[tuple[str, str], set[str]]) -> list[str]:
    """Weaknesses that no drill shows, and that do not say why."""
    found = []
    for weakness in traits.weaknesses:
        if weakness.unshown:
            continue
        what = f"{traits.scheme}: {weakness.text[:60]!r}"
        if not weakness.fault:
            found.append(f"{what} names no fault, and does not say why")
        elif (traits.scheme, weakness.fault) not in shown:
            found.append(f"{what}: {weakness.fault} was not played")
        elif missing := set(weakness.breaks) - shown[traits.scheme, weakness.fault]:
            broken = ", ".join(sorted(missing))
            found.append(f"{what}: {weakness.fault} was not seen to break {broken}")
    return found


def _unnamed(traits: Traits, shown: Mapping[tuple[str, str], set[str]]) -> list[str]:
    """Breaks that no weakness names."""
    declared: dict[str, set[str]] = {}
    for weakness in traits.weaknesses:
        if weakness.fault:
            declared.setdefault(base(weakness.fault), set()).update(weakness.breaks)
    return [
        f"{traits.scheme}: {fault} broke {', '.join(sorted(more))}, and no weakness says so"
        for (scheme, fault), broken in sorted(shown.items())
        if scheme == traits.scheme and (more := broken - declared.get(base(fault), set()))
        # Said of the variant, it need not be said again of all of them.
        if ":" in fault or not any(other.startswith(f"{fault}:") for _, other in shown)
    ]
