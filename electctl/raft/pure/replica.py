"""One server of the cluster, sans-I/O: Raft, the lease table and the clients' questions.

What this does not guarantee: that a client is who it says, or that an answer reaches it. Nor that
a session ends on time (:mod:`electctl.raft.pure.deadlines`).

A command is answered when it has been applied. A renewal and a read need no entry in the log.
They are answered only when

(a) this leader has applied an entry of its own term, so it knows all that was committed before;
(b) for a renewal: its log holds no entry, not yet applied, that could take from the session what
    it holds (expiry, release, eviction);
(c) a majority has acknowledged, in its term, a heartbeat that was sent after the question came.

(a) and (c) are Ongaro's thesis, section 6.4; (b) is what a lease needs beyond a read.

Who follows an election is first answered as a reader is, and then told of each change as it is
applied, so what it is told is committed and in order. It is not told that the node leads no more
before the node knows.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from electctl.raft.pure.commands import (
    Command,
    Enter,
    Entered,
    Evict,
    Expire,
    Noop,
    Open,
    Opened,
    Stamp,
    Sweep,
    weight,
)
from electctl.raft.pure.core import Raft
from electctl.raft.pure.deadlines import Deadlines
from electctl.raft.pure.endings import Endings
from electctl.raft.pure.leases import Effect, LeaseTable
from electctl.raft.pure.messages import Entry, Persist
from electctl.raft.pure.requests import (
    Answer,
    Applied,
    CheckpointSeen,
    ElectionSeen,
    Follow,
    Left,
    LeftSeen,
    LookCheckpoint,
    LookElection,
    LookLeft,
    Notice,
    Renew,
    Renewed,
    Reply,
    Request,
    Retry,
    Submit,
    Told,
)
from electctl.raft.pure.snapshots import dump, load
from electctl.raft.pure.steps import (
    Became,
    Campaign,
    Commit,
    Compact,
    Confirm,
    Confirmed,
    HandOver,
    Propose,
    Receive,
    Restore,
    Role,
    Send,
    Tick,
)
from electctl.raft.pure.steps import Instruction as RaftInstruction
from electctl.raft.pure.twins import Twins
from electctl.raft.pure.watchers import Watchers

#: Sessions that one tick ends at most, so that as many as can be do not hold up all else.
EXPIRIES = 256
#: Bytes of checkpoints in the log after which it is cut down, however few entries they are.
_HEAVY = 8 << 20
#: Names in one answer; each has 1 KiB at most, and a client takes 2 MiB.
_PAGE = 500


class FromClient(Struct, frozen=True):
    """``request`` came from ``client``, a name under which the transport can answer."""

    client: str
    request: Request


class Departed(Struct, frozen=True):
    """``client`` has no connection any more: it follows nothing."""

    client: str


class Tell(Struct, frozen=True):
    """Send ``message`` to ``client``; it may be lost."""

    client: str
    message: Told


ReplicaEvent = Tick | Campaign | HandOver | Receive | FromClient | Departed
#: Carry them out in order; what follows a Persist waits until that is durable.
ReplicaInstruction = Persist | Send | Tell | Became


class _Pending(Struct, frozen=True):
    """A renewal or a read that waits for its proof."""

    round: int
    arrived: int
    client: str
    request: Request


class Replica:
    """Feed :meth:`handle`; carry out what it returns, in order, before the next event.

    ``tick_ms`` is the time between two ticks. The log is cut down to a snapshot whenever
    ``compact_after`` entries have been applied since the last one, or some MiB of checkpoints.
    """

    def __init__(
        self,
        raft: Raft,
        tick_ms: int,
        *,
        compact_after: int = 1000,
        restore: Callable[[bytes], LeaseTable] = load,
    ) -> None:
        self.raft = raft
        self.table = restore(raft.log.snapshot.state)
        self.applied = raft.log.snapshot.index
        self._restore = restore
        self._compact_after = compact_after
        #: Bytes of checkpoints that the log has brought since it was last cut down.
        self._weight = 0
        self._deadlines = Deadlines(tick_ms)
        #: Index of an entry → whom to answer when it is applied; and the same the other way round.
        self._waiting: dict[int, tuple[str, int]] = {}
        self._asked: set[tuple[str, int]] = set()
        self._pending: list[_Pending] = []
        #: Commands that came while this leader hands over.
        self._held: list[tuple[str, Request]] = []
        #: Where each session was last heard from, for notices.
        self._homes: dict[int, str] = {}
        self._endings = Endings()
        self._twins = Twins()
        self._watchers = Watchers()
        self._out: list[ReplicaInstruction] = []

    def handle(self, event: ReplicaEvent) -> list[ReplicaInstruction]:
        """Take in one event; return what must be done. Raises Unsound."""
        self._out = []
        match event:
            case FromClient(client=client, request=request):
                self._request(client, request)
            case Tick():
                self._carry_out(self.raft.handle(event))
                self._end_overdue()
            case Departed(client=client):
                self._watchers.departed(client)
            case _:
                self._carry_out(self.raft.handle(event))
        if self._held and self.raft.heir is None:
            held, self._held = self._held, []
            for client, request in held:
                self._request(client, request)
        return self._out

    @property
    def ready(self) -> bool:
        """Condition (a): we lead and have applied an entry of our term."""
        raft = self.raft
        return raft.role is Role.LEADER and raft.log.term_at(self.applied) == raft.term

    # Requests ------------------------------------------------------------------------------------

    def _request(self, client: str, request: Request) -> None:
        if self.raft.role is not Role.LEADER:
            self._answer(client, request.id, self._elsewhere())
            return
        match request.ask:
            case Submit() if (client, request.id) in self._asked:
                # Sent again, while its entry is on the way: another would only add to the load.
                return
            case Submit() if self.raft.heir is not None:
                # The next leader's to commit, or ours if there will be none.
                self._held.append((client, request))
            case Submit(command=command):
                index = self.raft.log.last_index + 1
                self._waiting[index] = client, request.id
                self._asked.add((client, request.id))
                self._propose((command,))
            case _:
                instructions = self.raft.handle(Confirm())
                pending = _Pending(self.raft.covering, self._deadlines.now, client, request)
                self._pending.append(pending)
                self._carry_out(instructions)
                self._answer_proven()

    def _propose(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            self._endings.appended(command)
        self._carry_out(self.raft.handle(Propose(commands)))

    def _answer(self, client: str, number: int, reply: Reply) -> None:
        self._out.append(Tell(client, Answer(number, reply)))

    def _elsewhere(self) -> Retry:
        """Ask the leader, or else whoever has our vote: it is the likeliest to lead next."""
        raft = self.raft
        other = raft.vote if raft.leader is None else raft.leader
        return Retry(None if other == raft.me else other)

    def _answer_proven(self) -> None:
        """Answer every question for which (a), (b) and (c) hold."""
        if self._pending and self.ready:
            self._pending = [
                pending
                for pending in self._pending
                if not self._proven(pending) or not self._answered(pending)
            ]

    def _proven(self, pending: _Pending) -> bool:
        """Condition (c)."""
        return pending.round <= self.raft.confirmed

    def _answered(self, pending: _Pending) -> bool:
        match pending.request.ask:
            case Renew(session=number):
                if self._at_risk(number):
                    return False
                standing = self.table.standing(number)
                if standing is not None:
                    ttl_ms = self.table.sessions[number].ttl_ms
                    self._deadlines.renewed(number, ttl_ms, pending.arrived)
                    self._homes[number] = pending.client
                    self._twins.hear(number, self._deadlines.now)
                reply = Renewed(standing, self._twins.twin(number, standing, self.table))
                self._answer(pending.client, pending.request.id, reply)
            case LookElection(election=name):
                self._answer(pending.client, pending.request.id, self._election(name))
            case Follow(election=name):
                follower = pending.client, pending.request.id
                seen = self._election(name)
                self._watchers.follow(name, follower, seen)
                self._answer(*follower, seen)
            case LookCheckpoint(election=name, slot=slot):
                found = CheckpointSeen(self.table.checkpoints.get((name, slot)))
                self._answer(pending.client, pending.request.id, found)
            case LookLeft(after=after):
                self._answer(pending.client, pending.request.id, self._left(after))
        return True

    def _at_risk(self, number: int) -> bool:
        """The opposite of condition (b)."""
        return self._endings.threatens(number, self.table)

    def _left(self, after: str) -> LeftSeen:
        table = self.table
        uses = [(name, table.used[name]) for name in table.left(after, _PAGE)]
        return LeftSeen(tuple(Left(name, used, table.times.of(used)) for name, used in uses))

    def _election(self, name: str) -> ElectionSeen:
        election = self.table.elections.get(name)
        if election is None or election.holder is None:
            return ElectionSeen("", None, 0, 0, 0, ())
        sessions = self.table.sessions
        number, session = election.holder, sessions[election.holder]
        return ElectionSeen(
            session.candidate,
            election.token,
            number,
            session.ttl_ms,
            min(session.ttl_ms, self._deadlines.left_ms(number)),
            tuple(sessions[waiting].candidate for waiting in election.queue),
        )

    def _touched(self, command: Command) -> str | None:
        """The election that applying this command can change."""
        match command:
            case Noop() | Open() | Stamp() | Sweep():
                return None
            case Enter(election=name) | Evict(election=name):
                return name
            case _:
                session = self.table.sessions.get(command.session)
                return None if session is None else session.election

    # Time ----------------------------------------------------------------------------------------

    def _end_overdue(self) -> None:
        overdue = self._deadlines.tick()
        if self.ready and self.raft.heir is None:
            ends = [Expire(number) for number in overdue if not self._endings.expiring(number)]
            if ends:
                # The rest is overdue at the next tick, and the tick after that.
                self._propose(tuple(ends[:EXPIRIES]))

    # What the core says --------------------------------------------------------------------------

    def _carry_out(self, instructions: list[RaftInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Send() | Persist():
                    self._out.append(instruction)
                case Confirmed():
                    self._answer_proven()
                case Commit(entries=entries):
                    for entry in entries:
                        self._apply(entry)
                    self._answer_proven()
                    self._compact()
                case Became():
                    self._became(instruction)
                case Restore(snapshot=snapshot):
                    self.table = self._restore(snapshot.state)
                    self.applied = snapshot.index

    def _became(self, change: Became) -> None:
        self._out.append(change)
        if change.role is Role.LEADER:
            self._deadlines.elected(self.table.sessions)
            log = self.raft.log
            unapplied = log.slice(self.applied + 1, log.last_index)
            self._endings = Endings(entry.command for entry in unapplied)
            return
        asked = [*self._waiting.values(), *((p.client, p.request.id) for p in self._pending)]
        asked += self._watchers.all()
        asked += [(client, request.id) for client, request in self._held]
        for client, number in asked:
            self._answer(client, number, self._elsewhere())
        for session, client in self._homes.items():
            # Who waits learns of its grant from the next leader only once that has heard of it.
            self._out.append(Tell(client, Notice(session)))
        self._waiting = {}
        self._pending = []
        self._held = []
        self._homes = {}
        self._asked = set()
        self._twins = Twins()
        self._watchers = Watchers()

    def _apply(self, entry: Entry) -> None:
        touched = self._touched(entry.command)
        effect = self.table.apply(entry.index, entry.command)
        self.applied = entry.index
        self._weight += weight(entry.command)
        if self.raft.role is not Role.LEADER:
            return
        self._endings.applied(entry.command)
        self._keep_time(entry.command, effect)
        waiting = self._waiting.pop(entry.index, None)
        if waiting is not None:
            self._asked.discard(waiting)
            self._answer(*waiting, Applied(effect.result))
            match entry.command, effect.result:
                case Enter(session=session), Entered():
                    self._homes[session] = waiting[0]
        if effect.granted is not None and effect.granted.session in self._homes:
            session = effect.granted.session
            self._out.append(Tell(self._homes[session], Notice(session)))
        if touched is not None and self._watchers.of(touched):
            seen = self._election(touched)
            for watcher in self._watchers.changed(touched, seen):
                self._answer(*watcher, seen)

    def _keep_time(self, command: Command, effect: Effect) -> None:
        match command, effect.result:
            case Open(ttl_ms=ttl_ms), Opened(session=number):
                self._deadlines.renewed(number, ttl_ms, self._deadlines.now)
        if effect.ended is not None:
            self._deadlines.ended(effect.ended)
            self._homes.pop(effect.ended, None)
            self._twins.ended(effect.ended)

    def _compact(self) -> None:
        snapshot = self.raft.log.snapshot
        # Twice the snapshot: what is written again and again must not outgrow what is new.
        heavy = self._weight >= max(_HEAVY, 2 * len(snapshot.state))
        if heavy or self.applied - snapshot.index >= self._compact_after:
            self._weight = 0
            self._carry_out(self.raft.handle(Compact(self.applied, dump(self.table))))
