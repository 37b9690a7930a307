"""The threads in which a supervisor waits for the store and for hooks: made before the command.

What this does not guarantee: that a job ends. A client library can block for as long as its name
server is silent; whoever gave the job has a limit of its own, and goes on without the answer.

They exist before the command does, because the command may use up all processes of its user, and
a leadership that cannot start a thread can neither be renewed nor given back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from electctl.errors import CannotRun

#: A term needs three at once (attempt, cancel, look-up); the rest is for jobs that hang.
THREADS = 8


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a daemon thread. Raises CannotRun where the system gives us none."""
    try:
        threading.Thread(target=target, name=f"electctl-{name}", daemon=True).start()
    except RuntimeError:
        raise CannotRun(
            "no thread can be started",
            hint="ulimit -u (processes) or -v (memory), or the service's TasksMax=, is used up",
        ) from None


class Workers:
    """Does jobs in threads of its own.

    ``crashed`` is called, in the thread, with what a job raised.
    """

    def __init__(self, crashed: Callable[[BaseException], None], threads: int = THREADS) -> None:
        self._crashed = crashed
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        for number in range(threads):
            start_thread(self._work, f"worker-{number}")

    def do(self, job: Callable[[], object]) -> None:
        """Have ``job`` done soon. From any thread; never blocks."""
        self._jobs.put(job)

    def finish(self, job: Callable[[], object], limit: float) -> bool:
        """Do ``job`` and wait for its end, ``limit`` seconds at most; whether it came."""
        done = threading.Event()

        def last() -> None:
            try:
                job()
            finally:
                done.set()

        self.do(last)
        return done.wait(limit)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - it must not take its thread along
                self._crashed(error)
