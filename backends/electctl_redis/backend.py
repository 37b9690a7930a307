"""The Redis backend: one primary, by itself, as Sentinel names it, or as a cluster does.

What this does not guarantee: that an eviction is heeded at once. The mark is seen at the holder's
next renewal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from electctl.contract.backend import Backend, Bid, Candidacy, Holder, Leftover, View, Watch
from electctl_redis import scripts, sweep
from electctl_redis.candidacy import RedisCandidacy
from electctl_redis.connect import Links
from electctl_redis.names import Claim, Keys
from electctl_redis.target import Target
from electctl_redis.traits import traits_of
from electctl_redis.watch import RedisWatch, view_of

if TYPE_CHECKING:
    from electctl.contract.traits import Traits
    from electctl.contract.url import BackendURL

#: Seconds for one request that is not part of a candidacy.
REQUEST_TIMEOUT = 3.0


class RedisBackend(Backend):
    """``redis://``, ``rediss://``, ``redis+sentinel://`` and ``redis+cluster://``."""

    def __init__(self, url: BackendURL) -> None:
        super().__init__(url)
        self.target = Target.of(url)
        self._links = Links(self.target, REQUEST_TIMEOUT)

    @property
    def traits(self) -> Traits:
        """What this URL's scheme promises."""
        return traits_of(self.url.scheme)

    def candidacy(self, bid: Bid) -> Candidacy:
        """A candidacy has connections of its own: others' requests never delay its renewals."""
        return RedisCandidacy(self.target, bid, self.notes)

    def view(self, election: str) -> View:
        """One look at the lock and its queue, in one script."""
        return self._look(Keys.of(election, self.target.db))[1]

    def _look(self, keys: Keys) -> tuple[bytes, View]:
        answer = self._links.script(scripts.LOOK, keys.queue)
        return answer[0] or b"", view_of(answer)

    def watch(self, election: str) -> Watch:
        """Follow an election over a connection of its own."""
        return RedisWatch(self._links, election)

    def evict(self, election: str, *, force: bool) -> Holder | None:
        """Mark, or delete, the term that a look has just shown; never a later one."""
        keys = Keys.of(election, self.target.db)
        while True:
            value, view = self._look(keys)
            if view.holder is None:
                return None
            if force:
                done = self._links.script(scripts.DEPOSE, keys.queue, keys.channels, value)
            elif not view.holder.can_be_asked:
                return view.holder
            else:
                done = self._links.script(scripts.ASK_TO_STOP, (keys.lock, keys.term), value)
            if done == 1:
                return view.holder

    def give_back(self, receipt: str) -> None:
        """What the holder's own release does, in the same script: by the lock's value."""
        claim = Claim.unpack(receipt)
        keys = Keys.of(claim.election, self.target.db)
        self._links.script(scripts.RELEASE, keys.queue, keys.channels, claim.value)

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value written under any grant."""
        keys = Keys.of(election, self.target.db)
        field = b"v:" + slot.encode()
        found = self._links.call("HGET", keys.checkpoint, field, key=keys.checkpoint)
        return found if found is None else bytes(found)

    def leftovers(self) -> Iterator[Leftover]:
        """See :mod:`electctl_redis.sweep`."""
        return sweep.leftovers(self._links)

    def sweep(self, leftover: Leftover) -> bool:
        """One script, with the check that the election is free and unchanged."""
        return sweep.sweep(self._links, leftover)

    def close(self) -> None:
        """Close idle connections; candidacies and watches have their own."""
        self._links.close()
