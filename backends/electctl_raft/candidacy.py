"""One attempt to lead: the session of :mod:`electctl.raft.pure.session`, over real connections.

What this does not guarantee: that a node is told of what is given up while none can be reached; the
session then runs out. Nor that a leadership which was taken away by force is known to be over
before the next renewal.

All that decides is in the session, which the simulation runs too. Here is only who waits for what,
and for how long.
"""

from __future__ import annotations

from contextlib import suppress

from electctl.base.clock import now
from electctl.base.latency import too_slow
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.core import lease
from electctl.errors import (
    DuplicateId,
    ElectctlError,
    LeadershipLost,
    OutcomeUnknown,
    Unreachable,
    UsageError,
)
from electctl.raft.io.link import REQUEST_TIMEOUT, Desk, Link, check_size
from electctl.raft.pure.commands import Save
from electctl.raft.pure.requests import ElectionSeen, LookElection, Submit
from electctl.raft.pure.session import (
    GiveUp,
    Led,
    RenewNow,
    Saved,
    Session,
    TableFull,
    TwinSeen,
    Verdict,
    Write,
)
from electctl_raft.claim import Claim
from electctl_raft.target import Target
from electctl_raft.traits import TRAITS

# Seconds of silence at least before a waiting candidate calls it trouble.
_TROUBLE = 1.0


class RaftCandidacy(Candidacy):
    """See the module."""

    def __init__(self, target: Target, desk: Desk, bid: Bid) -> None:
        self._target = target
        self._desk = desk
        self._bid = bid
        self._cancelled = False
        self._session: Session | None = None
        self._link: Link | None = None
        self._led: Led | None = None
        self._twin = False
        self._full = False
        self._renewals = 0
        self._verdicts: dict[int, lease.Event] = {}
        self._saved: dict[tuple[str, int], Saved] = {}

    # Waiting -------------------------------------------------------------------------------------

    def acquire(self, deadline: float | None) -> Grant | None:
        """See :meth:`Candidacy.acquire`. Keeps its place in the queue when it raised."""
        began = now()
        once = deadline is not None and deadline <= began
        if once and self._session is None and self._somebody_leads():
            return None
        limit = float("inf") if deadline is None else deadline
        session, link = self._begin()
        trouble = max(_TROUBLE, self._bid.request_timeout)

        def settled() -> bool:
            self.contacted = self.contacted or link.served
            if session.queued and self.rival is None:
                self.rival = ""  # whom, it takes another question to know
            if self._cancelled or self._led is not None or self._twin or self._full:
                return True
            # One try has the time to ask another node.
            silent = not once and link.silent_for(trouble, began)
            return link.down or silent or (once and session.queued)

        link.wait(settled, began + REQUEST_TIMEOUT if once else limit)
        if self._cancelled:
            self._withdraw()
            return None
        if self._led is not None:
            return self._grant(self._led, began) or self.acquire(deadline)
        if self._full:
            self._withdraw()
            raise Unreachable(
                "the cluster takes no more sessions: its table is full",
                hint="sessions end with their clients; `electctl raft status` counts them",
            )
        if self._twin:
            self._withdraw()
            raise DuplicateId(
                f"another process campaigns for {self._bid.election!r} as {self._bid.candidate!r}",
                hint="give each candidate an --id of its own",
            )
        if self.rival is not None and (once or now() >= limit):
            self._withdraw()
            return None
        raise self._explained(link.trouble(), link)

    def _explained(self, error: ElectctlError, link: Link) -> ElectctlError:
        """The same, and that the nodes are too far for our TTL: then we are not even elected."""
        bid, took = self._bid, link.greeting
        slow = too_slow("a node", took, 1, bid.request_timeout, bid.ttl, TRAITS.renewals)
        if slow is None or not isinstance(error, Unreachable):
            return error
        return Unreachable(f"{error.message}; {slow}", hint=error.hint)

    def _grant(self, led: Led, began: float) -> Grant | None:
        """What we were granted; None, with nothing left of it, if it is over already."""
        since = led.since
        if since < began:
            # It came between two tries, and nobody has renewed it since.
            try:
                since = self.renew().since
            except LeadershipLost:
                self._withdraw()
                self._led = None
                return None
        return Grant(led.token, since, self._bid.ttl)

    def _somebody_leads(self) -> bool:
        reply = self._desk.ask(LookElection(self._bid.election)).reply
        self.contacted = True
        if not isinstance(reply, ElectionSeen) or reply.token is None:
            return False
        self.rival = reply.holder
        return True

    def _begin(self) -> tuple[Session, Link]:
        """The session and its connections: those of an earlier try, if it was not given up."""
        bid, target = self._bid, self._target
        if self._session is None or self._link is None:
            places = tuple(range(len(target.addresses)))
            session = Session(places, bid.election, bid.candidate, bid.ttl, bid.request_timeout)
            link = Link(target.addresses, target.tls, session, self._said, bid.request_timeout)
            link.do(session.start)
            self._session, self._link = session, link
            return session, link
        self._link.begin()
        return self._session, self._link

    def _said(self, instruction: object) -> None:
        match instruction:
            case Led():
                self._led = instruction
            case TwinSeen():
                self._twin = True
            case Verdict(event=event):
                self._verdicts[event.seq] = event
            case TableFull():
                self._full = True
            case Saved(slot=slot, version=version):
                self._saved[slot, version] = instruction

    def cancel(self) -> None:
        """See :meth:`Candidacy.cancel`."""
        self._cancelled = True
        link = self._link
        if link is not None:
            with link.changed:
                link.changed.notify_all()

    def _withdraw(self) -> None:
        """Leave the place that we have, or had, and never come back to it."""
        with suppress(ElectctlError):  # then it runs out: nobody keeps it alive
            self._give_up()
        if self._link is not None:
            self._link.close()
        self._session = self._link = None
        self._twin = self._full = False

    # Leading -------------------------------------------------------------------------------------

    def _leading(self) -> tuple[Session, Link]:
        session, link = self._session, self._link
        if session is None or link is None or not session.leads:
            raise LeadershipLost("we do not lead: the session was given up", reason="deleted")
        link.begin()
        return session, link

    def renew(self) -> Renewal:
        """See :meth:`Candidacy.renew`. ``since`` is when the first copy of the question left."""
        session, link = self._leading()
        self._renewals += 1
        number = self._renewals
        link.do(lambda at: session.handle(RenewNow(number), at))
        deadline = now() + self._bid.request_timeout
        link.wait(lambda: number in self._verdicts or not session.leads, deadline)
        with link.changed:
            verdict = self._verdicts.pop(number, None)
        match verdict:
            case lease.Renewed(since=since, ttl=ttl, stop_requested=stop_requested):
                return Renewal(since, ttl, stop_requested)
            case lease.RenewalRefused(reason=reason):
                raise LeadershipLost("the cluster no longer has our grant", reason=reason)
        raise link.trouble()

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """See :meth:`Candidacy.write_checkpoint`. UsageError: the value is too large,
        or the table is full."""
        session, link = self._leading()
        check_size(Submit(Save(0, 0, 0, slot, value, seq)))
        link.do(lambda at: session.handle(Write(slot, value, seq), at))
        key = slot, seq
        link.wait(lambda: key in self._saved, now() + self._bid.request_timeout)
        with link.changed:
            if key not in self._saved:
                raise OutcomeUnknown(link.trouble().message)
            saved = self._saved.pop(key)
        if saved.full:
            raise UsageError(
                "the cluster's table is full, the checkpoint was not written",
                hint="a checkpoint is for a position, keep what is large elsewhere",
            )
        if saved.outcome is None:
            raise OutcomeUnknown("the session ended before the checkpoint's answer came")
        if not saved.outcome:
            raise LeadershipLost("the cluster no longer has our grant", reason="deleted")

    # Giving up -----------------------------------------------------------------------------------

    def release(self) -> None:
        """See :meth:`Candidacy.release`. Closes the session, which wakes the next."""
        self.cancel()
        self._give_up()

    def _give_up(self) -> None:
        session, link = self._session, self._link
        if session is None or link is None or session.over:
            return
        link.begin()
        link.do(lambda at: session.handle(GiveUp(), at))
        deadline = now() + self._bid.request_timeout
        link.wait(lambda: session.over or link.down, deadline)
        if not session.over:
            raise link.trouble()

    def receipt(self) -> str | None:
        """Our session, which nobody else of this cluster ever has, and what tells the cluster."""
        session = self._session
        if session is None or session.token is None or not session.leads:
            return None
        bid = self._bid
        return Claim(bid.election, bid.candidate, session.token, session.number).pack()

    def close(self) -> None:
        """Free local resources."""
        self.cancel()
        if self._link is not None:
            self._link.close()
