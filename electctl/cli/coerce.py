"""Plain conversion of option values, in place of Typer's pydantic adapters.

Two reasons. Importing pydantic takes longer than all the rest of a start (100 ms beside 60 ms for
Typer), and pydantic refuses text that is not UTF-8, which the arguments of a campaign's command
may be. Types not handled here go to Typer as before.

What this does not guarantee: that it is used. Typer offers no public way to replace an adapter;
where the attribute it hangs on is gone, Typer's own conversion applies and only costs time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import typer


def make_plain(params: list[Any]) -> list[Any]:
    """Give each parameter the plain conversion where its type has one; returns them."""
    for param in params:
        if getattr(param, "_runtime_param", _ABSENT) is None:
            convert = _converter(param.type_descriptor)
            if convert is not None:
                param._runtime_param = _Plain(convert)
    return params


_ABSENT = object()


def _converter(descriptor: Any) -> Callable[[str], Any] | None:
    info = descriptor.parameter_info
    if info.parser is not None:
        parser: Callable[[str], Any] = info.parser
        return parser
    item = descriptor.annotation
    if descriptor.is_list:
        (item,) = get_args(item)
    if item is int and info.min is None and info.max is None:
        return _whole_number
    return {str: str, bool: bool}.get(item)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter("it must be a whole number") from None


class _Plain:
    """Stands where Typer keeps its ``RuntimeParam``."""

    def __init__(self, convert: Callable[[str], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value from the command line or the default, converted."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if many:
            return tuple(self._one(item, param, ctx) for item in value)
        return self._one(value, param, ctx)

    def _one(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value  # a default, already of its type
        try:
            return self._convert(value)
        except typer.BadParameter as error:
            raise typer.BadParameter(error.message, ctx=ctx, param=param) from None
