"""What must hold at every step of every run, checked as it happens.

What this does not check: whether anything gets done (the world looks at that at the end), and
whether the checkpoints are linearizable (:mod:`electctl.simulate.linearizability`, at the end).

The first five are figure 3 of Ongaro and Ousterhout, "In Search of an Understandable Consensus
Algorithm (Extended Version)". Each step costs time in what changed, not in the length of the log:
log matching, for one, is checked by induction, entry by entry with the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from electctl.raft.commands import Command, Evict
from electctl.raft.leases import Effect
from electctl.raft.messages import Persist, Stored, VoteReply
from electctl.raft.replica import Replica, ReplicaInstruction
from electctl.raft.steps import Became, Role, Send


class Violation(Exception):
    """An invariant does not hold. ``name`` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@dataclass(slots=True)
class _Node:
    """What one server has shown of itself."""

    #: Terms of the entries after the snapshot, from what it told its disk.
    terms: list[int]
    base: int
    base_term: int
    commit: int
    applied: int

    def last(self) -> int:
        return self.base + len(self.terms)

    def term_at(self, index: int) -> int | None:
        if index == self.base:
            return self.base_term
        offset = index - self.base - 1
        return self.terms[offset] if 0 <= offset < len(self.terms) else None


@dataclass(slots=True)
class _Belief:
    """A client takes itself for the leader until ``until``, in true time."""

    client: str
    token: int
    until: float


@dataclass(slots=True)
class Invariants:
    """Told of every step by the world; raises Violation at the first that breaks one."""

    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[Command, int | None]] = field(default_factory=dict)
    effects: dict[int, tuple[Command, Effect]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    #: (term of the leader that committed, index, term of the entry), in the order seen.
    commits: list[tuple[int, int, int]] = field(default_factory=list)
    beliefs: dict[str, list[_Belief]] = field(default_factory=dict)
    #: election → the largest token under which a client has led.
    led_under: dict[str, int] = field(default_factory=dict)
    #: How often a client was elected.
    leaderships: int = 0
    #: Grants taken away by force, which is allowed to make two leaders.
    forced: set[tuple[str, int]] = field(default_factory=set)
    #: When each grant was followed by the next, in true time.
    over: dict[tuple[str, int], float] = field(default_factory=dict)
    nodes: dict[int, _Node] = field(default_factory=dict)

    # Servers -------------------------------------------------------------------------------------

    def started(self, server: int, stored: Stored) -> None:
        """A server starts from what its disk holds."""
        snapshot = stored.snapshot
        terms = [entry.term for entry in stored.entries]
        self.nodes[server] = _Node(
            terms, snapshot.index, snapshot.term, snapshot.index, snapshot.index
        )

    def stepped(
        self,
        server: int,
        incarnation: int,
        replica: Replica,
        instructions: Sequence[ReplicaInstruction],
        led: int | None,
    ) -> None:
        """A server took one step; ``led``: the term in which it was the leader before it."""
        node = self.nodes[server]
        leads_on = replica.raft.role is Role.LEADER and replica.raft.term == led
        for instruction in instructions:
            match instruction:
                case Persist():
                    self._persisted(server, node, instruction, leads_on)
                case Became(role=Role.LEADER, term=term):
                    self._leads(server, incarnation, node, term)
                case Became(role=Role.CANDIDATE, term=term):
                    self._voted(server, term, server)
                case Send(to=to, message=VoteReply(granted=True, pre=False, term=term)):
                    self._voted(server, term, to)
        commit = replica.raft.commit
        if commit != node.commit:
            self._committed(server, node, replica, commit)

    def _persisted(self, server: int, node: _Node, persist: Persist, leads_on: bool) -> None:
        first = persist.first
        if first is not None:
            if leads_on and first <= node.last():
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

    def _compacted(self, node: _Node, persist: Persist) -> None:
        snapshot = persist.snapshot
        assert snapshot is not None
        node.terms = node.terms[max(0, snapshot.index - node.base) :]
        node.base, node.base_term = snapshot.index, snapshot.term
        if snapshot.index > node.applied:
            node.applied = snapshot.index

    def _leads(self, server: int, incarnation: int, node: _Node, term: int) -> None:
        holder = self.leaders.setdefault(term, (server, incarnation))
        if holder != (server, incarnation):
            raise Violation(
                "election safety", f"servers {holder[0]} and {server} both lead in term {term}"
            )
        for committed_in, index, entry_term in reversed(self.commits):
            if committed_in < term:
                if index > node.base and node.term_at(index) != entry_term:
                    raise Violation(
                        "leader completeness",
                        f"server {server} leads in term {term} without entry {index} of term "
                        f"{entry_term}, committed in term {committed_in}",
                    )
                return

    def _voted(self, server: int, term: int, candidate: int) -> None:
        chosen = self.votes.setdefault((server, term), candidate)
        if chosen != candidate:
            raise Violation(
                "one vote a term",
                f"server {server} voted for {chosen} and for {candidate} in term {term}",
            )

    def _committed(self, server: int, node: _Node, replica: Replica, commit: int) -> None:
        if commit < node.commit:
            raise Violation("commit grows", f"server {server}: {node.commit}, then {commit}")
        node.commit = commit
        term = node.term_at(commit)
        if term is None:
            raise Violation("commit within the log", f"server {server} committed {commit}")
        if replica.raft.role is Role.LEADER:
            self.commits.append((replica.raft.term, commit, term))

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
        if effect.granted is not None:
            election, token = effect.granted.election, effect.granted.token
            if token <= self.tokens.get(election, 0):
                raise Violation("tokens grow", f"{election}: {self.tokens[election]}, then {token}")
            if election in self.tokens:
                self.over[election, self.tokens[election]] = now
            self.tokens[election] = token
        if isinstance(command, Evict) and command.force:
            self.forced.add((command.election, command.token))

    # Clients -------------------------------------------------------------------------------------

    def elected(
        self, client: str, election: str, token: int, since: float, until: float, now: float
    ) -> None:
        """A client begins to lead; it counts from ``since`` to ``until``, in true time."""
        earlier = self.led_under.get(election, 0)
        if token <= earlier:
            raise Violation(
                "tokens grow", f"{client} leads {election} under {token} after {earlier}"
            )
        self.led_under[election] = token
        self.leaderships += 1
        self.beliefs.setdefault(election, []).append(_Belief(client, token, until))
        self._not_over(election, token, since)
        self._one_holder(election, now)

    def extended(self, client: str, election: str, since: float, until: float, now: float) -> None:
        """A client's validity was counted anew."""
        for belief in self.beliefs.get(election, ()):
            if belief.client == client:
                belief.until = until
                self._not_over(election, belief.token, since)
        self._one_holder(election, now)

    def ended(self, client: str, election: str) -> None:
        """A client stopped, or is no more."""
        beliefs = self.beliefs.get(election, [])
        beliefs[:] = [belief for belief in beliefs if belief.client != client]

    def _not_over(self, election: str, token: int, since: float) -> None:
        over = self.over.get((election, token), float("inf"))
        if since > over:
            raise Violation(
                "renewed after its end",
                f"{election}: token {token} was passed on at {over:.3f} s, "
                f"and a renewal sent at {since:.3f} s was confirmed",
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
