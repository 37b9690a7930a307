"""Every change of an election, in order, from the revision of a snapshot on.

What this does not guarantee: that changes are seen which happened while no member could be asked,
if the watch has to be opened anew after that, or if the history was compacted meanwhile. While one
of the members answers, it goes on at the next revision, and nothing is missed or invented (etcd API
guarantees: watch events are ordered, unique, reliable and atomic).
"""

from __future__ import annotations

from collections import deque

from electctl.base.clock import now
from electctl.contract.backend import View, Watch
from electctl_etcd import keys, requests
from electctl_etcd.client import REQUEST_TIMEOUT, Client
from electctl_etcd.roster import Roster
from electctl_etcd.rpc import Compacted, WatchBroken
from electctl_etcd.streams import Stream

#: A watch is silent both when nothing happens and when its member is stopped or cut off; so the
#: member is asked something after this many seconds of silence.
PROBE_INTERVAL = 2.0
_PROBE_TIMEOUT = 2.0


class EtcdWatch(Watch):
    """See the module. One thread calls :meth:`next`; another may :meth:`close`."""

    def __init__(self, client: Client, election: str) -> None:
        self._client = client
        self._prefix = keys.prefix(election)
        self._roster = Roster(self._prefix)
        self._ready: deque[View] = deque()
        self._last: View | None = None
        self._stream: Stream | None = None
        self._probe_due = 0.0
        self._closed = False

    def next(self, timeout: float) -> View | None:
        """See :meth:`Watch.next`. Raises Unreachable when no member answers, Refused."""
        deadline = now() + timeout
        if self._last is None:
            self._snapshot()
        while not self._closed:
            if self._ready:
                return self._ready.popleft()
            stream = self._stream or self._open()
            until = min(deadline, self._probe_due)
            try:
                events = stream.take(until - now())
            except WatchBroken:
                self._client.leave(stream.endpoint)
                self._drop()
                continue
            except Compacted:
                self._drop()
                self._snapshot()
                continue
            if events:
                self._probe_due = now() + PROBE_INTERVAL
                for view in self._roster.apply(events):
                    self._add(view)
            elif now() >= deadline:
                return None
            elif now() >= self._probe_due:
                self._probe()
        return None

    def _add(self, view: View) -> None:
        if view != self._last:
            self._last = view
            self._ready.append(view)

    def _snapshot(self) -> None:
        answer = self._client.call("kv.Range", requests.everything(self._prefix), REQUEST_TIMEOUT)
        self._add(self._roster.reset(answer))

    def _open(self) -> Stream:
        request = requests.watch(
            self._prefix, self._roster.revision + 1, end=keys.prefix_end(self._prefix)
        )
        try:
            self._stream = self._client.call("open_watch", request, REQUEST_TIMEOUT)
        except Compacted:
            self._snapshot()
            return self._open()
        self._probe_due = now() + PROBE_INTERVAL
        if self._closed:
            self._stream.close()
        return self._stream

    def _probe(self) -> None:
        """Ask the member that we watch on, and move to another if it does not answer."""
        assert self._stream is not None
        request = requests.get(self._prefix).request_range
        answer = self._client.call("kv.Range", request, _PROBE_TIMEOUT)
        self._probe_due = now() + PROBE_INTERVAL
        if answer.header.revision < self._roster.revision:
            # The store was restored from a backup: our revision would not come for a long time.
            self._drop()
            self._snapshot()
        elif self._client.endpoint is not self._stream.endpoint:
            self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed = True
        stream = self._stream
        if stream is not None:
            stream.close()
