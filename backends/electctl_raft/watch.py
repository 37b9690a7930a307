"""Every change of an election, as the leader of the cluster tells it.

What this does not guarantee: that changes are seen which happened while we followed no leader: the
first view after that is of the present. While one leader leads and the connection holds, it tells
every change, in order.
"""

from __future__ import annotations

from collections import deque

from electctl.base.clock import now
from electctl.contract.backend import View, Watch
from electctl.raft.io.link import PATIENCE, Link
from electctl.raft.pure.courier import Answered, Courier, SendTo
from electctl.raft.pure.requests import ElectionSeen, Follow, LookElection
from electctl_raft.target import Target
from electctl_raft.views import view_of

#: A leader is silent both when nothing happens and when it is stopped or cut off; so it is asked
#: something after this many seconds of silence.
PROBE_INTERVAL = 2.0
#: Seconds without being served that are told as a loss of contact.
SILENCE = 3.0


class RaftWatch(Watch):
    """See the module. One thread calls :meth:`next`; another may :meth:`close`."""

    def __init__(self, target: Target, election: str) -> None:
        self._election = election
        self._courier = Courier(tuple(range(len(target.addresses))), PATIENCE)
        self._link = Link(target.addresses, target.tls, self._courier, self._said)
        self._ready: deque[View] = deque()
        self._last: View | None = None
        self._followed = 0
        self._probe_due = 0.0
        self._closed = False

    def next(self, timeout: float) -> View | None:
        """See :meth:`Watch.next`. Raises Unreachable when no leader is found, Refused."""
        began = now()
        deadline = began + timeout
        if not self._followed:
            self._link.do(self._follow)
        while True:
            self._link.wait(self._settled, min(deadline, self._probe_due))
            if self._closed:
                return None
            if self._ready:
                return self._ready.popleft()
            if self._broken():
                raise self._link.trouble()
            if now() >= self._probe_due:
                self._link.do(self._probe)
            if now() >= deadline:
                return None

    def _settled(self) -> bool:
        return self._closed or bool(self._ready) or self._broken()

    def _broken(self) -> bool:
        return self._link.down or self._link.silent_for(SILENCE, 0.0)

    def _follow(self, at: float) -> list[SendTo]:
        self._followed, send = self._courier.send(Follow(self._election), at, float("inf"))
        self._probe_due = at + PROBE_INTERVAL
        return [send]

    def _probe(self, at: float) -> list[SendTo]:
        """Whoever answers leads; if it is another than we follow, the link ends that connection."""
        self._probe_due = at + PROBE_INTERVAL
        _, send = self._courier.send(LookElection(self._election), at, at + SILENCE)
        return [send]

    def _said(self, instruction: object) -> None:
        match instruction:
            case Answered(exchange=exchange, reply=ElectionSeen() as seen):
                if exchange.request.id == self._followed:
                    self._probe_due = now() + PROBE_INTERVAL
                    self._add(view_of(seen))

    def _add(self, view: View) -> None:
        if self._last is None or self._last.state != view.state:
            self._last = view
            self._ready.append(view)

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed = True
        self._link.close()
