"""What elections that are over have left in etcd, and its removal.

What this does not guarantee: the time of last use where a candidate's clock is wrong: etcd knows no
times, so candidates write theirs, at each entry and once a day while they lead. They do so only
where there is a checkpoint, because without one an election leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from electctl.contract.backend import Leftover
from electctl_etcd import keys, requests
from electctl_etcd.client import REQUEST_TIMEOUT, Client
from electctl_etcd.rpc import pb

#: Keys that one request reads.
_BATCH = 1000


def note_use(election: str) -> Any:
    """An operation of a transaction: note that the election is used now."""
    return requests.put(keys.used_key(election), b"%d" % time.time())


def note_use_if_kept(election: str) -> Any:
    """The same, if it has a checkpoint before the transaction."""
    kept = [requests.some_under(keys.checkpoints(election))]
    return requests.nested(kept, [note_use(election)], [])


def leftovers(client: Client) -> Iterator[Leftover]:
    """Every election that has keys of ours, and no candidate."""
    for election, found in groupby(_all_keys(client), lambda kv: keys.own_election(kv.key)):
        revision = max(kv.mod_revision for kv in found)
        if election is None:
            continue
        read = [
            requests.get(keys.used_key(election)),
            requests.newest(keys.prefix(election), 1),
        ]
        answer = client.call("kv.Txn", requests.txn([], read), REQUEST_TIMEOUT)
        used, candidates = (requests.found(response) for response in answer.responses)
        if not candidates:
            last = float(used[0].value) if used and used[0].value.isdigit() else None
            yield Leftover(election, ("checkpoint",), last, revision)


def _all_keys(client: Client) -> Iterator[Any]:
    start = keys.ROOT.encode() + b"/"
    end = keys.prefix_end(start)
    while True:
        request = pb.RangeRequest(key=start, range_end=end, limit=_BATCH, keys_only=True)
        answer = client.call("kv.Range", request, REQUEST_TIMEOUT)
        yield from answer.kvs
        if not answer.more:
            return
        start = answer.kvs[-1].key + b"\0"


def sweep(client: Client, leftover: Leftover) -> bool:
    """See :meth:`electctl.contract.backend.Backend.sweep`. One transaction.

    A candidate of an election whose name lies within this one's counts as one, too.
    """
    assert isinstance(leftover.seen, int), "a leftover of another backend"
    ours = keys.own_prefix(leftover.election)
    request = requests.txn(
        [
            requests.none_under(keys.prefix(leftover.election)),
            requests.unchanged_under(ours, leftover.seen),
        ],
        [requests.delete_under(ours)],
    )
    answer = client.call("kv.Txn", request, REQUEST_TIMEOUT)
    return bool(answer.succeeded and answer.responses[0].response_delete_range.deleted)
