"""electctl: use, see, compare and choose leader election.

The public names are loaded when they are used, so that ``import electctl`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from electctl.contract.backend import Holder as Holder
    from electctl.contract.traits import Traits as Traits
    from electctl.core.elector import LeaderElector as LeaderElector
    from electctl.core.elector import connect as connect
    from electctl.core.leadership import Leadership as Leadership

_HOME = {
    "connect": "electctl.core.elector",
    "LeaderElector": "electctl.core.elector",
    "Leadership": "electctl.core.leadership",
    "Holder": "electctl.contract.backend",
    "Traits": "electctl.contract.traits",
}

__all__ = ["Holder", "LeaderElector", "Leadership", "Traits", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'electctl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
