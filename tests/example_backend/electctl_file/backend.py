"""``file://`` as a backend: the contract of electctl.backend over the records of a directory.

What this does not guarantee is in the traits of :mod:`electctl_file`.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

from electctl.backend import Backend, Bid, Candidacy, Grant, Holder, Renewal, View, Watch
from electctl.clock import boot_id, now
from electctl.errors import LeadershipLost, UsageError
from electctl.traits import Traits
from electctl.url import BackendURL
from electctl_file import POLL, TRAITS
from electctl_file.store import Record, Store, Term

#: Seconds that one look may take where no bid says so.
TIMEOUT = 2.0


class FileCandidacy(Candidacy):
    """One attempt. Its nonce tells its own writes from those of any other under the same id."""

    def __init__(self, store: Store, bid: Bid) -> None:
        self._store = store
        self._bid = bid
        self._nonce = uuid.uuid4().hex
        self._cancelled = threading.Event()

    def acquire(self, deadline: float | None) -> Grant | None:
        """Look until the election is free, and take it in the same step."""
        while not self._cancelled.is_set():
            since = now()  # before the step: what the core counts validity from
            with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
                self.contacted = True
                term = record.current()
                # A write of ours whose outcome was unknown is found by its nonce.
                if term is None or term.nonce == self._nonce:
                    return Grant(self._take(record, term), since, self._bid.ttl)
            if deadline is not None and now() >= deadline:
                break
            self._cancelled.wait(POLL if deadline is None else min(POLL, deadline - now()))
        self.release()
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
        with self._store.locked(self._bid.election, self._bid.request_timeout) as record:
            if record.term is not None and record.term.nonce == self._nonce:
                record.term = None
                self._store.save(self._bid.election, record)

    def cancel(self) -> None:
        """Wake ``acquire`` up."""
        self._cancelled.set()

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


class FileWatch(Watch):
    """Looks, and tells what is new."""

    def __init__(self, backend: FileBackend, election: str) -> None:
        self._backend = backend
        self._election = election
        self._shown: View | None = None
        self._closed = threading.Event()

    def next(self, timeout: float) -> View | None:
        """The current view first, then each that differs from the one before."""
        deadline = now() + timeout
        while not self._closed.is_set():
            view = self._backend.view(self._election)
            if self._shown is None or view.term != self._shown.term:
                self._shown = view
                return view
            if now() >= deadline:
                break
            self._closed.wait(min(POLL, deadline - now()))
        return None

    def close(self) -> None:
        """Wake ``next`` up."""
        self._closed.set()


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
        return FileWatch(self, election)

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

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """The last value written; rename(2) shows the old or the new one, never a part."""
        found = self._store.read_checkpoint(election, slot)
        return bytes.fromhex(found["value"]) if found else None

    def close(self) -> None:
        """Nothing is kept open."""


def _holder(term: Term) -> Holder:
    left = max(0.0, term.expires - now())
    return Holder(term.id, term.token, key=term.nonce, ttl=term.ttl, expires_in=left)
