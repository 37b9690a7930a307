"""Whether another live process stands under our id, as told by its lease.

What this does not guarantee: that a twin is found at once, or at all where we wait for less than a
third of the TTL. The remains of a crashed predecessor look just like a live one; they only run out.
So a twin counts as alive once its lease ends later than it would have without a keep-alive.

Times are compared as bounds: the server tells whole seconds that remain, rounded down. A change of
the cluster's leader starts every lease again, so only answers of one Raft term are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.base.clock import now
from electctl.errors import DuplicateId
from electctl_etcd import keys, requests
from electctl_etcd.client import Client

_ROUNDING = 1.0
# The server's clock may run slower than ours: 1 % of a TTL, and there is no hurry.
_SLACK = 0.25


@dataclass(frozen=True, slots=True)
class _Sign:
    """A lease ends no later than ``end``, on our clock, unless it is kept alive in ``term``."""

    end: float
    term: int


class Twins:
    """Candidates of our id that came before us. Use it from one thread."""

    def __init__(self, client: Client, election: str, candidate: str) -> None:
        self._client = client
        self._election = election
        self._prefix = keys.prefix(election)
        self._candidate = candidate
        self._signs: dict[int, _Sign | None] | None = None

    def check(self, revision: int, timeout: float) -> None:
        """Look at those who were there before ``revision``. Raises DuplicateId if one is alive."""
        if self._signs is None:
            answer = self._client.call("kv.Range", requests.everything(self._prefix), timeout)
            self._signs = {
                found.lease: None
                for found in answer.kvs
                if found.create_revision < revision
                and found.lease
                and keys.is_candidate(found.key, self._prefix)
                and keys.decode_id(found.value) == self._candidate
            }
        for lease, sign in list(self._signs.items()):
            sent = now()
            answer = self._client.remaining(lease, timeout)
            if answer.TTL < 0:
                del self._signs[lease]
            elif sign is None or sign.term != answer.header.raft_term:
                end = now() + answer.TTL + _ROUNDING + answer.grantedTTL / 100
                self._signs[lease] = _Sign(end, answer.header.raft_term)
            elif sent + answer.TTL > sign.end + _SLACK:
                raise DuplicateId(
                    f"another process campaigns for {self._election!r} as {self._candidate!r}",
                    hint="give each candidate an --id of its own",
                )
