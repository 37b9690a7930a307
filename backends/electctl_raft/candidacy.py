"""One attempt to lead: the session of :mod:`electctl.raft.session`, over real connections.

What this does not guarantee: that a node is told of what is given up while none can be reached; the
session then runs out. Nor that a leadership which was taken away by force is known to be over
before the next renewal.

All that decides is in the session, which the simulation runs too. Here is only who waits for what,
and for how long.
"""

from __future__ import annotations

from contextlib import suppress

from electctl import lease
from electctl.backend import Bid, Candidacy, Grant, Renewal
from electctl.clock import now
from electctl.errors import DuplicateId, ElectctlError, LeadershipLost, OutcomeUnknown
from electctl.raft.commands import Save
from electctl.raft.link import REQUEST_TIMEOUT, Desk, Link, check_size
from electctl.raft.requests import ElectionSeen, LookElection, Submit
from electctl.raft.session import (
    GiveUp,
    Led,
    RenewNow,
    Saved,
    Session,
    TwinSeen,
    Verdict,
    Write,
)
from electctl_raft.target import Target

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
        self._renewals = 0
        self._verdicts: dict[int, lease.Event] = {}
        self._saved: dict[tuple[str, int], bool | None] = {}

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
            if self._cancelled or self._led is not None or self._twin:
                return True
            return link.down or link.silent_for(trouble, began) or (once and session.queued)

        link.wait(settled, began + REQUEST_TIMEOUT if once else limit)
        if self._cancelled:
            self._withdraw()
            return None
        if self._led is not None:
            return self._grant(self._led, began) or self.acquire(deadline)
        if self._twin:
            self._withdraw()
            raise DuplicateId(
                f"another process campaigns for {self._bid.election!r} as {self._bid.candidate!r}",
                hint="give each candidate an --id of its own",
            )
        given_up = session.queued if once else self.contacted and now() >= limit
        if given_up:
            self._withdraw()
            return None
        raise link.trouble()

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
        return isinstance(reply, ElectionSeen) and reply.token is not None

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
            case Saved(slot=slot, version=version, outcome=outcome):
                self._saved[slot, version] = outcome

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
        self._twin = False

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
        """See :meth:`Candidacy.write_checkpoint`. UsageError: the value is too large."""
        session, link = self._leading()
        check_size(Submit(Save(0, 0, 0, slot, value, seq)))
        link.do(lambda at: session.handle(Write(slot, value, seq), at))
        key = slot, seq
        link.wait(lambda: key in self._saved, now() + self._bid.request_timeout)
        with link.changed:
            if key not in self._saved:
                raise OutcomeUnknown(link.trouble().message)
            outcome = self._saved.pop(key)
        if outcome is None:
            raise OutcomeUnknown("the session ended before the checkpoint's answer came")
        if not outcome:
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

    def close(self) -> None:
        """Free local resources."""
        self.cancel()
        if self._link is not None:
            self._link.close()
