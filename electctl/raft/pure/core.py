"""Raft, sans-I/O: ticks, messages and proposals in; what to persist, send and commit out.

What this does not guarantee: progress while no majority can talk, and anything at all if a store
loses what it called durable or two nodes share one number. Voters are fixed when it is built.
It reads no clock: a tick stands for a fixed time, never comes sooner than that time after the one
before, and may come late (:mod:`electctl.raft.pure.driver`). It draws no random numbers: ``draw``
is passed in.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended
Version)", sections in brackets; Ongaro's thesis "Consensus: Bridging Theory and Practice": pre-vote
(9.6), a leader that hears of no majority steps down and voters keep to a living leader (6.2,
4.2.3), rounds of heartbeats that prove leadership at a moment (6.4), leadership transfer (3.10).
"""

from __future__ import annotations

from collections.abc import Callable

from electctl.raft.pure.commands import Command, Noop, weight
from electctl.raft.pure.errors import Unsound
from electctl.raft.pure.log import Log
from electctl.raft.pure.messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Install,
    Message,
    Persist,
    Snapshot,
    Stored,
    TimeoutNow,
    Vote,
    VoteReply,
)
from electctl.raft.pure.progress import Progress
from electctl.raft.pure.steps import (
    Became,
    Campaign,
    Commit,
    Compact,
    Confirm,
    Confirmed,
    Event,
    HandOver,
    Instruction,
    Propose,
    Receive,
    Restore,
    Role,
    Send,
    Settings,
    Tick,
)


class Raft:
    """One node. Feed :meth:`handle`; carry out what it returns, in order.

    ``draw(n)`` returns a whole number from 0 to n − 1 and need not be the same on two nodes.
    """

    def __init__(
        self,
        me: int,
        voters: frozenset[int],
        stored: Stored,
        settings: Settings,
        draw: Callable[[int], int],
    ) -> None:
        self.me = me
        self.peers = sorted(voters - {me})
        self.majority = len(voters) // 2 + 1
        self.settings = settings
        self.term = stored.term
        self.vote = stored.vote
        self.log = Log(stored.snapshot, stored.entries)
        self.commit = stored.snapshot.index
        self.role = Role.FOLLOWER
        self.leader: int | None = None
        #: The node to which this leader hands over. It appends nothing meanwhile.
        self.heir: int | None = None
        #: The last heartbeat sent, and the last that a majority answered, in this term.
        self.round = 0
        self.confirmed = 0
        self._round_wanted = False
        self._draw = draw
        self._elapsed = 0
        self._since_heartbeat = 0
        self._timeout = settings.election_ticks + draw(settings.election_ticks)
        self._votes: set[int] = set()
        self._progress: dict[int, Progress] = {}
        self._out: list[Instruction] = []
        self._unsaved = False
        self._first: int | None = None
        self._snapshot: Snapshot | None = None

    @property
    def covering(self) -> int:
        """The round whose confirmation proves leadership at or after the last :class:`Confirm`."""
        return self.round + self._round_wanted

    def handle(self, event: Event) -> list[Instruction]:
        """Take in one event; return what must be done, in order, before the next event.

        A :class:`Persist` comes first, so nothing that depends on it leaves before it is durable
        (figure 2, "updated on stable storage before responding to RPCs"). Raises Unsound.
        """
        self._out = []
        match event:
            case Receive(sender=sender, message=message):
                if sender in self.peers:
                    self._receive(sender, message)
            case Tick():
                self._tick()
            case Campaign():
                if self.role is not Role.LEADER:
                    self._campaign()
            case HandOver():
                if self.role is Role.LEADER and self.peers and self.heir is None:
                    self._hand_over()
            case Propose(commands=commands):
                if self.role is Role.LEADER and self.heir is None:
                    self._append_own(commands)
            case Confirm():
                if self.role is Role.LEADER:
                    self._want_round()
            case Compact(index=index, state=state):
                self._compact(index, state)
        if self._unsaved:
            self._out.insert(0, self._persist())
        return self._out

    # Time ----------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._elapsed += 1
        if self.role is not Role.LEADER:
            if self._elapsed >= self._timeout:
                self._campaign()
            return
        if self._elapsed >= self.settings.election_ticks:
            self._elapsed = 0
            # Whoever should have taken over has not: somebody must lead.
            self.heir = None
            if not self._heard_from_majority():
                self._follow(self.term, None)
                return
        self._since_heartbeat += 1
        if self._since_heartbeat >= self.settings.heartbeat_ticks:
            self._start_round()
            self._nudge_heir()

    def _heard_from_majority(self) -> bool:
        heard = 1 + sum(progress.active for progress in self._progress.values())
        for progress in self._progress.values():
            progress.active = False
        return heard >= self.majority

    # Elections (5.2, 5.4.1; thesis 9.6) ----------------------------------------------------------

    def _campaign(self) -> None:
        """Ask whether an election could be won, before disturbing anybody with a new term."""
        self._become(Role.PRE_CANDIDATE, None)
        self._ask_for_votes(pre=True)

    def _stand(self, *, handed: bool = False) -> None:
        self.term += 1
        self.vote = self.me
        self._unsaved = True
        self._become(Role.CANDIDATE, None)
        self._ask_for_votes(pre=False, handed=handed)

    def _ask_for_votes(self, *, pre: bool, handed: bool = False) -> None:
        self._votes = {self.me}
        if len(self._votes) >= self.majority:
            self._elected()
            return
        term = self.term + 1 if pre else self.term
        request = Vote(term, self.log.last_index, self.log.last_term, pre, handed)
        self._out.extend(Send(peer, request) for peer in self.peers)

    def _elected(self) -> None:
        if self.role is Role.PRE_CANDIDATE:
            self._stand()
        else:
            self._lead()

    def _lead(self) -> None:
        self._become(Role.LEADER, self.me)
        following = self.log.last_index + 1
        self._progress = {peer: Progress(following) for peer in self.peers}
        self.round = self.confirmed = 0
        self._round_wanted = False
        self._append_own((Noop(),))
        self._start_round()

    def _become(self, role: Role, leader: int | None) -> None:
        self.role = role
        self.leader = leader
        self.heir = None
        self._elapsed = 0
        self._timeout = self.settings.election_ticks + self._draw(self.settings.election_ticks)
        self._out.append(Became(role, self.term, leader))

    def _follow(self, term: int, leader: int | None) -> None:
        if term > self.term:
            self.term = term
            self.vote = None
            self._unsaved = True
        elif self.role is Role.FOLLOWER and self.leader == leader:
            return
        self._become(Role.FOLLOWER, leader)

    def _keeps_to_its_leader(self) -> bool:
        """A leader was heard of within the shortest election time-out (thesis, 4.2.3)."""
        return self.leader is not None and self._elapsed < self.settings.election_ticks

    def _vote(self, sender: int, message: Vote) -> None:
        if self._keeps_to_its_leader() and not message.handed:
            return
        if message.term > self.term and not message.pre:
            self._follow(message.term, None)
        if message.pre:
            free = message.term > self.term
        else:
            free = message.term == self.term and self.vote in (None, sender)
        granted = free and self.log.up_to_date(message.last_index, message.last_term)
        if granted and not message.pre:
            self._unsaved |= self.vote is None
            self.vote = sender
            self._elapsed = 0
        term = message.term if granted else self.term
        self._out.append(Send(sender, VoteReply(term, granted, message.pre)))

    def _vote_reply(self, sender: int, message: VoteReply) -> None:
        if message.granted and message.pre:
            wanted = self.role is Role.PRE_CANDIDATE and message.term == self.term + 1
        else:
            wanted = self.role is Role.CANDIDATE and message.granted and not message.pre
        if wanted:
            self._votes.add(sender)
            if len(self._votes) >= self.majority:
                self._elected()

    # Handing over (thesis, 3.10) -----------------------------------------------------------------

    def _hand_over(self) -> None:
        """To who answered last and lacks least; it is asked to stand once it lacks nothing."""
        by_use = ((p.round, p.match, peer) for peer, p in self._progress.items())
        *_, self.heir = max(by_use)
        # The time in which it must succeed.
        self._elapsed = 0
        self._nudge_heir()

    def _nudge_heir(self) -> None:
        if self.heir is not None and self._progress[self.heir].match == self.log.last_index:
            self._out.append(Send(self.heir, TimeoutNow(self.term)))

    # Messages ------------------------------------------------------------------------------------

    def _receive(self, sender: int, message: Message) -> None:
        match message:
            case Vote():
                self._vote(sender, message)
                return
            case VoteReply(granted=True, pre=True):
                self._vote_reply(sender, message)
                return
        if message.term > self.term:
            self._follow(message.term, None)
        match message:
            case Heartbeat() | Append() | Install():
                if message.term < self.term:
                    # Tells a leader that was away that its term is over (5.1).
                    self._out.append(Send(sender, HeartbeatReply(self.term, 0)))
                    return
                self._hear_leader(sender)
                match message:
                    case Heartbeat():
                        self._commit_to(message.commit)
                        self._out.append(Send(sender, HeartbeatReply(self.term, message.round)))
                    case Append():
                        self._append(sender, message)
                    case Install():
                        self._install(sender, message)
            case TimeoutNow():
                if message.term == self.term and self.leader == sender:
                    self._stand(handed=True)
            case VoteReply():
                if message.term == self.term:
                    self._vote_reply(sender, message)
            case HeartbeatReply():
                if message.term == self.term and self.role is Role.LEADER:
                    self._heartbeat_reply(sender, message)
            case AppendReply():
                if message.term == self.term and self.role is Role.LEADER:
                    self._append_reply(sender, message)

    def _hear_leader(self, sender: int) -> None:
        if self.role is Role.LEADER:
            raise Unsound(
                f"node {sender} and node {self.me} both lead in term {self.term}",
                hint="two nodes under one number, or a store that lost a vote",
            )
        self._follow(self.term, sender)
        self._elapsed = 0

    # Replication, follower's side (5.3) ----------------------------------------------------------

    def _append(self, sender: int, message: Append) -> None:
        log = self.log
        if message.prev_index < self.commit:
            # Everything up to the commit index is known to agree.
            self._out.append(Send(sender, AppendReply(self.term, self.commit, False, 0, 0)))
            return
        if log.term_at(message.prev_index) != message.prev_term:
            hint = log.agreement(message.prev_index, message.prev_term)
            reply = AppendReply(self.term, message.prev_index, True, hint, log.term_at(hint) or 0)
            self._out.append(Send(sender, reply))
            return
        for entry in message.entries:
            if log.term_at(entry.index) != entry.term:
                self._truncate(entry.index)
                self._store(entry)
        last = message.prev_index + len(message.entries)
        self._commit_to(min(message.commit, last))
        self._out.append(Send(sender, AppendReply(self.term, last, False, 0, 0)))

    def _truncate(self, first: int) -> None:
        if first > self.log.last_index:
            return
        if first <= self.commit:
            raise Unsound(
                f"the leader of term {self.term} wants entry {first} replaced, "
                f"but everything up to {self.commit} is committed"
            )
        self.log.truncate(first)
        self._first = first if self._first is None else min(self._first, first)
        self._unsaved = True

    def _store(self, entry: Entry) -> None:
        if self._first is None:
            self._first = entry.index
        self.log.append(entry)
        self._unsaved = True

    def _install(self, sender: int, message: Install) -> None:
        if message.index > self.commit:
            snapshot = Snapshot(message.index, message.index_term, message.state)
            if self.log.term_at(message.index) == message.index_term:
                self.log.compact(snapshot)
            else:
                self.log.restart(snapshot)
                self._first = message.index + 1
            self._snapshot = snapshot
            self._unsaved = True
            self.commit = message.index
            self._out.append(Restore(snapshot))
        self._out.append(Send(sender, AppendReply(self.term, self.commit, False, 0, 0)))

    # Replication, leader's side ------------------------------------------------------------------

    def _append_own(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            self._store(Entry(self.log.last_index + 1, self.term, command))
        for peer, progress in self._progress.items():
            self._send_all(peer, progress)
        self._advance_commit()

    def _send_all(self, peer: int, progress: Progress) -> None:
        """As much of what it lacks as may be under way."""
        while progress.next <= self.log.last_index and progress.room(self.settings.window) > 0:
            self._send_entries(peer, progress)

    def _send_entries(self, peer: int, progress: Progress) -> None:
        room = progress.room(self.settings.window)
        if room < 0:
            return
        prev_term = self.log.term_at(progress.next - 1)
        if prev_term is None:
            snapshot = self.log.snapshot
            self._out.append(
                Send(peer, Install(self.term, snapshot.index, snapshot.term, snapshot.state))
            )
            progress.installing(snapshot.index)
            return
        last = min(self.log.last_index, progress.next - 1 + min(room, self.settings.batch))
        entries = self._batch(progress.next, last)
        message = Append(self.term, progress.next - 1, prev_term, entries, self.commit)
        self._out.append(Send(peer, message))
        progress.sent(len(entries))

    def _batch(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries ``first`` to ``last``, or as many of them as go into a message."""
        entries = self.log.slice(first, last)
        size = 0
        for count, entry in enumerate(entries):
            size += weight(entry.command)
            if count and size > self.settings.batch_bytes:
                return entries[:count]
        return entries

    def _append_reply(self, sender: int, message: AppendReply) -> None:
        progress = self._progress[sender]
        if message.rejected:
            agreement = self.log.agreement(message.hint, message.hint_term)
            if progress.rejected(message.index, agreement):
                self._send_entries(sender, progress)
            return
        if not progress.matched(message.index):
            return
        self._advance_commit()
        self._send_all(sender, progress)
        if sender == self.heir:
            self._nudge_heir()

    def _advance_commit(self) -> None:
        """Commit what a majority stores, if it is of this term (5.4.2, figure 8)."""
        matches = sorted([self.log.last_index, *(p.match for p in self._progress.values())])
        index = matches[-self.majority]
        if index > self.commit and self.log.term_at(index) == self.term:
            self._commit_to(index)

    def _commit_to(self, index: int) -> None:
        if index > self.log.last_index:
            raise Unsound(
                f"entry {index} is committed, but the log here ends at {self.log.last_index}",
                hint="the store has lost what it had called durable",
            )
        if index > self.commit:
            entries = self.log.slice(self.commit + 1, index)
            self.commit = index
            self._out.append(Commit(entries))

    # Rounds of heartbeats (thesis, 6.4) ----------------------------------------------------------

    def _want_round(self) -> None:
        """One round at a time: what comes while one is out waits for the next."""
        if self.confirmed == self.round:
            self._start_round()
        else:
            self._round_wanted = True

    def _start_round(self) -> None:
        self.round += 1
        self._round_wanted = False
        self._since_heartbeat = 0
        for peer, progress in self._progress.items():
            # Nothing beyond what is known to agree: the rest of its log may be another's.
            commit = min(self.commit, progress.match)
            self._out.append(Send(peer, Heartbeat(self.term, commit, self.round)))
        self._count_round()

    def _heartbeat_reply(self, sender: int, message: HeartbeatReply) -> None:
        progress = self._progress[sender]
        progress.asked = False
        if message.round > progress.round:
            # A copy of an old answer shows nothing of now.
            progress.active = True
            progress.round = message.round
            self._count_round()
        if progress.match < self.log.last_index:
            # Finds out whether what was sent arrived, even with the window full. Only here: an
            # empty message at each reply would be answered, and so on for ever.
            self._send_entries(sender, progress)

    def _count_round(self) -> None:
        rounds = sorted([self.round, *(p.round for p in self._progress.values())])
        if rounds[-self.majority] > self.confirmed:
            self.confirmed = rounds[-self.majority]
            self._out.append(Confirmed(self.confirmed))
            if self._round_wanted and self.confirmed == self.round:
                self._start_round()

    # Storage -------------------------------------------------------------------------------------

    def _compact(self, index: int, state: bytes) -> None:
        term = self.log.term_at(index)
        if index > self.commit or term is None:
            raise Unsound(f"a snapshot of entry {index}, but {self.commit} are committed")
        if index > self.log.snapshot.index:
            self._snapshot = Snapshot(index, term, state)
            self.log.compact(self._snapshot)
            self._unsaved = True

    def _persist(self) -> Persist:
        first = self._first
        entries = () if first is None else self.log.slice(first, self.log.last_index)
        persist = Persist(self.term, self.vote, first, entries, self._snapshot)
        self._unsaved = False
        self._first = None
        self._snapshot = None
        return persist
