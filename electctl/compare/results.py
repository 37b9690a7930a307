"""Results of drills as they stand in a file, one JSON object a line, each checked when it is read.

The shape is that of ``docs/drills.md``, "One result". Fields that are not known are kept and left
alone: later versions may add some.

What this does not guarantee: that a result is true. It says what a run wrote down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

from electctl.base.state import state_dir
from electctl.errors import UsageError

Verdict = Literal["split-brain", "fenced", "inconclusive", "not_injected", "safe"]
VIEWS = ("store", "belief", "effect")
_LOSSES = ("exclusion", "token", "liveness", "checkpoint")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:-]*")
_HINT = "docs/drills.md describes a result; electctl drill writes them"


class _Wrong(Exception):
    """What a value must be, and is not. ``where`` grows on the way out."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where


_Check = Callable[[Any], None]


def _of(what: str, test: Callable[[Any], bool]) -> _Check:
    def check(value: Any) -> None:
        if not test(value):
            raise _Wrong(what)

    return check


def _or_null(inner: _Check) -> _Check:
    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def _list(inner: _Check) -> _Check:
    def check(value: Any) -> None:
        if type(value) is not list:
            raise _Wrong("a list")
        for number, item in enumerate(value):
            _within(f"[{number}]", inner, item)

    return check


def _object(fields: dict[str, _Check]) -> _Check:
    """A field whose name ends with "?" may be missing."""

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise _Wrong("an object")
        for given, inner in fields.items():
            name = given.removesuffix("?")
            if name in value:
                _within(f".{name}", inner, value[name])
            elif name == given:
                raise _Wrong("there", f".{name}")

    return check


def _within(where: str, inner: _Check, value: Any) -> None:
    try:
        inner(value)
    except _Wrong as wrong:
        raise _Wrong(wrong.what, where + wrong.where) from None


def _is_when(value: Any) -> bool:
    try:
        return type(value) is str and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_text = _of("a text", lambda value: type(value) is str)
_name = _of(
    "a name of letters, digits and + . _ : -",
    lambda value: type(value) is str and _NAME.fullmatch(value) is not None,
)
_int = _of("a whole number", lambda value: type(value) is int)
_count = _of("a whole number from 0", lambda value: type(value) is int and value >= 0)
_number = _of("a number", lambda value: type(value) in (int, float))
_ms = _of("milliseconds from 0", lambda value: type(value) in (int, float) and value >= 0)
_when = _of("a time with its zone, as in 2026-01-31T02:00:04.118Z", _is_when)
_labels = _of(
    "an object of texts, numbers and nulls",
    lambda value: (
        type(value) is dict
        and all(each is None or type(each) in (str, int, float) for each in value.values())
    ),
)


def _one_of(*allowed: str) -> _Check:
    return _of("one of " + ", ".join(allowed), lambda v: type(v) is str and v in allowed)


_interval = _object(
    {"candidate": _text, "token": _or_null(_int), "from": _number, "until": _or_null(_number)}
)
_injected = _object(
    {"target": _text, "from": _number, "until": _or_null(_number), "confirmed": _or_null(_text)}
)
_mark = _object(
    {"at": _number, "candidate?": _or_null(_text), "kind": _text, "text?": _text, "count?": _count}
)
_tally = _object({"tried": _count, "accepted": _count})
_RESULT = _object(
    {
        "version": _of("1, the version that this electctl reads", lambda value: value == 1),
        "scheme": _name,
        "nodes": _or_null(_count),
        "candidate": _name,
        "fault": _name,
        "seed": _int,
        "round": _count,
        "ttl": _of("seconds above 0", lambda value: type(value) in (int, float) and value > 0),
        "started": _when,
        "length": _ms,
        "command": _text,
        "versions": _labels,
        "machine": _labels,
        "verdict": _one_of(*get_args(Verdict)),
        "why": _text,
        "injected": _or_null(_injected),
        "overlap": _object(dict.fromkeys(VIEWS, _ms)),
        # A native tool, and some schemes, have no checkpoint.
        "stale": _object({"unfenced": _tally, "fenced": _tally, "checkpoint?": _tally}),
        "failover": _or_null(_ms),
        "handover": _or_null(_ms),
        "without_leader": _or_null(_ms),
        "margin": _or_null(_number),
        "breaks": _list(_one_of(*_LOSSES)),
        "lanes": _object(dict.fromkeys(VIEWS, _list(_interval))),
        "marks": _list(_mark),
    }
)


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one drill. ``data`` is the whole of it, as it was written."""

    scheme: str
    candidate: str
    fault: str
    seed: int
    verdict: Verdict
    started: datetime
    data: dict[str, Any]

    @classmethod
    def of(cls, data: object) -> Self:
        """Raises UsageError for what is not a result."""
        try:
            _RESULT(data)
        except _Wrong as wrong:
            name = wrong.where.removeprefix(".")
            if not name:
                raise UsageError("not a result but something else", hint=_HINT) from None
            raise UsageError(f"{name!r} must be {wrong.what}", hint=_HINT) from None
        assert isinstance(data, dict)  # _RESULT has seen to it
        return cls(
            scheme=data["scheme"],
            candidate=data["candidate"],
            fault=data["fault"],
            seed=data["seed"],
            verdict=data["verdict"],
            started=datetime.fromisoformat(data["started"]),
            data=data,
        )


def parse(lines: Iterable[str], where: str) -> list[Result]:
    """The results in ``lines``. UsageError with ``where`` and the number of one that is none.

    A last line without its end, which its writer died over, is left out.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Result.of(json.loads(line, parse_constant=_refuse)))
        except (ValueError, RecursionError):
            if not line.endswith("\n"):
                break
            raise UsageError(f"{where}, line {number}: no JSON", hint=_HINT) from None
        except UsageError as error:
            raise UsageError(f"{where}, line {number}: {error.message}", hint=error.hint) from None
    return found


def _refuse(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def read(path: Path) -> list[Result]:
    """The results in a file. Raises UsageError, also where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as lines:
            return parse(lines, str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint=_HINT) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8", hint=_HINT) from None


def own_file() -> Path:
    """Where the drills of this user append their results, unless told otherwise."""
    return state_dir() / "drill" / "results.jsonl"


def reference() -> list[Result]:
    """The reference run that ships with the package; empty while there is none."""
    shipped = files("electctl.compare") / "reference.jsonl"
    if not shipped.is_file():
        return []
    return parse(shipped.read_text(encoding="utf-8").splitlines(keepends=True), "the reference run")
