"""Which tests start servers, found out from what they call, so that no list of them can rot.

What this does not guarantee: that a server is seen which only a process starts that a test runs
(``electctl lab up``, the embedded store): such tests are marked ``server`` by hand. While tests
without servers are run (``make quick``), one that starts a server all the same fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

from electctl.lab import labs
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.server import Server

#: Where helpers of tests are looked into.
_OURS = ("tests.", "benchmarks.")
_STARTS: dict[object, bool] = {make_cluster: True, labs: True}
#: How many ordinary tests one that is marked ``slow`` lasts as long as, roughly.
_SLOW = 12


def needs_server(item: pytest.Item) -> bool:
    """Whether the test, or a fixture of it, starts a server in this process."""
    assert isinstance(item, pytest.Function)
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.function, *(fixture[-1].func for fixture in fixtures)]
    return any(starts_server(function) for function in functions)


def starts_server(called: Any) -> bool:
    """Whether what is called starts a server, as far as its code and our helpers' show."""
    if isinstance(called, type) and issubclass(called, Cluster | Server):
        return True
    found = _STARTS.get(called)
    if found is None:
        _STARTS[called] = False  # while it is looked into: it may call itself
        found = _STARTS[called] = any(starts_server(other) for other in _mentioned(called))
    return found


def _mentioned(called: Any) -> Iterator[Any]:
    """What the code of a function, or of a class's methods, names of its module."""
    functions = [called]
    if isinstance(called, type):
        functions = [each for each in vars(called).values() if inspect.isroutine(each)]
        yield from called.__bases__
    for function in functions:
        function = inspect.unwrap(getattr(function, "__func__", function))
        if isinstance(function, FunctionType) and function.__module__.startswith(_OURS):
            for name in _names(function.__code__):
                value = function.__globals__.get(name)
                if isinstance(value, FunctionType | type) or value is labs:
                    yield value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def without_servers(config: pytest.Config) -> bool:
    """Whether only tests were asked for that start none."""
    return "not server" in config.option.markexpr


def weight(items: list[pytest.Item]) -> int:
    """Roughly how long the tests of one file last: those that start first must be the longest."""
    return sum(
        _SLOW if item.get_closest_marker("slow") else 1 if item.get_closest_marker("server") else 0
        for item in items
    )
