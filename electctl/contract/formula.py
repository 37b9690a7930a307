"""A bound or a rate as a formula, and its value. No ``eval``: what is not listed here is refused.

What this does not guarantee: that the formula is true. It is a claim of a backend's traits.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from electctl.errors import ConfigError

#: What a formula may speak of, and what it is. Times in seconds.
VARIABLES = {
    "ttl": "the TTL of those who wait",
    "holder_ttl": "the TTL of the record: of who leads, or led when it crashed",
    "poll": "the time between two looks, where the scheme polls",
    "members": "how many servers the store has",
    "rtt": "a round trip to the store",
    "dead_waiters": "how many of those next in line vanished with the leader",
}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "ceil": math.ceil}


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """The value where ``values`` holds each of :data:`VARIABLES`, in seconds.

    A formula has numbers, variables, ``+ - * /``, brackets, ``min``, ``max`` and ``ceil``. Raises
    ConfigError for anything else, and where there is no value.
    """
    try:
        return _value(ast.parse(formula, mode="eval").body, values)
    except (SyntaxError, ValueError, ArithmeticError, TypeError) as error:
        raise ConfigError(
            f"{formula!r} is not a formula in {', '.join(VARIABLES)}",
            hint="it may have numbers, these, + - * /, brackets, min, max and ceil",
        ) from error


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name) if name in VARIABLES:
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=[*args], keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(arg, values) for arg in args)))
    raise ValueError(ast.unparse(node))
