"""One attempt to lead: a key under a fresh lease, in a queue ordered by create revision.

What this does not guarantee: that the store keeps a lease as long as it granted it. A member that
led, stalled and resumed can revoke leases that its successor has renewed (etcd issues 12528 and
15247, in Debian's 3.4.23); an operator can delete a key. Both are noticed at the next renewal and
not before.

How it is sound:

- The lease is fresh for each entry into the queue and nobody else's, so its id in the key is the
  nonce of the attempt. Giving up revokes it, which deletes the key in the same step, and can never
  hit a later term.
- A keep-alive is answered by one member alone, and one that has been deposed may still answer
  (issue 15247, second case). So a keep-alive counts only if a linearizable read, sent *after* its
  answer and answered in the same Raft term, has seen our key. Which members answered does not
  matter (etcd 3.4.23, api/v3rpc/lease.go, header.go): the term of a keep-alive is read before the
  lease is renewed, so who renewed it led in that term T or a later one; the term of a read is that
  after it, so a quorum stood by a leader of T or an earlier one, after the renewal. Two quorums
  share a member and terms only grow, so it is T both times, and its leader still had its quorum
  later than it renewed.
- Validity counts from before that keep-alive was sent. Making the lease is a log entry and needs
  no such proof.
- etcd's gRPC proxy sends keep-alives at its own pace for as long as a stream is open, and passes
  the next answer on, whichever it is to (proxy/grpcproxy/lease.go). So behind one, each keep-alive
  has a stream of its own, which is served within half a second, and validity ends no later than
  the time that the lease is then said to have left, which is rounded down to whole seconds.
- Waiting watches the key just before ours, from the revision of the read that found it (etcd
  3.4.23, clientv3/concurrency/key.go, ``waitDeletes``), and leads only after reading the own key
  again, which the native recipe does not do (Jepsen, etcd 3.4.3, section 3.2).
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from electctl.base.clock import now
from electctl.base.latency import too_slow
from electctl.contract.backend import Bid, Candidacy, Grant, Renewal
from electctl.errors import ElectctlError, LeadershipLost, OutcomeUnknown, Unreachable
from electctl_etcd import checkpoint, keys, requests
from electctl_etcd.client import REQUEST_TIMEOUT, Client
from electctl_etcd.roster import Roster
from electctl_etcd.rpc import Compacted, WatchBroken
from electctl_etcd.streams import Stream
from electctl_etcd.sweep import note_use, note_use_if_kept
from electctl_etcd.twins import Twins

# A request within acquire gets at least this, however near its deadline is.
_SHORTEST_REQUEST = 0.5
# Keep-alives go out this often a TTL while waiting, as those of the native tools do.
_KEEP_ALIVES = 3
# What a renewal waits for, one after the other: keep-alive and read.
_ANSWERS = 2
# A watch that breaks off sooner than this is trouble to report, not a member that has gone.
_SHORT_LIFE = 1.0
_TRIES = 2
# A keep-alive is no log entry. Where it takes this long, in seconds, and this many times as long as
# the read after it, for so many renewals on end, it is answered at the pace of a proxy.
_PROXYS_PACE = 0.2
_PROXYS_RATIO = 10
_PROXYS_RENEWALS = 2
# Seconds between two notes that an election is used, while one leads.
_NOTE_EVERY = 86_400.0


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The candidate before us, as seen at store revision ``seen_at``."""

    key: bytes
    seen_at: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a linearizable read saw, with our key in it."""

    #: Which member answered, and in which Raft term.
    member: int
    term: int
    evicted: bool
    #: The newest key before ours, where it was asked for.
    before: Any | None
    revision: int


class EtcdCandidacy(Candidacy):
    """See the module. ``notes`` takes remarks for people."""

    def __init__(self, client: Client, bid: Bid, notes: set[str]) -> None:
        self._client = client
        self._bid = bid
        self._notes = notes
        self._prefix = keys.prefix(bid.election)
        self._timeout = min(bid.request_timeout, REQUEST_TIMEOUT)
        self._twins = Twins(client, bid.election, bid.candidate)
        self._lease = 0
        self._key = b""
        #: The create revision of our key, which is our token; 0 while we are not in the queue.
        self._revision = 0
        #: When the keep-alive (or grant) that was answered last was sent, what it granted, and
        #: which member answered in which Raft term.
        self._sent = 0.0
        self._ttl = 0.0
        self._member = 0
        self._term = 0
        #: Whether keep-alives go through etcd's gRPC proxy, or may; and how many looked like it.
        self._proxied = False
        self._slow = 0
        #: When we last noted that the election is used.
        self._noted = now()
        self._cancelled = threading.Event()
        self._stream: Stream | None = None
        #: Whether the client stays open for us.
        self._shares = False

    # Waiting -------------------------------------------------------------------------------------

    def acquire(self, deadline: float | None) -> Grant | None:
        """See :meth:`Candidacy.acquire`. Enters with a fresh lease if the place was lost.

        DuplicateId comes from those who wait, when a twin before them has shown that it is alive.
        """
        self._shares = self._shares or self._client.share()
        only_once = deadline is not None and deadline <= now()
        if only_once and not self._revision and self._somebody_leads():
            return None
        while not self._cancelled.is_set():
            try:
                before = self._stand(self._patience(deadline))
                if self._cancelled.is_set():
                    break
                if before is None:
                    return Grant(self._revision, self._sent, self._ttl)
                # Who that is, or who leads before it, it takes another read to know.
                self.rival = self.rival or ""
                if deadline is None or now() < deadline:
                    self._wait_for(before, deadline)
                    continue
            except LeadershipLost:
                self._forget()
                continue
            break
        self._forget()
        return None

    def _patience(self, deadline: float | None) -> float:
        # Before we have a lease nothing runs out, and a login alone can take a busy server long.
        most = self._timeout if self._revision else REQUEST_TIMEOUT
        left = math.inf if deadline is None else deadline - now()
        # A deadline that had passed at once means one try in good order.
        return most if left <= 0 else min(most, max(left, _SHORTEST_REQUEST))

    def _somebody_leads(self) -> bool:
        answer = self._client.call("kv.Range", requests.everything(self._prefix), REQUEST_TIMEOUT)
        self.contacted = True
        roster = Roster(self._prefix)
        roster.reset(answer)
        holder = roster.view().holder
        self.rival = None if holder is None else holder.id
        return holder is not None

    def _stand(self, timeout: float) -> Predecessor | None:
        """Be in the queue, and say who is before us. LeadershipLost: our place is gone.

        None means that we lead, as proved by the keep-alive of ``_sent``.
        """
        if not self._revision:
            entered, before = self._enter(timeout)
            if entered:
                return before
        look = None
        if self._fresh() and not self._proxied:
            # The keep-alive was some time ago; a read that proves it now saves one on hand-over.
            look = self._look(timeout, waiting=True)
        if look is None or look.term != self._term:
            look = self._prove(timeout, waiting=True)
        return self._candidate(look.before, look.revision, timeout)

    def _fresh(self) -> bool:
        return now() - self._sent < self._ttl / _KEEP_ALIVES

    def _enter(self, timeout: float) -> tuple[bool, Predecessor | None]:
        """Put our key; True if that settles who is before us."""
        if not self._lease:
            self._lease = keys.new_lease_id()
            self._key = keys.candidate_key(self._bid.election, self._lease)
            self._sent = now()
            self._ttl = 0.0
        if not self._ttl:
            asked = math.ceil(self._bid.ttl)
            granted = self._client.grant(self._lease, asked, timeout)
            self.contacted = True
            self._client.get_ready(timeout)
            if asked < granted.TTL:
                self._notes.add(
                    f"etcd raised the TTL of {asked} s to {granted.TTL} s: its --election-timeout "
                    "allows none below one and a half of it"
                )
            self._kept(self._sent, granted)
        began = now()
        answer = self._client.call(
            "kv.Txn",
            requests.txn(
                [requests.created_at(self._key, 0)],
                [
                    requests.put(self._key, self._bid.candidate.encode(), self._lease),
                    requests.newest(self._prefix, 2),
                    note_use_if_kept(self._bid.election),
                ],
                [requests.get(self._key)],
            ),
            timeout,
        )
        slow = too_slow("etcd", now() - began, _ANSWERS, self._timeout, self._ttl)
        if slow is not None:
            self._notes.add(slow)
        if not answer.succeeded:
            # An earlier try of ours whose answer was lost: the key bears our own fresh lease.
            self._revision = requests.found(answer.responses[0])[0].create_revision
            return False, None
        self._revision = answer.header.revision
        if not self._fresh():
            return False, None
        others = [kv for kv in requests.found(answer.responses[1]) if kv.key != self._key]
        return True, self._candidate(others[0] if others else None, self._revision, timeout)

    def _candidate(self, found: Any | None, revision: int, timeout: float) -> Predecessor | None:
        """The predecessor, after ``found``, the newest key before ours at ``revision``.

        A key of a nested name is passed over. Asking again for an older one is safe: a key can
        leave the queue before ours, and none can come.
        """
        while found is not None and not keys.is_candidate(found.key, self._prefix):
            self._notes.add(keys.nested_note(found.key, self._bid.election))
            operation = requests.newest(self._prefix, 1, below=found.create_revision)
            answer = self._client.call("kv.Range", operation.request_range, timeout)
            found = answer.kvs[0] if answer.kvs else None
            revision = answer.header.revision
        return None if found is None else Predecessor(found.key, revision)

    def _wait_for(self, before: Predecessor, deadline: float | None) -> None:
        """Return when the predecessor may have gone, at the deadline, or when cancelled.

        Sends the keep-alives that are due meanwhile. LeadershipLost: our lease is gone.
        """
        self._end_watch()
        request = requests.watch(before.key, before.seen_at + 1, deletes_only=True)
        stream = self._client.call("open_watch", request, self._patience(deadline))
        # Assigned before _cancelled is looked at, and cancel() does it the other way round.
        self._stream = stream
        opened = now()
        try:
            while not self._cancelled.is_set() and self._client.endpoint is stream.endpoint:
                due = self._sent + self._ttl / _KEEP_ALIVES
                until = due if deadline is None else min(due, deadline)
                if stream.take(until - now()) is not None:
                    return  # and to end the watch can wait: the next to lead has no time for it
                if deadline is not None and now() >= deadline:
                    return
                if now() >= due:
                    self._keep_place(self._patience(deadline))
                    self._twins.check(self._revision, self._patience(deadline))
        except Compacted:
            return
        except WatchBroken:
            self._client.leave(stream.endpoint)
            if now() - opened < _SHORT_LIFE:
                raise

    def _end_watch(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _keep_place(self, timeout: float) -> None:
        sent = now()
        held = not self._proxied
        self._kept(sent, self._client.keep_alive(self._lease, timeout, held=held))

    def _kept(self, sent: float, answer: Any) -> None:
        if answer.TTL <= 0:
            raise LeadershipLost("etcd no longer has our lease", reason="expired")
        self._sent, self._ttl = sent, float(answer.TTL)
        self._member, self._term = answer.header.member_id, answer.header.raft_term

    def cancel(self) -> None:
        """See :meth:`Candidacy.cancel`."""
        self._cancelled.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def _forget(self) -> None:
        """Leave the place that we have, or had, and never come back to it."""
        with suppress(Unreachable, OutcomeUnknown):  # then it runs out: nobody keeps it alive
            self._revoke()
        self._lease = self._revision = 0

    # Leading -------------------------------------------------------------------------------------

    def renew(self) -> Renewal:
        """One keep-alive, and the read that makes it count."""
        self._end_watch()
        look = self._prove(self._timeout, waiting=False)
        if now() - self._noted >= _NOTE_EVERY:
            self._noted = now()
            with suppress(ElectctlError):  # the next one does
                note = requests.txn([], [note_use_if_kept(self._bid.election)])
                self._client.call("kv.Txn", note, self._timeout)
        return Renewal(self._sent, self._ttl, look.evicted)

    def _prove(self, timeout: float, *, waiting: bool) -> Look:
        """Keep our lease alive and see our key. LeadershipLost if one of them is gone."""
        deadline = now() + timeout
        for _ in range(_TRIES):
            self._keep_place(deadline - now())
            kept = now()
            self.contacted = True
            look = self._look(deadline - now(), waiting=waiting)
            self._notice_proxy(look, kept - self._sent, now() - kept)
            if look.term != self._term:
                continue
            if self._proxied:
                self._bound(deadline - now())
            return look
        raise OutcomeUnknown("etcd was changing its leader while we renewed")

    def _notice_proxy(self, look: Look, keeping: float, reading: float) -> None:
        at_its_pace = keeping > max(_PROXYS_PACE, _PROXYS_RATIO * reading)
        self._slow = self._slow + 1 if at_its_pace else 0
        behind = look.member != self._member or self._slow >= _PROXYS_RENEWALS
        if behind and not self._proxied:
            self._proxied = True
            # As long as one is open, keep-alives on others keep its pace.
            self._client.drop_keep_alives()

    def _bound(self, timeout: float) -> None:
        """Take no more of our lease for granted than it has left."""
        asked = now()
        left = self._client.remaining(self._lease, timeout)
        if left.TTL < 0:
            raise LeadershipLost("etcd no longer has our lease", reason="expired")
        self._ttl = min(self._ttl, asked + left.TTL - self._sent)

    def _look(self, timeout: float, *, waiting: bool) -> Look:
        """See our key, an eviction mark and, when ``waiting``, who is before us."""
        read = [requests.get(self._key), requests.get(keys.eviction_key(self._bid.election))]
        if waiting:
            read.append(requests.newest(self._prefix, 1, below=self._revision))
        seen = self._client.call("kv.Txn", requests.txn([], read), timeout)
        own, marks, *others = (requests.found(response) for response in seen.responses)
        if not own or own[0].create_revision != self._revision:
            raise LeadershipLost("etcd no longer has our key", reason="deleted")
        asked = keys.term_mark(self._key, self._revision)
        return Look(
            member=seen.header.member_id,
            term=seen.header.raft_term,
            evicted=any(mark.value == asked for mark in marks),
            before=next(iter(others[0]), None) if others else None,
            revision=seen.header.revision,
        )

    def write_checkpoint(self, slot: str, value: bytes, seq: int) -> None:
        """See :meth:`Candidacy.write_checkpoint`. UsageError: the value is too large for etcd."""
        token = self._revision
        if not token:
            raise LeadershipLost("we have not been elected", reason="deleted")
        target = keys.checkpoint_key(self._bid.election, slot)
        used = note_use(self._bid.election)
        request = checkpoint.write(self._key, token, target, seq, value, used)
        if not self._client.call("kv.Txn", request, self._timeout).succeeded:
            raise LeadershipLost("etcd no longer has our key", reason="deleted")

    # Giving up -----------------------------------------------------------------------------------

    def release(self) -> None:
        """Revoke our lease, which deletes our key in the same step and wakes the next.

        The native tools delete the key by a transaction first and revoke the lease then; theirs is
        shared by all that a session holds, ours is not.
        """
        self.cancel()
        self._revoke()

    def _revoke(self) -> None:
        if self._lease:
            self._client.revoke(self._lease, self._timeout)
            self._lease = 0

    def receipt(self) -> str:
        """Our lease, which nobody else ever has."""
        return f"{self._lease:x}"

    def close(self) -> None:
        """Free local resources, the connections too if the backend was closed before."""
        self.cancel()
        if self._shares:
            self._shares = False
            self._client.close()
