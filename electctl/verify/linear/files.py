"""A log in a file: read whole, so that memory grows with its length.

What this does not guarantee: anything about a file that is being changed meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from electctl.errors import UsageError
from electctl.record.history import MAX_LINE
from electctl.verify.linear.judge import Judgement, judge
from electctl.verify.linear.logs import Log, read_map, read_register
from electctl.verify.linear.models import MAP, REGISTER, Model
from electctl.verify.linear.search import Limits


@dataclass(frozen=True, slots=True)
class Kind:
    """A model, and how its logs are read."""

    model: Model
    read: Callable[[Iterable[str], str], Log]


KINDS: Final = {"register": Kind(REGISTER, read_register), "map": Kind(MAP, read_map)}


def judge_file(path: Path, kind: Kind, limits: Limits) -> Judgement:
    """Read one log, and judge it. Raises UsageError, with file and line, for what is none."""
    log = kind.read(_lines(path), str(path))
    if not log.operations:
        raise UsageError(f"{path}: there is no operation in it", hint="is it a log?")
    return judge(log, kind.model, limits)


def _lines(path: Path) -> Iterator[str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is not a regular file", hint="name the file of a log")
        with open(os.fspath(path), "rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise UsageError(
                        f"{path}:{number}: the line is longer than {MAX_LINE} bytes",
                        hint="is it a log?",
                    )
                try:
                    yield raw.decode()
                except UnicodeDecodeError:
                    raise UsageError(
                        f"{path}:{number}: it is not UTF-8", hint="is it a log?"
                    ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="is the path right?"
        ) from None
