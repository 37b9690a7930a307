"""Finds backends by entry point, and opens them. The only place that does.

A plugin's module is imported when its scheme is asked for, its client library when a backend is
opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from electctl.base import deferral
from electctl.contract.backend import Backend, Plugin
from electctl.contract.url import BackendURL
from electctl.errors import ConfigError, MissingDependency, UsageError

GROUP = "electctl.backends"


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def schemes() -> list[str]:
    """All installed URL schemes, sorted."""
    return sorted(_entries())


def plugin(scheme: str) -> Plugin:
    """The plugin for a URL scheme. Raises UsageError for an unknown one, with the nearest name."""
    entry = _entries().get(scheme)
    if entry is None:
        near = get_close_matches(scheme, _entries(), 1)
        hint = f"did you mean {near[0]}://?" if near else "electctl backends lists the schemes"
        raise UsageError(f"no backend is installed for {scheme}://", hint=hint)
    found = _load(entry.value, scheme, requires="")
    if not isinstance(found, Plugin):
        raise ConfigError(
            f"the entry point for {scheme}:// does not name a Plugin",
            hint="docs/writing-a-backend.md shows what it must name",
        )
    return found


def plugins() -> list[Plugin]:
    """Every installed plugin once, by the title of its traits."""
    unique = {id(found): found for found in map(plugin, schemes())}
    return sorted(unique.values(), key=lambda found: found.traits.title)


def open_backend(url: str | BackendURL) -> Backend:
    """Open a backend; no contact is made.

    Raises UsageError (URL, unknown scheme or option), MissingDependency (client library).
    """
    parsed = BackendURL.parse(url) if isinstance(url, str) else url
    found = plugin(parsed.scheme)
    parsed.check_options(found.options)
    deferral.load_parts(found.parts)
    backend = load_part(found, found.backend)(parsed)
    if not isinstance(backend, Backend):
        raise ConfigError(f"{found.backend} is not a Backend")
    return backend


def canonical(url: BackendURL, election: str) -> str:
    """The one name of that election there; opens nothing. Raises UsageError if it can be none."""
    return plugin(url.scheme).traits_of(url.scheme).naming.canonical(election)


def prepare(url: BackendURL, say: Callable[[str], None]) -> None:
    """Have started what ``url`` stands on, where its scheme does that; ``say`` takes a line.

    Raises UsageError, ConfigError, Unreachable.
    """
    found = plugin(url.scheme)
    if found.prepare:
        url.check_options(found.options)
        load_part(found, found.prepare)(url, say)


def load_part(found: Plugin, spec: str) -> Any:
    """Load "module:attribute" of a plugin. Raises MissingDependency with the install hint."""
    return _load(spec, found.schemes[0], requires=found.requires)


def _load(spec: str, scheme: str, *, requires: str) -> Any:
    module, _, attribute = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{scheme}:// needs the Python module {error.name}, which is not installed",
            hint=f"pip install {requires or error.name}",
        ) from error
    except ImportError as error:
        raise MissingDependency(
            f"{scheme}:// cannot load {module}: {error}",
            hint=f"pip install --force-reinstall {requires or module}",
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"{scheme}:// names {spec}, which is not there",
            hint="docs/writing-a-backend.md shows what an entry point must name",
        ) from error
