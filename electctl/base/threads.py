"""Threads, and a thread for calls that may block for longer than anybody may wait.

What this does not guarantee: that a call which was given up ends; a thread cannot be ended from
outside. It goes on by itself, and what it brings late is handed to whoever said so.

A system call for a name can block for as long as its resolver likes, a client library for as long
as it thinks right; neither can be told to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from electctl.base.clock import now
from electctl.errors import Unreachable

T = TypeVar("T")

#: Seconds: a lock does not count time spent in suspend, so nobody waits for it longer at once.
_LONGEST_WAIT = 0.5


def start(target: Callable[[], object], name: str) -> threading.Thread:
    """A daemon thread. Raises Unreachable where the system gives none."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise Unreachable(
            f"no thread can be started here: {error}",
            hint="the user's processes are used up (ulimit -u, TasksMax=), or the memory is",
        ) from None
    return thread


class Call(Generic[T]):
    """One call, made by a :class:`Caller`. ``ended`` is set when it has a result or an error."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.ended = threading.Event()
        self._function = function
        self._lock = threading.Lock()
        self._late: Callable[[T], None] | None = None
        self._result: T
        self._error: BaseException | None = None

    def make(self) -> None:
        """In the caller's thread."""
        error: BaseException | None = None
        try:
            result = self._function()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the result is asked for
            error = raised
        with self._lock:
            late = self._late
            if error is not None:
                self._error = error
            else:
                self._result = result
            self.ended.set()
        if late is not None and error is None:
            late(result)

    def wait(self, until: float) -> bool:
        """Whether it has ended by ``until``, on :func:`electctl.base.clock.now`."""
        while not self.ended.is_set():
            left = until - now()
            if left <= 0:
                return False
            self.ended.wait(min(left, _LONGEST_WAIT))
        return True

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with a result."""
        return self.ended.is_set() and self._error is None

    def give_up(self, late: Callable[[T], None]) -> bool:
        """False if it has ended; else nobody asks for its result, and ``late`` is called with it.

        An error that comes late is of no interest.
        """
        with self._lock:
            if self.ended.is_set():
                return False
            self._late = late
            return True

    def result(self) -> T:
        """What it returned, once it has ended; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result


class Caller:
    """A thread that makes one call after another. Raises Unreachable if none can be had."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        start(self._run, name)

    def _run(self) -> None:
        while (make := self._calls.get()) is not None:
            make()

    def call(self, function: Callable[[], T]) -> Call[T]:
        """Have it called, after all that came before."""
        call = Call(function)
        self._calls.put(call.make)
        return call

    def end(self) -> None:
        """The thread ends after all that it was given."""
        self._calls.put(None)
