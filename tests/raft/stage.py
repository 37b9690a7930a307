"""A small cluster on which a transcript plays: every message waits until it is delivered.

What this does not do: lose, reorder or delay anything by itself; the transcript says all.
"""

from __future__ import annotations

from collections.abc import Sequence

from electctl.raft.pure.commands import Close, Enter, Evict, Leave, Open, Save
from electctl.raft.pure.core import Raft
from electctl.raft.pure.messages import Message, Persist
from electctl.raft.pure.replica import FromClient, Replica, ReplicaInstruction, Tell
from electctl.raft.pure.requests import (
    Ask,
    LookCheckpoint,
    LookElection,
    Renew,
    Request,
    Submit,
)
from electctl.raft.pure.steps import Became, HandOver, Receive, Role, Send, Settings, Tick
from electctl.raft.pure.storage import MemoryStorage

SETTINGS = Settings(heartbeat_ticks=2, election_ticks=10, batch=4, window=8)
TICK_MS = 100


class Stage:
    """Obeys one command line at a time; :attr:`said` holds what happened since the last look."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._voters: frozenset[int] = frozenset()
        self._disks: dict[int, MemoryStorage] = {}
        self._nodes: dict[int, Replica] = {}
        self._mail: list[tuple[int, int, Message]] = []
        self._requests = 0
        self._compact_after = 0

    def obey(self, line: str) -> None:
        """One command, as the docstrings of the methods below say."""
        name, *words = line.split()
        getattr(self, "do_" + name.replace("-", "_"))(*words)

    def do_cluster(self, size: str, compact_after: str = "1000") -> None:
        """cluster N [COUNT]: start nodes 1 to N, which keep COUNT entries before a snapshot."""
        self._compact_after = int(compact_after)
        self._voters = frozenset(range(1, int(size) + 1))
        for number in self._voters:
            self._disks[number] = MemoryStorage()
            self._start(number)

    def do_tick(self, number: str, count: str = "1") -> None:
        """tick N [COUNT]: time passes on one node."""
        for _ in range(int(count)):
            self._carry_out(int(number), self._nodes[int(number)].handle(Tick()))

    def do_campaign(self, number: str) -> None:
        """campaign N: time passes on one node until it campaigns."""
        node = self._nodes[int(number)]
        while node.raft.role is Role.FOLLOWER:
            self.do_tick(number)

    def do_hand_over(self, number: str) -> None:
        """hand-over N: the leader is told to let another lead."""
        self._carry_out(int(number), self._nodes[int(number)].handle(HandOver()))

    def do_deliver(self, *links: str) -> None:
        """deliver [A>B…]: deliver all that waits (on these links) and what follows from it."""
        while mail := [letter for letter in self._mail if self._on(letter, links)]:
            self._mail.remove(mail[0])
            sender, receiver, message = mail[0]
            if receiver in self._nodes:
                event = Receive(sender, message)
                self._carry_out(receiver, self._nodes[receiver].handle(event))

    def do_drop(self, *links: str) -> None:
        """drop [A>B…]: lose all that waits (on these links)."""
        self._mail = [letter for letter in self._mail if not self._on(letter, links)]

    def do_crash(self, number: str) -> None:
        """crash N: what it knew is gone, its disk stays."""
        del self._nodes[int(number)]

    def do_start(self, number: str) -> None:
        """start N: after a crash."""
        self._start(int(number))

    def do_ask(self, number: str, what: str, *words: str) -> None:
        """ask N WHAT…: a client's request to one node."""
        self._requests += 1
        request = Request(self._requests, self._question(what, words))
        event = FromClient("client", request)
        self._carry_out(int(number), self._nodes[int(number)].handle(event))

    def do_logs(self) -> None:
        """logs: the terms of each node's log, up to the commit index before the bar."""
        for number, node in sorted(self._nodes.items()):
            log, commit = node.raft.log, node.raft.commit
            entries = log.slice(log.snapshot.index + 1, log.last_index)
            done = " ".join(str(entry.term) for entry in entries if entry.index <= commit)
            rest = " ".join(str(entry.term) for entry in entries if entry.index > commit)
            gone = f"[1-{log.snapshot.index}] " if log.snapshot.index else ""
            self.said.append(f"{number}: {gone}{done} | {rest}".rstrip())

    def do_roles(self) -> None:
        """roles: role, term and vote of each node."""
        for number, node in sorted(self._nodes.items()):
            raft = node.raft
            vote = "nobody" if raft.vote is None else raft.vote
            self.said.append(f"{number}: {raft.role.value} in term {raft.term}, vote {vote}")

    def do_quiet(self) -> None:
        """quiet: forget what was said so far in this block."""
        self.said.clear()

    def _question(self, what: str, words: Sequence[str]) -> Ask:
        match what, *words:
            case "open", ttl_ms:
                return Submit(Open(int(ttl_ms)))
            case "enter", session, seq, election, candidate:
                return Submit(Enter(int(session), int(seq), election, candidate))
            case "leave", session, seq:
                return Submit(Leave(int(session), int(seq)))
            case "close", session, seq:
                return Submit(Close(int(session), int(seq)))
            case "save", session, seq, token, slot, value, version:
                save = Save(int(session), int(seq), int(token), slot, value.encode(), int(version))
                return Submit(save)
            case "evict", election, token:
                return Submit(Evict(election, int(token), False))
            case "evict-force", election, token:
                return Submit(Evict(election, int(token), True))
            case "renew", session:
                return Renew(int(session))
            case "holder", election:
                return LookElection(election)
            case "checkpoint", election, slot:
                return LookCheckpoint(election, slot)
        raise AssertionError(f"no such question: {what} {words}")

    def _on(self, letter: tuple[int, int, Message], links: Sequence[str]) -> bool:
        sender, receiver, _ = letter
        return not links or f"{sender}>{receiver}" in links

    def _start(self, number: int) -> None:
        stored = self._disks[number].load()
        # Node n campaigns n ticks after the shortest time-out, so only who is told to does.
        raft = Raft(number, self._voters, stored, SETTINGS, lambda below: number)
        self._nodes[number] = Replica(raft, TICK_MS, compact_after=self._compact_after)

    def _carry_out(self, number: int, instructions: Sequence[ReplicaInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Persist():
                    self._disks[number].write(instruction)
                case Send(to=to, message=message):
                    self.said.append(f"{number} > {to}  {message}")
                    self._mail.append((number, to, message))
                case Tell(message=message):
                    self.said.append(f"{number} tells the client  {message}")
                case Became(role=role, term=term):
                    self.said.append(f"{number} is {role.value} in term {term}")
