"""A bound as a formula in ``ttl``, and its value. No ``eval``: what is not listed here is refused.

What this does not guarantee: that the formula is true. It is a claim of a backend's traits.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from electctl.errors import ConfigError

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "ceil": math.ceil}


def evaluate(formula: str, ttl: float) -> float:
    """The value for ``ttl`` seconds, in seconds.

    A formula has numbers, ``ttl``, ``+ - * /``, brackets, ``min``, ``max`` and ``ceil``. Raises
    ConfigError for anything else, and where there is no value.
    """
    try:
        return _value(ast.parse(formula, mode="eval").body, ttl)
    except (SyntaxError, ValueError, ArithmeticError, TypeError) as error:
        raise ConfigError(
            f"{formula!r} is not a formula in ttl",
            hint="it may have numbers, ttl, + - * /, brackets, min, max and ceil",
        ) from error


def _value(node: ast.expr, ttl: float) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id="ttl"):
            return ttl
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, ttl), _value(right, ttl))
        case ast.Call(func=ast.Name(id=name), args=[*args], keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(arg, ttl) for arg in args)))
    raise ValueError(ast.unparse(node))
