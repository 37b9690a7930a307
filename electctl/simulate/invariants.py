"""What must hold at every step of every run, checked as it happens.

What this does not check: whether anything gets done (the world looks at that at the end), and
whether the checkpoints are linearizable (:mod:`electctl.verify.linear`, at the end).

The first five are figure 3 of Ongaro and Ousterhout, "In Search of an Understandable Consensus
Algorithm (Extended Version)". Each step costs time in what changed, not in the length of the log:
log matching, for one, is checked by induction, entry by entry with the one before it.

Some look ahead, so that a mistake shows when it is made and not only if the weather goes on to
make it hurt; each follows from the rules of a correct run:

- "no successor without it": nobody who lacks an entry that has just been committed would win an
  election among the logs as they are (what leader completeness rests on, section 5.4.3);
- "answered in office": who answers a renewal or a read had no successor when it was sent, and has
  applied what was committed then (Ongaro's thesis, 6.4; docs/raft.md);
- "ended too soon": no session is expired while its holder counts on it;
- "renewed on its way out": no session is expired by an entry that was in the log already when a
  renewal was confirmed;
- "asked before it stood": nobody begins a term in which it could not win;
- "steps down": a leader that hears of no majority does not go on for ever;
- "in order": who entered an election first is granted it first;
- "fenced": a checkpoint is written only under the grant that leads.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from electctl.raft.pure.commands import (
    Close,
    Command,
    Done,
    Enter,
    Entered,
    Evict,
    Expire,
    Full,
    Leave,
    Open,
    Save,
)
from electctl.raft.pure.leases import Effect, LeaseTable
from electctl.raft.pure.messages import Persist, Stored, TimeoutNow, VoteReply
from electctl.raft.pure.replica import Tell
from electctl.raft.pure.requests import (
    Answer,
    Ask,
    CheckpointSeen,
    ElectionSeen,
    Renew,
    Renewed,
    Request,
    Submit,
)
from electctl.raft.pure.snapshots import dump
from electctl.raft.pure.steps import Became, Role, Send
from electctl.simulate.shown import Belief, Shown
from electctl.simulate.sights import Sight
from electctl.simulate.step import Step


class Violation(Exception):
    """An invariant does not hold. ``name`` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@dataclass(slots=True)
class Invariants:
    """Told of every step by the world; raises Violation at the first that breaks one."""

    #: How many servers are a majority.
    majority: int
    #: Ticks that a leader without a majority may go on at most: two time-outs, as it looks at the
    #: end of each, and one for answers that were long under way.
    patience: int
    #: What has been seen at all, and how often.
    seen: Counter[Sight] = field(default_factory=Counter)
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: (term, when), in the order seen.
    accessions: list[tuple[int, float]] = field(default_factory=list)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    #: term → the first that stood for election.
    stood: dict[int, int] = field(default_factory=dict)
    #: (candidate, term) → who would vote for it; and who was asked to stand by the leader.
    promises: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    handed: set[tuple[int, int]] = field(default_factory=set)
    entries: dict[tuple[int, int], tuple[Command, int | None]] = field(default_factory=dict)
    effects: dict[int, tuple[Command, Effect]] = field(default_factory=dict)
    #: index → the table after that entry.
    tables: dict[int, bytes] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    #: (session, sequence number) of what has been applied.
    acted: set[tuple[int, int]] = field(default_factory=set)
    #: (term of the leader that committed, index, term of the entry), in the order seen.
    commits: list[tuple[int, int, int]] = field(default_factory=list)
    #: The last index that any leader has committed.
    committed: int = 0
    #: (client, request) → what, when it was first sent, and what was committed then.
    questions: dict[tuple[str, int], tuple[Ask, float, int]] = field(default_factory=dict)
    #: session → the term and the end of the log that confirmed its last renewal.
    renewals: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: session → the election that it was granted, and the token.
    grants: dict[int, tuple[str, int]] = field(default_factory=dict)
    #: When each session was opened, and its TTL; and when those that were never renewed ended.
    opened: dict[int, tuple[float, float]] = field(default_factory=dict)
    unrenewed: list[tuple[float, float, float]] = field(default_factory=list)
    #: When each was granted; and of each client that began to lead when, and how long after.
    granted_at: dict[tuple[str, int], float] = field(default_factory=dict)
    wakes: list[tuple[float, float]] = field(default_factory=list)
    #: election → who waits, in the order in which they came.
    queues: dict[str, dict[int, None]] = field(default_factory=dict)
    beliefs: dict[str, list[Belief]] = field(default_factory=dict)
    #: election → the largest token under which a client has led.
    led_under: dict[str, int] = field(default_factory=dict)
    #: How often a client was elected.
    leaderships: int = 0
    #: Grants taken away by force, which is allowed to make two leaders.
    forced: set[tuple[str, int]] = field(default_factory=set)
    #: When each grant ended, in true time.
    over: dict[tuple[str, int], float] = field(default_factory=dict)
    nodes: dict[int, Shown] = field(default_factory=dict)

    # Servers -------------------------------------------------------------------------------------

    def started(self, server: int, stored: Stored) -> None:
        """A server starts from what its disk holds."""
        snapshot = stored.snapshot
        terms = [entry.term for entry in stored.entries]
        self.nodes[server] = Shown(
            terms, snapshot.index, snapshot.term, snapshot.index, snapshot.index
        )

    def stepped(self, server: int, incarnation: int, step: Step, now: float) -> None:
        """A server has taken one step, and what it wrote is durable."""
        node = self.nodes[server]
        effects = deque(step.effects)

        def apply_to(last: int) -> None:
            while effects and effects[0][0] <= last:
                self.applied(server, *effects.popleft(), now)

        for instruction in step.instructions:
            if isinstance(instruction, Persist):
                if instruction.snapshot is not None:
                    apply_to(instruction.snapshot.index)
                self.persisted(server, instruction, leads_on=step.leads and step.term == step.led)
        apply_to(step.applied)
        self.seen[Sight.HEIR] += step.heirs
        for instruction in step.instructions:
            match instruction:
                case Became(role=Role.LEADER, term=term):
                    self._leads(server, incarnation, node, term, now)
                case Became(role=Role.CANDIDATE, term=term):
                    self._asked_first(server, term)
                    self._voted(server, term, server)
                    if self.stood.setdefault(term, server) != server:
                        self.seen[Sight.SPLIT_VOTE] += 1
                case Send(to=to, message=VoteReply(granted=True, pre=False, term=term)):
                    self._voted(server, term, to)
                case Send(to=to, message=VoteReply(granted=True, pre=True, term=term)):
                    self.promises.setdefault((to, term), set()).add(server)
                case Send(to=to, message=TimeoutNow(term=term)):
                    self.handed.add((to, term + 1))
        self._steps_down(server, node, step)
        if step.commit != node.commit:
            self._committed(server, node, step)
        for instruction in step.instructions:
            if isinstance(instruction, Tell):
                self.told(server, step, instruction)

    def persisted(self, server: int, persist: Persist, *, leads_on: bool) -> None:
        """A write is durable; ``leads_on``: of a leader, which it was before this step too."""
        node = self.nodes[server]
        first = persist.first
        if first is not None:
            if first <= node.last():
                self.seen[Sight.CONFLICT] += 1
                if leads_on:
                    raise Violation("leader append-only", f"server {server} replaced entry {first}")
            if first <= node.commit:
                raise Violation(
                    "committed entries stay", f"server {server} replaced committed entry {first}"
                )
            del node.terms[max(0, first - node.base - 1) :]
        if persist.snapshot is not None:
            self._compacted(node, persist)
        for entry in persist.entries:
            # The entry before it decides where log matching starts from (section 5.3).
            before = node.term_at(entry.index - 1)
            known = self.entries.setdefault((entry.index, entry.term), (entry.command, before))
            if known[0] != entry.command or known[1] != before:
                raise Violation(
                    "log matching",
                    f"entry {entry.index} of term {entry.term} is {known} in one log and "
                    f"{(entry.command, before)} in that of server {server}",
                )
            node.terms.append(entry.term)

    def _compacted(self, node: Shown, persist: Persist) -> None:
        snapshot = persist.snapshot
        assert snapshot is not None
        node.terms = node.terms[max(0, snapshot.index - node.base) :]
        node.base, node.base_term = snapshot.index, snapshot.term
        if self.tables.setdefault(snapshot.index, snapshot.state) != snapshot.state:
            raise Violation("state machine safety", f"two tables after {snapshot.index} differ")
        if snapshot.index > node.applied:
            node.applied = snapshot.index

    def restored(self, server: int, state: bytes, table: LeaseTable) -> None:
        """A server has made its table from a snapshot."""
        if dump(table) != state:
            raise Violation(
                "state machine safety", f"server {server} has another table than its snapshot"
            )

    def _leads(self, server: int, incarnation: int, node: Shown, term: int, now: float) -> None:
        holder = self.leaders.setdefault(term, (server, incarnation))
        if holder != (server, incarnation):
            raise Violation(
                "election safety", f"servers {holder[0]} and {server} both lead in term {term}"
            )
        self.accessions.append((term, now))
        for committed_in, index, entry_term in reversed(self.commits):
            if committed_in < term:
                if index > node.base and node.term_at(index) != entry_term:
                    raise Violation(
                        "leader completeness",
                        f"server {server} leads in term {term} without entry {index} of term "
                        f"{entry_term}, committed in term {committed_in}",
                    )
                return

    def _asked_first(self, server: int, term: int) -> None:
        """Nobody begins a term that it could not win (Ongaro's thesis, 9.6)."""
        found = self.promises.get((server, term), set())
        if len(found) + 1 < self.majority and (server, term) not in self.handed:
            raise Violation(
                "asked before it stood", f"server {server} stands in term {term} for {found}"
            )

    def _steps_down(self, server: int, node: Shown, step: Step) -> None:
        """Who hears of no majority leads no more after a while (6.2)."""
        if not step.leads or not self.accessions or self.accessions[-1][0] <= step.term:
            node.outlived = 0
            return
        node.outlived += step.ticked
        if node.outlived > self.patience:
            raise Violation(
                "steps down",
                f"server {server} leads in term {step.term}, {node.outlived} ticks after the "
                f"leader of term {self.accessions[-1][0]} was elected",
            )

    def _voted(self, server: int, term: int, candidate: int) -> None:
        chosen = self.votes.setdefault((server, term), candidate)
        if chosen != candidate:
            raise Violation(
                "one vote a term",
                f"server {server} voted for {chosen} and for {candidate} in term {term}",
            )

    def _committed(self, server: int, node: Shown, step: Step) -> None:
        commit = step.commit
        if commit < node.commit:
            raise Violation("commit grows", f"server {server}: {node.commit}, then {commit}")
        node.commit = commit
        term = node.term_at(commit)
        if term is None:
            raise Violation("commit within the log", f"server {server} committed {commit}")
        if step.leads:
            self.commits.append((step.term, commit, term))
            self.committed = max(self.committed, commit)
            self._no_successor_without(commit, term)

    def _no_successor_without(self, index: int, term: int) -> None:
        ends = [node.end() for node in self.nodes.values()]
        for server, node in self.nodes.items():
            if index > node.base and node.term_at(index) != term:
                end = node.end()
                if sum(other <= end for other in ends) >= self.majority:
                    raise Violation(
                        "no successor without it",
                        f"entry {index} of term {term} was committed, and server {server} "
                        "could be elected without it",
                    )

    def asked(self, client: str, request: Request, now: float) -> None:
        """A client sends a request, perhaps again."""
        if not isinstance(request.ask, Submit):
            question = request.ask, now, self.committed
            self.questions.setdefault((client, request.id), question)

    def told(self, server: int, step: Step, tell: Tell) -> None:
        """A server answers."""
        match tell.message:
            case Answer(id=number, reply=Renewed() | CheckpointSeen() | ElectionSeen() as reply):
                ask, sent, committed = self.questions[tell.client, number]
            case _:
                return
        if isinstance(ask, Renew) and isinstance(reply, Renewed) and reply.standing is not None:
            self.renewals[ask.session] = step.term, step.last_index
        for term, elected in reversed(self.accessions):
            if term <= step.term:
                break
            if elected < sent:
                raise Violation(
                    "answered in office",
                    f"server {server} answered in term {step.term} what was sent at {sent:.3f} s; "
                    f"the leader of term {term} was elected at {elected:.3f} s",
                )
        if step.applied < committed:
            raise Violation(
                "answered in office",
                f"server {server} answered from entry {step.applied}; "
                f"{committed} had been committed when the question was sent",
            )

    def applied(
        self, server: int, index: int, command: Command, effect: Effect, now: float
    ) -> None:
        """A server applied the entry ``index``."""
        node = self.nodes[server]
        if index != node.applied + 1:
            raise Violation("applied in order", f"server {server}: {node.applied}, then {index}")
        node.applied = index
        known = self.effects.get(index)
        if known is not None:
            if known != (command, effect):
                raise Violation(
                    "state machine safety",
                    f"entry {index}: server {server} applied {command} with {effect}, "
                    f"another applied {known[0]} with {known[1]}",
                )
            return
        self.effects[index] = command, effect
        self.seen[Sight.FULL] += isinstance(effect.result, Full)
        ended = effect.ended
        if isinstance(command, Open):
            self.opened[index] = now, command.ttl_ms / 1000
        if ended is not None:
            if isinstance(command, Expire) and ended in self.opened and ended not in self.renewals:
                self.unrenewed.append((*self.opened[ended], now))
            if isinstance(command, Expire) and ended in self.renewals:
                self._not_on_its_way_out(node, index, ended)
            if ended in self.grants:
                self._grant_ended(command, *self.grants.pop(ended), now)
        self._in_order(command, effect)
        if isinstance(command, Enter | Leave | Save | Close):
            name = command.session, command.seq
            if name in self.acted:
                self.seen[Sight.ONCE] += 1
            elif isinstance(command, Save) and isinstance(effect.result, Done):
                self._fenced(command)
            self.acted.add(name)
        if effect.granted is not None:
            election, token = effect.granted.election, effect.granted.token
            if token <= self.tokens.get(election, 0):
                raise Violation("tokens grow", f"{election}: {self.tokens[election]}, then {token}")
            if election in self.tokens:
                self.over.setdefault((election, self.tokens[election]), now)
            self.tokens[election] = token
            self.grants[effect.granted.session] = election, token
            self.granted_at[election, token] = now
        if isinstance(command, Evict) and command.force and isinstance(effect.result, Done):
            self.seen[Sight.FORCED] += 1
            self.forced.add((command.election, command.token))

    def _in_order(self, command: Command, effect: Effect) -> None:
        """Who came first is granted first."""
        match command, effect.result:
            case Enter(session=session, election=election), Entered():
                if (session, command.seq) not in self.acted:
                    self.queues.setdefault(election, {}).setdefault(session)
            case Leave(session=session), Done() if (session, command.seq) not in self.acted:
                self._out_of_the_queue(session)
        if effect.ended is not None:
            self._out_of_the_queue(effect.ended)
        if effect.granted is not None:
            queue = self.queues[effect.granted.election]
            first = next(iter(queue))
            if effect.granted.session != first:
                raise Violation(
                    "in order",
                    f"{effect.granted} was granted, and session {first} came first",
                )
            del queue[first]

    def _out_of_the_queue(self, session: int) -> None:
        for queue in self.queues.values():
            queue.pop(session, None)

    def _fenced(self, save: Save) -> None:
        election, token = self.grants.get(save.session, ("", 0))
        leads = token == save.token == self.tokens.get(election)
        if not leads or (election, token) in self.forced:
            raise Violation("fenced", f"{save} was written, but does not lead any more")

    def _not_on_its_way_out(self, node: Shown, index: int, session: int) -> None:
        confirmed_in, last = self.renewals[session]
        term = node.term_at(index)
        # Of a later term it is another entry than the one that was there.
        if index <= last and term is not None and term <= confirmed_in:
            raise Violation(
                "renewed on its way out",
                f"session {session} was renewed in term {confirmed_in}, when entry {index} of "
                f"term {term}, which ends it, was in the log",
            )

    def _grant_ended(self, command: Command, election: str, token: int, now: float) -> None:
        self.over.setdefault((election, token), now)
        if isinstance(command, Expire) and (election, token) not in self.forced:
            self.seen[Sight.EXPIRY] += 1
            for belief in self.beliefs.get(election, ()):
                if belief.token == token and belief.until > now:
                    raise Violation(
                        "ended too soon",
                        f"{election}: token {token} expired at {now:.3f} s, "
                        f"but {belief.client} counts on it until {belief.until:.3f} s",
                    )

    # Clients -------------------------------------------------------------------------------------

    def elected(
        self, client: str, election: str, token: int, since: float, until: float, now: float
    ) -> None:
        """A client begins to lead; it counts from ``since`` to ``until``, in true time."""
        earlier = self.led_under.get(election, 0)
        # Who is evicted by force before it has heard of its grant may still begin, late.
        if token <= earlier and (election, token) not in self.forced:
            raise Violation(
                "tokens grow", f"{client} leads {election} under {token} after {earlier}"
            )
        self.led_under[election] = max(token, earlier)
        self.leaderships += 1
        if (election, token) in self.granted_at:
            self.wakes.append((now, now - self.granted_at[election, token]))
        self.beliefs.setdefault(election, []).append(Belief(client, token, until))
        self._not_over(election, token, since, until)
        self._one_holder(election, now)

    def extended(self, client: str, election: str, since: float, until: float, now: float) -> None:
        """A client's validity was counted anew."""
        for belief in self.beliefs.get(election, ()):
            if belief.client == client:
                belief.until = until
                self._not_over(election, belief.token, since, until)
        self._one_holder(election, now)

    def ended(self, client: str, election: str) -> None:
        """A client stopped, or is no more."""
        beliefs = self.beliefs.get(election, [])
        beliefs[:] = [belief for belief in beliefs if belief.client != client]

    def _not_over(self, election: str, token: int, since: float, until: float) -> None:
        over = self.over.get((election, token), float("inf"))
        # Who is evicted by force may go on for as long as it counted before.
        if (since if (election, token) in self.forced else until) > over:
            raise Violation(
                "renewed after its end",
                f"{election}: token {token} ended at {over:.3f} s, "
                f"and a renewal sent at {since:.3f} s counts until {until:.3f} s",
            )

    def _one_holder(self, election: str, now: float) -> None:
        beliefs = self.beliefs[election]
        beliefs[:] = [belief for belief in beliefs if belief.until > now]
        valid = [belief for belief in beliefs if (election, belief.token) not in self.forced]
        if len(valid) > 1:
            raise Violation(
                "one holder",
                f"{election} at {now:.3f} s: "
                + " and ".join(f"{b.client} (token {b.token}, until {b.until:.3f})" for b in valid),
            )
