"""Who follows which election, and what they were told last.

What this does not promise: that what they are told arrives. It is thrown away with a leadership.
"""

from __future__ import annotations

from electctl.raft.pure.requests import ElectionSeen

#: A client, and the id of its request.
Watcher = tuple[str, int]


class Watchers:
    """Those of one leader."""

    def __init__(self) -> None:
        self._told: dict[str, dict[Watcher, ElectionSeen]] = {}

    def follow(self, election: str, watcher: Watcher, seen: ElectionSeen) -> None:
        """It has been told this, and wants to hear of changes."""
        self._told.setdefault(election, {})[watcher] = seen

    def of(self, election: str | None) -> bool:
        """Whether anybody follows it."""
        return election in self._told

    def changed(self, election: str, seen: ElectionSeen) -> list[Watcher]:
        """Who is to be told that it is like this now."""
        watchers = self._told[election]
        # A token names one grant, so nothing else needs to be compared.
        news = [
            watcher
            for watcher, told in watchers.items()
            if (told.token, told.waiting) != (seen.token, seen.waiting)
        ]
        watchers.update(dict.fromkeys(news, seen))
        return news

    def departed(self, client: str) -> None:
        """The client follows nothing any more."""
        for election, watchers in list(self._told.items()):
            for watcher in [watcher for watcher in watchers if watcher[0] == client]:
                del watchers[watcher]
            if not watchers:
                del self._told[election]

    def all(self) -> list[Watcher]:
        """Everybody."""
        return [watcher for watchers in self._told.values() for watcher in watchers]
