"""The values of this package as bytes and back, for the store, the snapshots and the wire.

What this does not do: frame, sign or compress. It takes nothing for granted of what it decodes:
anything but the exact shape raises Malformed, and what it builds is no larger than its input.

The form is JSON: a value is ``[name, field, …]``, a tuple a list, bytes base64. JSON because
people can read it in the store, and the standard library decodes it in C.
"""

from __future__ import annotations

import base64
import binascii
import json
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

from electctl.errors import ElectctlError


class Malformed(ElectctlError):
    """These bytes are not an encoded message."""


Check = Callable[[Any], Any]
_LARGEST = 2**63


def encode(value: object) -> bytes:
    """One value of :mod:`messages`, :mod:`commands`, :mod:`requests` and the like."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    kind = type(value)
    return [kind.__name__, *(_plain(getattr(value, name)) for name in kind.__match_args__)]


class Decoder:
    """Decodes values of one type, or of a union of some."""

    def __init__(self, kind: Any) -> None:
        self._check = _checker(kind)

    def decode(self, data: bytes) -> Any:
        """The value. Raises Malformed."""
        try:
            plain = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise Malformed("not JSON") from None
        return self._check(plain)


_checkers: dict[Any, Check] = {}


def _checker(kind: Any) -> Check:
    if kind not in _checkers:
        _checkers[kind] = _make(kind)
    return _checkers[kind]


def _make(kind: Any) -> Check:
    if kind is bytes:
        return _bytes
    if kind is int:
        return _int
    if kind is str:
        return _str
    if kind is bool:
        return _bool
    if get_origin(kind) is tuple:
        return _list_of(_checker(get_args(kind)[0]))
    if get_origin(kind) in (Union, types.UnionType):
        return _union(get_args(kind))
    return _struct(kind)


def _bytes(plain: Any) -> bytes:
    if type(plain) is not str:
        raise Malformed("bytes are a base64 text")
    try:
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("not base64") from None


def _int(plain: Any) -> int:
    if type(plain) is not int or not 0 <= plain < _LARGEST:
        raise Malformed("not a whole number from 0 to 2^63 - 1")
    return plain


def _str(plain: Any) -> str:
    if type(plain) is not str:
        raise Malformed("not a text")
    try:
        # JSON can escape half of a surrogate pair, which no encoding can write again.
        plain.encode()
    except UnicodeEncodeError:
        raise Malformed("not valid Unicode") from None
    return plain


def _bool(plain: Any) -> bool:
    if type(plain) is not bool:
        raise Malformed("neither true nor false")
    return plain


def _list_of(item: Check) -> Check:
    def check(plain: Any) -> tuple[Any, ...]:
        if type(plain) is not list:
            raise Malformed("not a list")
        return tuple([item(part) for part in plain])

    return check


def _struct(kind: Any) -> Check:
    hints = get_type_hints(kind)
    parts = [_checker(hints[name]) for name in kind.__struct_fields__]
    name = kind.__name__
    length = len(parts) + 1

    def check(plain: Any) -> Any:
        if type(plain) is not list or len(plain) != length or plain[0] != name:
            raise Malformed(f"not a {name}")
        return kind(*[part(value) for part, value in zip(parts, plain[1:], strict=True)])

    return check


def _union(kinds: tuple[Any, ...]) -> Check:
    """A union of types, told apart by name, or of one kind with None."""
    if type(None) in kinds:
        rest = [kind for kind in kinds if kind is not type(None)]
        present = _checker(rest[0]) if len(rest) == 1 else _union(tuple(rest))
        return lambda plain: None if plain is None else present(plain)
    named = {kind.__name__: _checker(kind) for kind in kinds}

    def check(plain: Any) -> Any:
        if type(plain) is list and plain and type(plain[0]) is str and plain[0] in named:
            return named[plain[0]](plain)
        raise Malformed("none of the messages that belong here")

    return check
