"""A watch on our own znode while we lead: who loses it learns of it at once.

What this does not guarantee: that the word comes. Without a connection there is none, and what the
request for the watch met with is not looked into: the next renewal tells in any case.

The watch is our own session's. It uses up nobody else's, and the next in the queue keeps the one
that it has on the same znode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kazoo.protocol.states import EventType

from electctl_zookeeper.session import Session


class Sentry:
    """Calls ``gone`` from a thread of kazoo's once the store says that ``path`` is not there."""

    def __init__(self, session: Session, path: str, gone: Callable[[], None]) -> None:
        self._session = session
        self._path = path
        self._gone = gone
        #: Whether a request for the watch is under way, or was answered.
        self._posted = False

    def post(self) -> None:
        """Ask for the watch, unless it stands; waits for nothing."""
        if not self._posted:
            self._posted = True
            self._session.look_later(self._path, self._seen, self._changed)

    def _seen(self, answer: Any) -> None:
        if not answer.successful():
            self._posted = False  # the next renewal asks for it again
        elif answer.value is None:
            # Our server has the znode's creation, for it has answered a later write of ours.
            self._gone()

    def _changed(self, event: Any) -> None:
        self._posted = False
        if event.type == EventType.DELETED:
            self._gone()
        elif event.type == EventType.CHANGED:
            self.post()
