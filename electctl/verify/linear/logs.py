"""Logs of operations, line by line: Jepsen's of one register, and those of a map.

A line is one moment: ``:invoke``, then ``:ok``, ``:fail`` or ``:info`` of the same process. The
numbers of the lines are the clock, for a log is written by one observer.

What this does not guarantee: that a log is complete. A process that invokes and never comes back
has an operation of unknown outcome, whatever the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from electctl.errors import UsageError
from electctl.verify.linear.history import Operation

_HINT: Final = "docs/verify.md shows the lines of such a log"
#: What Jepsen's logger writes before each line.
_LOGGER: Final = re.compile(r"(?:[A-Z]+ +\S+ +- +)?")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_PAIR: Final = re.compile(r"\[(-?[0-9]{1,18})[ ,]+(-?[0-9]{1,18})\]")
_NOBODY: Final = ":nemesis"

#: The operations whose answer is a value.
_READS: Final = ("read", "get")

Moment = Literal["invoke", "ok", "fail", "info"]
_MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)


class _Entry(NamedTuple):
    process: str
    moment: Moment
    kind: str
    #: The part of the history that it belongs to: the key of a map.
    key: str
    value: Hashable


@dataclass(frozen=True, slots=True)
class Log:
    """What was read: the operations on each key; those on a register under ""."""

    lines: int
    histories: dict[str, list[Operation]]

    @property
    def operations(self) -> int:
        """How many, over all keys."""
        return sum(map(len, self.histories.values()))


class _Word(str):
    """A keyword of EDN, which is no text: ``:get``."""

    __slots__ = ()


class _Wrong(Exception):
    """What is wrong with a line, in words."""


#: A line → what it says; None for one that is about no operation. Raises _Wrong.
_Parse = Callable[[str], _Entry | None]


def read_register(lines: Iterable[str], file: str) -> Log:
    """``process⇥:moment⇥:read|:write|:cas⇥value``. Raises UsageError, with file and line."""
    return _read(lines, file, _register_entry)


def read_map(lines: Iterable[str], file: str) -> Log:
    """``{:process 1, :type :moment, :f :get|:put|:append, :key "k", :value "v"}``. As above."""
    return _read(lines, file, _map_entry)


def _read(lines: Iterable[str], file: str, parse: _Parse) -> Log:
    histories: dict[str, list[Operation]] = {}
    open_ones: dict[str, tuple[int, _Entry]] = {}
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            entry = parse(line) if line.strip() else None
            if entry is None:
                continue
            if entry.moment == "invoke":
                if entry.process in open_ones:
                    called, _ = open_ones[entry.process]
                    raise _Wrong(
                        f"process {entry.process} has had no answer since line {called}, "
                        "and calls again"
                    )
                open_ones[entry.process] = (number, entry)
                histories.setdefault(entry.key, [])
            else:
                found = _ended(entry, number, open_ones.pop(entry.process, None))
                if found is not None:
                    histories[entry.key].append(found)
        except _Wrong as wrong:
            raise UsageError(f"{file}:{number}: {wrong}", hint=_HINT) from None
    for called, entry in open_ones.values():
        histories[entry.key].append(_unknown(entry, called))
    return Log(number, histories)


def _ended(entry: _Entry, number: int, call: tuple[int, _Entry] | None) -> Operation | None:
    """The operation that ends here; None for one that failed, so that it has not acted."""
    if call is None:
        raise _Wrong(f"process {entry.process} has called nothing, and has an answer")
    called, asked = call
    if (asked.kind, asked.key) != (entry.kind, entry.key):
        raise _Wrong(f"process {entry.process} called something else in line {called}")
    if entry.moment == "info":
        return _unknown(asked, called)
    same = entry.value == asked.value
    if entry.moment == "fail":
        # A compare and set that compared, and failed, is an answer too: it was another value then.
        if entry.kind == "cas" and same:
            return Operation("failed cas", called, number, asked.value, process=entry.process)
        return None
    if entry.kind in _READS:
        return Operation(entry.kind, called, number, None, entry.value, entry.process)
    if not same:
        raise _Wrong(f"the answer is about another value than the call in line {called}")
    return Operation(entry.kind, called, number, asked.value, process=entry.process)


def _unknown(asked: _Entry, called: int) -> Operation:
    return Operation(asked.kind, called, None, asked.value, process=asked.process)


# A register ---------------------------------------------------------------------------------------


def _register_entry(line: str) -> _Entry | None:
    text = line.rstrip("\r\n")
    process, *columns = _LOGGER.sub("", text, count=1).split("\t", 3)
    if process == _NOBODY:
        return None
    if len(columns) < 3 or not process.isdecimal():
        raise _Wrong("it must be a process, :invoke and the like, an operation, a value: by tabs")
    moment = _moment(columns[0])
    kind = _one_of(columns[1], (":read", ":write", ":cas")).removeprefix(":")
    # With a fifth column, or another word, it is said how the call failed or was lost.
    settled = moment in ("invoke", "ok")
    value = _register_value(kind, moment, columns[2]) if settled else _asked(columns[2])
    return _Entry(process, moment, kind, "", value)


def _register_value(kind: str, moment: Moment, text: str) -> Hashable:
    value = _asked(text)
    if kind == "read" and (value is None or (moment == "ok" and isinstance(value, int))):
        return value
    if (kind == "write" and isinstance(value, int)) or (kind == "cas" and isinstance(value, tuple)):
        return value
    raise _Wrong(f"{text!r} is no value for :{moment} of :{kind}")


def _asked(text: str) -> Hashable:
    """A number, a pair of them, None for nil; what is something else stays the text it is."""
    if text == "nil":
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    pair = _PAIR.fullmatch(text)
    return text if pair is None else (int(pair[1]), int(pair[2]))


# A map --------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r'[\s,]*(?:(?P<word>:[^\s,{}"]+)|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,{}":]+))[\s,]*'
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_NEEDED: Final = (":process", ":type", ":f", ":key", ":value")
#: What may stand there too, and says nothing to us.
_SPARE: Final = (":time", ":index", ":error")


def _map_entry(line: str) -> _Entry | None:
    fields = _fields(line.strip())
    if fields.get(":process") == _NOBODY:
        return None
    for name in _NEEDED:
        if name not in fields:
            raise _Wrong(f"{name} is missing")
    process, key, value = fields[":process"], fields[":key"], fields[":value"]
    if not isinstance(process, int):
        raise _Wrong(":process must be a number")
    if not isinstance(key, str) or isinstance(key, _Word):
        raise _Wrong(":key must be a text")
    moment = _moment(fields[":type"])
    kind = _one_of(fields[":f"], (":get", ":put", ":append")).removeprefix(":")
    if moment in ("invoke", "ok"):
        value = _map_value(kind, moment, value)
    return _Entry(str(process), moment, kind, key, value)


def _map_value(kind: str, moment: Moment, value: Hashable) -> Hashable:
    if kind == "get":
        if value is None:
            return "" if moment == "ok" else None  # a key that was never written
        if moment == "invoke":
            raise _Wrong(":value of a get that is called must be nil")
    if not isinstance(value, str) or isinstance(value, _Word):
        raise _Wrong(":value must be a text")
    return value


def _fields(text: str) -> dict[str, Hashable]:
    """The map of EDN in a line, of which each value is a word, a text, a number or nil."""
    if not (text.startswith("{") and text.endswith("}")):
        raise _Wrong("it must be one map in braces")
    tokens: list[Hashable] = []
    place, end = 1, len(text) - 1
    while place < end:
        found = _TOKEN.match(text, place, end)
        if found is None:
            raise _Wrong(f"{text[place : place + 20]!r} is not understood")
        tokens.append(_token(found))
        place = found.end()
    names, values = tokens[::2], tokens[1::2]
    if len(names) != len(values):
        raise _Wrong("a value is missing")
    fields: dict[str, Hashable] = {}
    for name, value in zip(names, values, strict=True):
        if not isinstance(name, _Word) or name not in (*_NEEDED, *_SPARE):
            raise _Wrong(f"{name!r} is no field of such a line")
        if name in fields:
            raise _Wrong(f"{name} stands there twice")
        fields[name] = value
    return fields


def _token(found: re.Match[str]) -> Hashable:
    if found["word"] is not None:
        return _Word(found["word"])
    if found["text"] is not None:
        return _ESCAPE.sub(_unescaped, found["text"])
    plain = found["plain"]
    if plain == "nil":
        return None
    if _INTEGER.fullmatch(plain):
        return int(plain)
    raise _Wrong(f"{plain!r} is neither a word, a text, a number nor nil")


def _unescaped(found: re.Match[str]) -> str:
    if found[1] not in _ESCAPED:
        raise _Wrong(f"the escape {found[0]!r} is not known")
    return _ESCAPED[found[1]]


# Both ---------------------------------------------------------------------------------------------


def _moment(value: Hashable) -> Moment:
    for moment in _MOMENTS:
        if value == f":{moment}":
            return moment
    raise _Wrong(f"{value!r} is none of " + ", ".join(f":{moment}" for moment in _MOMENTS))


def _one_of(value: Hashable, words: tuple[str, ...]) -> str:
    if value not in words:
        raise _Wrong(f"{value!r} is none of " + ", ".join(words))
    return str(value)
