"""An etcd cluster as a backend: its URL, who leads, eviction, checkpoints.

What this does not guarantee: that a holder which was asked to stop does so, nor, after a forced
eviction, that there is one leader: the deleted holder learns of it at its next renewal.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from electctl.base.fresh import Fresh
from electctl.base.tls import authorities, load_tls, system_authorities, whom
from electctl.contract.backend import Backend, Bid, Candidacy, Holder, Leftover, View, Watch
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.errors import ConfigError, LeadershipLost, UsageError
from electctl_etcd import checkpoint, keys, requests, sweep
from electctl_etcd.candidacy import EtcdCandidacy
from electctl_etcd.client import REQUEST_TIMEOUT, Client
from electctl_etcd.roster import Roster
from electctl_etcd.rpc import grpc
from electctl_etcd.traits import TRAITS
from electctl_etcd.watch import EtcdWatch

DEFAULT_PORT = 2379
DEFAULT_HOST = "127.0.0.1"


class EtcdBackend(Backend):
    """``etcd://[user[:password]@]host[:port],…`` and ``etcds://…?ca=&cert=&key=``.

    Its ``notes`` say where the name of one election lies within another's. Raises UsageError for a
    URL that says more than this, ConfigError for a certificate that cannot be read.
    """

    def __init__(self, url: BackendURL) -> None:
        super().__init__(url)
        if url.path:
            raise UsageError(
                f"an {url.scheme} URL has no path",
                hint="the election's name is the key prefix; give it to the command",
            )
        self._closed = False
        self._client = Client(
            tuple(
                f"[{host}]:{port or DEFAULT_PORT}"
                if ":" in host
                else f"{host}:{port or DEFAULT_PORT}"
                for host, port in url.hosts or ((DEFAULT_HOST, None),)
            ),
            tls=_credentials(url),
            trusted=whom(url.options.get("ca")),
            credentials=url.credentials(),
        )

    @property
    def traits(self) -> Traits:
        """See :mod:`electctl_etcd.traits`."""
        return TRAITS

    def candidacy(self, bid: Bid) -> Candidacy:
        """See :meth:`Backend.candidacy`. UsageError: the election's name is one of our own keys."""
        return EtcdCandidacy(self._client, bid, self.notes)

    def view(self, election: str) -> View:
        """See :meth:`Backend.view`. The holder's TTL comes from its lease."""
        roster = self._roster(election)
        view, first = roster.view(), roster.first()
        if view.holder is None or first is None or not first.lease:
            return view
        answer = self._client.remaining(first.lease, REQUEST_TIMEOUT)
        if answer.TTL < 0:
            return view  # the lease has gone since; the next look shows it
        holder = replace(view.holder, ttl=float(answer.grantedTTL), expires_in=float(answer.TTL))
        return replace(view, holder=holder)

    def _roster(self, election: str) -> Roster:
        start = keys.prefix(election)
        roster = Roster(start)
        roster.reset(self._client.call("kv.Range", requests.everything(start), REQUEST_TIMEOUT))
        self.notes.update(keys.nested_note(key, election) for key in roster.nested)
        return roster

    def watch(self, election: str) -> Watch:
        """See :meth:`Backend.watch`."""
        return EtcdWatch(self._client, election)

    def evict(self, election: str, *, force: bool) -> Holder | None:
        """See :meth:`Backend.evict`.

        The mark lies outside the election's prefix, names the holder's key and create revision, and
        goes with the holder's lease. A native tool never looks at it, so it is not left one.
        """
        while True:
            roster = self._roster(election)
            holder, first = roster.view().holder, roster.first()
            if holder is None or first is None:
                return None
            if force:
                act = requests.delete(first.key)
            elif holder.can_be_asked:
                mark = keys.term_mark(first.key, first.create_revision)
                act = requests.put(keys.eviction_key(election), mark, first.lease)
            else:
                return holder
            request = requests.txn([requests.created_at(first.key, first.create_revision)], [act])
            # Where the lease, and so the key, has just gone: who leads now?
            with suppress(LeadershipLost):
                if self._client.call("kv.Txn", request, REQUEST_TIMEOUT).succeeded:
                    return holder

    def give_back(self, receipt: str) -> None:
        """Revoke the lease of the grant, which deletes its key in the same step."""
        try:
            lease = int(receipt, 16)
        except ValueError:
            lease = 0
        if not keys.ours(lease):
            raise UsageError("this is no receipt of a grant on etcd")
        self._client.revoke(lease, REQUEST_TIMEOUT)

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """See :meth:`Backend.read_checkpoint`. A linearizable read."""
        request = requests.get(keys.checkpoint_key(election, slot)).request_range
        found = self._client.call("kv.Range", request, REQUEST_TIMEOUT).kvs
        return checkpoint.read(found[0].value) if found else None

    def leftovers(self) -> Iterator[Leftover]:
        """See :mod:`electctl_etcd.sweep`."""
        return sweep.leftovers(self._client)

    def sweep(self, leftover: Leftover) -> bool:
        """One transaction, with the check that there is no candidate and that nothing changed."""
        return sweep.sweep(self._client, leftover)

    def close(self) -> None:
        """Close the connections, as soon as no candidacy uses them any more."""
        if not self._closed:
            self._closed = True
            self._client.close()


def _credentials(url: BackendURL) -> Fresh[Any] | None:
    given = url.options.keys() & {"ca", "cert", "key"}
    if url.scheme != "etcds":
        if given:
            raise UsageError(f"?{min(given)}= is for TLS", hint="etcds:// instead of etcd://")
        return None
    if ("cert" in given) != ("key" in given):
        raise UsageError("a client certificate needs both ?cert= and ?key=", hint="give both")
    ca, key, cert = (url.options.get(name) for name in ("ca", "key", "cert"))

    def read() -> tuple[bytes | None, ...]:
        return authorities(ca), *(None if path is None else _read(path) for path in (key, cert))

    def load() -> Any:
        before = read()
        # gRPC would notice only at the next connection, and then say nothing of use. It has
        # authorities of its own, too, which are not those of the system.
        load_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca, cert, key)
        if before != read():
            raise ConfigError("the TLS files changed while they were read", hint="try again")
        return grpc.ssl_channel_credentials(*before)

    trusted = system_authorities() if ca is None else (ca,)
    return Fresh([*trusted, *(path for path in (key, cert) if path is not None)], load)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used: {error.strerror}", hint="is it there, and readable?"
        ) from None
