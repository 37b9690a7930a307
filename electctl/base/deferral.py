"""Loads submodules of a package without the package's own ``__init__``, where we own the process.

Some client libraries import all that they have when their package is imported; a backend that
needs two submodules then waits for much that it never uses. Here the package's ``__init__`` runs
only when something is asked of it that is no submodule.

What this does not guarantee: that a package can be taken apart so. One that cannot is loaded whole,
as usual. Nor anything for a program that uses electctl as a library: what others import there must
be what it always is, so nothing is put off.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Set by ``electctl.__main__``: nobody else's code runs in this process.
enabled = False


class _Deferred(ModuleType):
    """A package whose ``__init__`` has not run; an ordinary module from then on."""

    def __getattr__(self, name: str) -> object:
        submodule = f"{self.__name__}.{name}"
        if not name.startswith("__") and PathFinder.find_spec(submodule, self.__path__):
            return importlib.import_module(submodule)
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def load_parts(submodules: Iterable[str]) -> None:
    """Import ``package.submodule``s, and their packages only as far as these need them.

    Does nothing unless :data:`enabled`, nor to a package that is loaded already or not installed.
    """
    from importlib.util import module_from_spec

    parts = [name for name in submodules if enabled]
    packages = {name.partition(".")[0] for name in parts} - sys.modules.keys()
    for package in packages:
        spec = PathFinder.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return
        sys.modules[package] = module = _Deferred(package)
        vars(module).update(vars(module_from_spec(spec)))
    try:
        for name in parts:
            importlib.import_module(name)
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
