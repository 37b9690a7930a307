"""What is made of files, and made anew when the files have changed: certificates, passwords.

What this does not guarantee: that a change is seen at once. The files are looked at when the thing
is asked for, which is when a connection is made; and a change that leaves name, size, inode and
times of every file as they were is none.

Files that belong together are seldom written together: a key may be there before its certificate.
While they cannot be used, what was made last stays, and the next call tries again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from electctl.errors import ConfigError

T = TypeVar("T")
_Stamp = tuple[tuple[int, ...] | None, ...]


class Fresh(Generic[T]):
    """``make`` reads ``paths`` and raises ConfigError if they cannot be used; it is called at once.

    ``said`` is told of what became of a change: None if it was taken in, the error if it cannot be
    used, each error once.
    """

    def __init__(
        self,
        paths: Sequence[str],
        make: Callable[[], T],
        said: Callable[[ConfigError | None], object] = lambda error: None,
    ) -> None:
        self._paths = tuple(paths)
        self._make = make
        self._said = said
        self._lock = threading.Lock()
        self._trouble = ""
        self._made_of = self._stamp()
        self._value = make()

    def get(self) -> T:
        """What the files say now, or said when they could last be used. From any thread."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._made_of:
                self._take_in(stamp)
            return self._value

    def _take_in(self, stamp: _Stamp) -> None:
        try:
            value = self._make()
        except ConfigError as error:
            if error.message != self._trouble:
                self._trouble = error.message
                self._said(error)
            return
        # The stamp is from before: what was written while we read is read at the next call.
        self._value, self._made_of, self._trouble = value, stamp, ""
        self._said(None)

    def _stamp(self) -> _Stamp:
        return tuple(map(_stamp_of, self._paths))


def _stamp_of(path: str) -> tuple[int, ...] | None:
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
