"""Classic mistakes, each a small subclass of a real part: can the simulation find them?

What this does not show: that it would find others.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from electctl.core import lease
from electctl.raft.pure.client import Client
from electctl.raft.pure.commands import (
    Close,
    Command,
    Done,
    Expire,
    Leave,
    Result,
    Save,
    SessionCommand,
)
from electctl.raft.pure.core import Raft
from electctl.raft.pure.driver import Action, Driver, Write, _in_order
from electctl.raft.pure.leases import Checkpoint, Effect, Granted, LeaseTable, Session
from electctl.raft.pure.log import Log
from electctl.raft.pure.messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Message,
    Persist,
    Vote,
    VoteReply,
)
from electctl.raft.pure.progress import Progress
from electctl.raft.pure.replica import Replica, ReplicaEvent, ReplicaInstruction, Tell, _Pending
from electctl.raft.pure.requests import Notice, Renew
from electctl.raft.pure.snapshots import fill
from electctl.raft.pure.steps import Became, Event, Instruction, Restore, Role, Send, Tick
from electctl.simulate.disk import Disk
from electctl.simulate.run import Subject
from electctl.simulate.server import Parts

# Elections ---------------------------------------------------------------------------------------


class VoteNotPersisted(Raft):
    """After a crash it votes again."""

    def _persist(self) -> Persist:
        return replace(super()._persist(), vote=None)


class TermNotPersisted(Raft):
    """After a crash it is back in the term of its last entry."""

    def _persist(self) -> Persist:
        return replace(super()._persist(), term=self.log.last_term, vote=None)


class VotesTwice(Raft):
    """Its vote is free again for whoever asks."""

    def _vote(self, sender: int, message: Vote) -> None:
        if not message.pre and message.term == self.term and self.role is Role.FOLLOWER:
            self.vote = None
        super()._vote(sender, message)


class PreVoteBinds(Raft):
    """Who got the pre-vote gets the vote, whatever has happened since."""

    promised: frozenset[tuple[int, int]] = frozenset()

    def _vote(self, sender: int, message: Vote) -> None:
        if message.pre or (sender, message.term) not in self.promised:
            super()._vote(sender, message)
            last = self._out[-1] if self._out else None
            if message.pre and isinstance(last, Send) and last.to == sender:
                reply = last.message
                if isinstance(reply, VoteReply) and reply.granted:
                    self.promised |= {(sender, message.term)}
        elif message.term >= self.term:
            self._follow(message.term, None)
            self.vote = sender
            self._unsaved = True
            self._out.append(Send(sender, VoteReply(self.term, True, False)))


class _LongestLog(Log):
    def up_to_date(self, last_index: int, last_term: int) -> bool:
        return last_index >= self.last_index


class LongestLogWins(Raft):
    """Compares the lengths of the logs, not the terms of their last entries (section 5.4.1)."""

    def handle(self, event: Event) -> list[Instruction]:
        self.log.__class__ = _LongestLog
        return super().handle(event)


class HalfIsEnough(Raft):
    """Half of the voters, rounded down, counts as a majority."""

    majority = property(lambda self: max(1, (len(self.peers) + 1) // 2), lambda self, value: None)


# Replication -------------------------------------------------------------------------------------


class CommitsOlderTerms(Raft):
    """Commits entries of earlier terms by counting (section 5.4.2, figure 8)."""

    def _advance_commit(self) -> None:
        matches = sorted([self.log.last_index, *(p.match for p in self._progress.values())])
        self._commit_to(matches[-self.majority])


class TruncatesBlindly(Raft):
    """Cuts the log at each message, also when a delayed one brings what is there already."""

    def _append(self, sender: int, message: Append) -> None:
        if self.log.term_at(message.prev_index) == message.prev_term:
            self._truncate(message.prev_index + 1)
        super()._append(sender, message)

    def _truncate(self, first: int) -> None:
        if self.log.snapshot.index < first <= self.log.last_index:
            self.log.truncate(first)
            self._first = first if self._first is None else min(self._first, first)
            self._unsaved = True


class TakesAnyPredecessor(Raft):
    """Appends without comparing the term of the entry before (section 5.3)."""

    def _append(self, sender: int, message: Append) -> None:
        term = self.log.term_at(message.prev_index)
        super()._append(sender, message if term is None else replace(message, prev_term=term))


class CommitsWhatDiffers(Raft):
    """The commit index runs ahead of what is known to agree."""

    def _start_round(self) -> None:
        super()._start_round()
        for place, item in enumerate(self._out):
            if isinstance(item, Send) and isinstance(item.message, Heartbeat):
                self._out[place] = replace(item, message=replace(item.message, commit=self.commit))

    def _commit_to(self, index: int) -> None:
        super()._commit_to(min(index, self.log.last_index))


class CountsOldReplies(Raft):
    """Takes replies of its earlier leadership for replies of this one."""

    def _receive(self, sender: int, message: Message) -> None:
        if isinstance(message, AppendReply | HeartbeatReply) and message.term < self.term:
            message = replace(message, term=self.term)
        super()._receive(sender, message)


class SendsBeforeWriting(Driver):
    """Sends first and writes later."""

    def turn(self, events: Iterable[ReplicaEvent], now: float) -> list[Action]:
        return sorted(super().turn(events, now), key=lambda item: isinstance(item, Write))


class TicksIntoOffice(Driver):
    """A node alone lets time pass until it leads, and ticks once more at once."""

    def begin(self, now: float) -> list[Action]:
        self.wake_at = now
        actions: list[Action] = []
        while not self.replica.raft.peers and self.replica.raft.role is not Role.LEADER:
            actions += _in_order(self.replica.handle(Tick()))
        return actions


class TicksToCatchUp(Driver):
    """Counts the next tick from when the last was due, not from when it came."""

    def turn(self, events: Iterable[ReplicaEvent], now: float) -> list[Action]:
        due = self.wake_at
        actions = super().turn(events, now)
        if now >= due:
            self.wake_at = due + self._tick_length
        return actions


class SnapshotNotTaken(Replica):
    """A snapshot moves the log, but not the table."""

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for place, item in enumerate(instructions):
            if isinstance(item, Restore):
                self.applied = item.snapshot.index
                instructions = instructions[:place] + instructions[place + 1 :]
                break
        super()._carry_out(instructions)


class CacheCalledDisk(Disk):
    """The last sync is only in a cache when power fails."""

    def sync(self) -> None:
        kept = self._unsynced[-1:]
        self._unsynced = self._unsynced[:-1]
        super().sync()
        self._unsynced = kept

    def crash(self) -> None:
        self._unsynced = []


class NoPreVote(Raft):
    """Begins a new term whenever it hears of no leader."""

    def _campaign(self) -> None:
        self._stand()


class NoCheckQuorum(Raft):
    """A leader that nobody hears leads on."""

    def _heard_from_majority(self) -> bool:
        return True


class FollowersNeverCommit(Raft):
    """What is committed stays with the leader."""

    def _commit_to(self, index: int) -> None:
        if self.role is Role.LEADER:
            super()._commit_to(index)


class SnapshotsNotSent(Raft):
    """Who needs what is gone is left alone."""

    def _send_entries(self, peer: int, progress: Progress) -> None:
        if self.log.term_at(progress.next - 1) is None:
            progress.installing(self.log.snapshot.index)
        else:
            super()._send_entries(peer, progress)


class LogNeverCut(Replica):
    """Keeps all that there ever was."""

    def _compact(self) -> None:
        return


class NobodyIsWoken(Replica):
    """Who waits finds out by itself."""

    def handle(self, event: ReplicaEvent) -> list[ReplicaInstruction]:
        return [
            item
            for item in super().handle(event)
            if not (isinstance(item, Tell) and isinstance(item.message, Notice))
        ]


# Renewals and reads ------------------------------------------------------------------------------


class RenewsWithoutA(Replica):
    """Confirms before it has applied an entry of its own term."""

    @property
    def ready(self) -> bool:
        return self.raft.role is Role.LEADER


class RenewsWithoutB(Replica):
    """Confirms although the session's end is in the log."""

    def _at_risk(self, number: int) -> bool:
        return False


class RenewsWithoutC(Replica):
    """Confirms although it may have been deposed long ago."""

    def _proven(self, pending: _Pending) -> bool:
        return isinstance(pending.request.ask, Renew) or super()._proven(pending)


class ReadsWithoutC(Replica):
    """Answers reads although it may have been deposed long ago."""

    def _proven(self, pending: _Pending) -> bool:
        return not isinstance(pending.request.ask, Renew) or super()._proven(pending)


class ConfirmsWithEarlierHeartbeat(Replica):
    """Takes answers to a heartbeat for proof that was sent before the renewal came."""

    def _proven(self, pending: _Pending) -> bool:
        return pending.round - 1 <= self.raft.confirmed


# Leases ------------------------------------------------------------------------------------------


class FollowersExpire(Replica):
    """A follower ends sessions by its own clock, without the log."""

    def _apply(self, entry: Entry) -> None:
        super()._apply(entry)
        number = entry.index
        if number in self.table.sessions:
            self._deadlines.renewed(
                number, 3 * self.table.sessions[number].ttl_ms, self._deadlines.now
            )

    def _end_overdue(self) -> None:
        if self.raft.role is not Role.LEADER:
            for number in self._deadlines.tick():
                if number in self.table.sessions:
                    self.table._end(self.applied, number)
                self._deadlines.ended(number)
        else:
            super()._end_overdue()


class NewLeaderGrantsNothing(Replica):
    """A new leader counts on from what it saw as a follower, which no renewal reached."""

    def _apply(self, entry: Entry) -> None:
        super()._apply(entry)
        number = entry.index
        if number in self.table.sessions:
            self._deadlines.renewed(number, self.table.sessions[number].ttl_ms, self._deadlines.now)

    def _became(self, change: Became) -> None:
        ends = {n: end for n, end in self._deadlines._ends.items() if n in self.table.sessions}
        super()._became(change)
        self._deadlines._ends = ends


class LeadsFromReceipt(Client):
    """Counts validity from when the answer came."""

    def _elected(self, token: int, since: float, now: float) -> None:
        super()._elected(token, now, now)

    def _lease_event(self, event: lease.Event, now: float) -> None:
        if isinstance(event, lease.Renewed):
            event = replace(event, since=now)
        super()._lease_event(event, now)


class TokensFromACounter(LeaseTable):
    """Numbers the grants of an election, and forgets the number with the election."""

    def _grant(self, index: int, name: str) -> Granted | None:
        before = self.elections[name].token
        granted = super()._grant(index, name)
        if granted is None:
            return None
        self.elections[name].token = before + 1
        return replace(granted, token=before + 1)


class AnybodyReleases(LeaseTable):
    """A goodbye of one who has lost it, or only waits, ends the present leadership."""

    def _withdraw(self, index: int, number: int) -> Granted | None:
        name = self.sessions[number].election
        if name is not None:
            holder = self.elections[name].holder
            if holder is not None and holder != number:
                super()._withdraw(index, holder)
        return super()._withdraw(index, number)


class EndsAnotherSession(LeaseTable):
    """An expiry that was meant for one term of leadership hits whoever leads now."""

    def apply(self, index: int, command: Command) -> Effect:
        if isinstance(command, Expire | Close | Leave) and command.session not in self.sessions:
            for election in self.elections.values():
                if election.holder is not None:
                    return self._end(index, election.holder)
        return super().apply(index, command)


class LastInFirstOut(LeaseTable):
    """Who came last leads next."""

    def _grant(self, index: int, name: str) -> Granted | None:
        self.elections[name].queue.reverse()
        granted = super()._grant(index, name)
        self.elections[name].queue.reverse()
        return granted


class NeverSmaller(LeaseTable):
    """Counts what comes, and not what goes."""

    def _end(self, index: int, number: int) -> Effect:
        size = self.size
        effect = super()._end(index, number)
        self.size = size
        return effect


class EndsTwiceAsLate(Replica):
    """Gives every session twice its TTL."""

    def _keep_time(self, command: Command, effect: Effect) -> None:
        super()._keep_time(command, effect)
        for number, session in self.table.sessions.items():
            if number == getattr(effect.result, "session", None):
                self._deadlines.renewed(number, 2 * session.ttl_ms, self._deadlines.now)


# Sessions and checkpoints ------------------------------------------------------------------------


def fill_without_memory(table: LeaseTable, state: bytes) -> None:
    """A restart from a snapshot forgets which commands have acted."""
    fill(table, state)
    for session in table.sessions.values():
        session.last_seq = 0
        session.last_result = None


class ActsTwice(LeaseTable):
    """A command that comes again acts again; a checkpoint has nothing else to protect it."""

    def _once(self, index: int, command: SessionCommand) -> Effect:
        session = self.sessions.get(command.session)
        if session is not None and isinstance(command, Save):
            return Effect(self._save(index, session, command))
        return super()._once(index, command)

    def _save(self, index: int, session: Session, command: Save) -> Result:
        result = super()._save(index, session, command)
        if result == Done() and session.election is not None:
            key = session.election, command.slot
            self.checkpoints[key] = Checkpoint(command.token, command.version, command.value)
            self.size = self.measure()
        return result


class SavesForTheDeposed(LeaseTable):
    """Writes a checkpoint whoever asks."""

    def _save(self, index: int, session: Session, command: Save) -> Result:
        if session.election is None:
            return Done()
        key = session.election, command.slot
        self.checkpoints[key] = Checkpoint(command.token, command.version, command.value)
        self.size = self.measure()
        return Done()


BUGS: dict[str, Subject] = {
    "vote not persisted": Subject(Parts(raft=VoteNotPersisted)),
    "term not persisted": Subject(Parts(raft=TermNotPersisted)),
    "two votes in one term": Subject(Parts(raft=VotesTwice)),
    "pre-vote not re-checked": Subject(Parts(raft=PreVoteBinds)),
    "longest log wins the vote": Subject(Parts(raft=LongestLogWins)),
    "half is a majority": Subject(Parts(raft=HalfIsEnough)),
    "older term committed by counting": Subject(Parts(raft=CommitsOlderTerms)),
    "truncates what agrees": Subject(Parts(raft=TruncatesBlindly)),
    "entry before not compared": Subject(Parts(raft=TakesAnyPredecessor)),
    "commit index beyond what agrees": Subject(Parts(raft=CommitsWhatDiffers)),
    "replies of an earlier term counted": Subject(Parts(raft=CountsOldReplies)),
    "sent before it is written": Subject(Parts(driver=SendsBeforeWriting)),
    "a tick too early after a start": Subject(Parts(driver=TicksIntoOffice)),
    "late ticks are made up for": Subject(Parts(driver=TicksToCatchUp)),
    "snapshot without its table": Subject(Parts(replica=SnapshotNotTaken)),
    "sync that does not sync": Subject(Parts(disk=CacheCalledDisk)),
    "no pre-vote": Subject(Parts(raft=NoPreVote)),
    "no check-quorum": Subject(Parts(raft=NoCheckQuorum)),
    "followers never commit": Subject(Parts(raft=FollowersNeverCommit)),
    "snapshots never sent": Subject(Parts(raft=SnapshotsNotSent)),
    "log never cut down": Subject(Parts(replica=LogNeverCut)),
    "nobody is woken": Subject(Parts(replica=NobodyIsWoken)),
    "last in, first out": Subject(Parts(table=LastInFirstOut)),
    "size that never falls": Subject(Parts(table=NeverSmaller)),
    "sessions end twice as late": Subject(Parts(replica=EndsTwiceAsLate)),
    "renewal without (a)": Subject(Parts(replica=RenewsWithoutA)),
    "renewal without (b)": Subject(Parts(replica=RenewsWithoutB)),
    "renewal without (c)": Subject(Parts(replica=RenewsWithoutC)),
    "heartbeat from before the renewal": Subject(Parts(replica=ConfirmsWithEarlierHeartbeat)),
    "read without (c)": Subject(Parts(replica=ReadsWithoutC)),
    "expiry by a follower's clock": Subject(Parts(replica=FollowersExpire)),
    "new leader gives no full TTL": Subject(Parts(replica=NewLeaderGrantsNothing)),
    "validity counted from receipt": Subject(client=LeadsFromReceipt),
    "token used again": Subject(Parts(table=TokensFromACounter)),
    "release by one who does not hold": Subject(Parts(table=AnybodyReleases)),
    "late goodbye hits the next": Subject(Parts(table=EndsAnotherSession)),
    "session memory lost on restart": Subject(Parts(fill=fill_without_memory)),
    "retried command acts twice": Subject(Parts(table=ActsTwice)),
    "checkpoint of a deposed leader": Subject(Parts(table=SavesForTheDeposed)),
}

#: The weather that shows a bug soonest, where it is not any. ``python -m benchmarks.soak --bugs``
#: counts them in the weather that each seed draws.
SHOWN_IN: dict[str, str] = {
    "a tick too early after a start": "alone",
    "late ticks are made up for": "alone",
    "vote not persisted": "crashy",
    "term not persisted": "crashy",
    "longest log wins the vote": "restless",
    "older term committed by counting": "restless",
    "replies of an earlier term counted": "long memory",
    "sync that does not sync": "crashy",
    "renewal without (a)": "restless",
    "renewal without (b)": "slow",
    "renewal without (c)": "long memory",
    "heartbeat from before the renewal": "long memory",
    "read without (c)": "restless",
    "validity counted from receipt": "far clients",
    "release by one who does not hold": "far clients",
    "late goodbye hits the next": "long memory",
    "session memory lost on restart": "crashy",
    "retried command acts twice": "long memory",
    "checkpoint of a deposed leader": "mixed",
}
