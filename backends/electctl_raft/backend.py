"""A cluster of the built-in Raft as a backend: its URL, who leads, eviction, checkpoints.

What this does not guarantee: that a holder which was asked to stop does so, nor, after a forced
eviction, that there is one leader: the deleted holder learns of it at its next renewal. Nor that a
cluster is found whose leader the URL does not name; the error then says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from electctl.contract.backend import Backend, Bid, Candidacy, Holder, Leftover, View, Watch
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.errors import Unreachable
from electctl.raft.io.link import Desk
from electctl.raft.pure.commands import LAST_SEQ, Close, Done, Evict
from electctl.raft.pure.requests import (
    Applied,
    CheckpointSeen,
    ElectionSeen,
    LookCheckpoint,
    LookElection,
    Submit,
)
from electctl_raft import sweep
from electctl_raft.candidacy import RaftCandidacy
from electctl_raft.claim import Claim
from electctl_raft.target import Target
from electctl_raft.traits import TRAITS
from electctl_raft.views import view_of
from electctl_raft.watch import RaftWatch


class RaftBackend(Backend):
    """``raft://host:port,host:port,…`` and ``rafts://…?ca=&cert=&key=``.

    Raises UsageError for a URL that says more than this, ConfigError for a certificate that cannot
    be used.
    """

    def __init__(self, url: BackendURL, target: Target | None = None) -> None:
        super().__init__(url)
        self._target = target or Target.parse(url)
        self._desk = Desk(self._target.addresses, self._target.tls)

    @property
    def traits(self) -> Traits:
        """See :mod:`electctl_raft.traits`."""
        return TRAITS

    def candidacy(self, bid: Bid) -> Candidacy:
        """See :meth:`Backend.candidacy`."""
        return RaftCandidacy(self._target, self._desk, bid)

    def view(self, election: str) -> View:
        """See :meth:`Backend.view`. A linearizable read."""
        return view_of(self._look(election))

    def _look(self, election: str) -> ElectionSeen:
        reply = self._desk.ask(LookElection(election)).reply
        if not isinstance(reply, ElectionSeen):
            raise Unreachable("a node answered something else than was asked")
        return reply

    def watch(self, election: str) -> Watch:
        """See :meth:`Backend.watch`."""
        return RaftWatch(self._target, election)

    def evict(self, election: str, *, force: bool) -> Holder | None:
        """See :meth:`Backend.evict`. The command names the token, so it can be sent again."""
        while True:
            seen = self._look(election)
            if seen.token is None:
                return None
            answered = self._desk.ask(Submit(Evict(election, seen.token, force)))
            done = answered.reply == Applied(Done())
            # Where it was sent more than once, the first copy may be why the grant has gone.
            if done or answered.exchange.copies > 1:
                return view_of(seen).holder

    def give_back(self, receipt: str) -> None:
        """Close the session of the grant, in its holder's stead; one that has ended is no error.

        A look comes first, because in another cluster that session is somebody else's.
        """
        claim = Claim.unpack(receipt)
        if claim.stands(self._look(claim.election)):
            self._desk.ask(Submit(Close(claim.session, LAST_SEQ)))

    def read_checkpoint(self, election: str, slot: str) -> bytes | None:
        """See :meth:`Backend.read_checkpoint`. A linearizable read."""
        reply = self._desk.ask(LookCheckpoint(election, slot)).reply
        if not isinstance(reply, CheckpointSeen):
            raise Unreachable("a node answered something else than was asked")
        return None if reply.checkpoint is None else reply.checkpoint.value

    def leftovers(self) -> Iterator[Leftover]:
        """See :mod:`electctl_raft.sweep`."""
        return sweep.leftovers(self._desk)

    def sweep(self, leftover: Leftover) -> bool:
        """One command, which is applied only if the election is over and unchanged."""
        return sweep.sweep(self._desk, leftover)

    def close(self) -> None:
        """Close the connections."""
        self._desk.close()
