"""``file://`` as a backend: electctl.contract.backend over the records of a directory.

What this does not guarantee is in the traits of :mod:`electctl_file`.
"""

from __future__ import annotations

import json
import uuid
from functools import partial
from pathlib import Path

from electctl.base.clock import boot_id, now
from electctl.contract.backend import Backend, Bid, Candidacy, Grant, Holder, Renewal, View, Watch
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.core.polling import PollingCandidacy, PollingWatch
from electctl.errors import LeadershipLost, UsageError
from electctl_file import POLL, TRAITS
from electctl_file.store import Record, Store, Term

#: Seconds that one look may take where no bid says so.
TIMEOUT = 2.0


class FileCandidacy(PollingCandidacy):
    """One attempt. Its nonce tells its own writes from those of any other under the same id."""

    def __init__(self, store: Store, bid: Bid) -> None:
        super().__init__(POLL)
        self._store = store
        self._bid = bid
        self._nonce = uuid.uuid4().hex

    def look(self) -> Grant | None:
        """Take the election in the same step in which it is seen to be free."""
        since = now()  # before the step: what the core counts validity from
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            self.contacted = True
            term = record.current()
            # A write of ours whose outcome was unknown is found by its nonce.
            if term is None or term.nonce == self._nonce:
                return Grant(self._take(record, term), since, self._bid.ttl)
            self.rival = term.id
        return None

    def _take(self, record: Record, mine: Term | None) -> int:
        if mine is None:
            record.last_token += 1
            record.evict = ""
        token = record.last_token if mine is None else mine.token
        expires = now() + self._bid.ttl
        record.term = Term(
            self._bid.candidate, self._nonce, token, self._bid.ttl, expires, boot_id()
        )
        self._store.save(self._bid.election, record)
        return token

    def renew(self) -> Renewal:
        """Extend it if it is still ours: expired or taken is a definite no."""
        since = now()
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            self._take(record, self._own(record))
            return Renewal(since, self._bid.ttl, stop_requested=record.evict == self._nonce)

    def release(self) -> None:
        """Remove the term if its nonce is ours."""
        self._store.remove(self._bid.election, self._nonce, self._bid.request_timeout)

    def receipt(self) -> str:
        """With this another process can release the term in our stead."""
        return json.dumps([self._bid.election, self._nonce])

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """Write under the same lock under which the grant was checked."""
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            self._own(record)
            last = self._store.read_checkpoint(self._bid.election, slot)
            if last.get("grant") == self._nonce and last["seq"] > seq:
                return  # a delayed write: a later one of this grant has been here
            content = {"grant": self._nonce, "seq": seq, "value": value.hex()}
            self._store.save_checkpoint(self._bid.election, slot, content)

    def _own(self, record: Record) -> Term:
        term = record.current()
        if term is None or term.nonce != self._nonce:
            raise LeadershipLost(f"{self._bid.election!r} is no longer ours", reason="deleted")
        return term

    def close(self) -> None:
        """Nothing is kept open."""


class FileBackend(Backend):
    """A directory. Opening it makes no contact."""

    def __init__(self, url: BackendURL) -> None:
        super().__init__(url)
        if url.hosts or not url.path:
            raise UsageError(
                "a file URL names a directory of this machine", hint="file:///var/lib/myapp/leader"
            )
        self._store = Store(Path("/") / url.path)

    @property
    def traits(self) -> Traits:
        """What it promises."""
        return TRAITS

    def candidacy(self, bid: Bid) -> Candidacy:
        """A new attempt."""
        return FileCandidacy(self._store, bid)

    def view(self, election: str) -> View:
        """Who leads now. It does not know who waits."""
        with self._store.locked(election, TIMEOUT) as record:
            term = record.current()
        return View(None if term is None else _holder(term))

    def watch(self, election: str) -> Watch:
        """Follow an election."""
        return PollingWatch(partial(self.view, election), POLL)

    def evict(self, election: str, *, force: bool) -> Holder | None:
        """Mark the present term by its nonce, or remove it."""
        with self._store.locked(election, TIMEOUT) as record:
            term = record.current()
            if term is None:
                return None
            if force:
                record.term = None
            else:
                record.evict = term.nonce
            self._store.save(election, record)
        return _holder(term)

    def give_back(self, receipt: str) -> None:
        """What the holder's own release does: remove the term if it has that nonce."""
        try:
            election, nonce = json.loads(receipt)
        except (ValueError, TypeError):
            raise UsageError("this is no receipt of a grant in a directory") from None
        self._store.remove(election, nonce, TIMEOUT)

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value written; rename(2) shows the old or the new one, never a part."""
        found = self._store.read_checkpoint(election, slot)
        return bytes.fromhex(found["value"]) if found else None

    def close(self) -> None:
        """Nothing is kept open."""


def _holder(term: Term) -> Holder:
    left = max(0.0, term.expires - now())
    return Holder(term.id, term.token, key=term.nonce, ttl=term.ttl, expires_in=left)
