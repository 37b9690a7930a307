"""One question to a store, with a time by which there is an answer or an error.

What this does not guarantee: that the question has ended when its time is over. A client library,
or a resolver, that hangs is left behind in its thread, which is a daemon.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from electctl.base.clock import now
from electctl.errors import Unreachable

T = TypeVar("T")
#: Seconds beyond the limit for an error that is on its way: clients of stores give up after about
#: as long, and know better than we what was wrong.
LAST_WORDS = 0.5


class Asking(Generic[T]):
    """``ask`` runs in a thread from now on; ``where`` names the store in the error.

    ``limit`` is in seconds and counts from here; :data:`LAST_WORDS` more are waited.
    """

    def __init__(self, where: str, limit: float, ask: Callable[[], T]) -> None:
        self._where = where
        self._limit = limit
        self._deadline = now() + limit
        self._ask = ask
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="electctl-ask", daemon=True)
        self._thread.start()

    def answer(self) -> T:
        """Wait for the answer. Raises what ``ask`` raised; Unreachable when its time is over."""
        self._thread.join(max(0.0, self._deadline + LAST_WORDS - now()))
        if self._errors:
            raise self._errors[0]
        if not self._answers:
            raise Unreachable(
                f"{self._where} did not answer within {self._limit:g} s",
                hint="is the server running, and the URL right?",
            )
        return self._answers[0]

    def _run(self) -> None:
        try:
            self._answers.append(self._ask())
        except BaseException as error:  # noqa: BLE001 - raised again where somebody hears it
            self._errors.append(error)
