"""The candidates of one election, from a snapshot and the changes after it. Pure.

What this does not guarantee: that the leader believes in its leadership; a roster is the store's
view.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from electctl.contract.backend import Holder, View
from electctl_etcd import keys

# mvccpb.Event.DELETE.
_DELETE = 1


class Roster:
    """Who stands, ordered by create revision. The first leads, whatever it knows."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._standing: dict[bytes, Any] = {}
        #: The store's revision that this is the state of.
        self.revision = 0
        #: Keys of nested names that the snapshot had among the candidates.
        self.nested: tuple[bytes, ...] = ()

    def reset(self, answer: Any) -> View:
        """Take a whole range over the prefix for the state, and return it as a view."""
        self._standing = {kv.key: kv for kv in answer.kvs if keys.is_candidate(kv.key, self._start)}
        self.nested = tuple(kv.key for kv in answer.kvs if kv.key not in self._standing)
        self.revision = answer.header.revision
        return self.view()

    def apply(self, events: Iterable[Any]) -> list[View]:
        """Take in events in order; one view for each revision, for all of its keys change at once.

        Events of a revision that is known already are passed over.
        """
        views = []
        for revision, changes in groupby(events, key=lambda event: event.kv.mod_revision):
            if revision <= self.revision:
                continue
            for event in changes:
                if event.type == _DELETE:
                    self._standing.pop(event.kv.key, None)
                elif keys.is_candidate(event.kv.key, self._start):
                    self._standing[event.kv.key] = event.kv
            self.revision = revision
            views.append(self.view())
        return views

    def first(self) -> Any | None:
        """The key, as the store has it, of the candidate that leads."""
        return min(self._standing.values(), key=lambda kv: kv.create_revision, default=None)

    def view(self) -> View:
        """The state now. Never asks the store."""
        standing = sorted(self._standing.values(), key=lambda kv: kv.create_revision)
        ids = [keys.decode_id(kv.value) for kv in standing]
        if not standing:
            return View(None)
        leader = standing[0]
        holder = Holder(
            id=ids[0],
            token=leader.create_revision,
            key=keys.decode_id(leader.key),
            can_be_asked=keys.ours(leader.lease),
        )
        return View(holder, tuple(ids[1:]))
