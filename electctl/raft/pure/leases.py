"""The replicated lease table: many elections, each with a holder, a queue and checkpoints.

What this does not do: measure time. A lease ends here when an :class:`Expire` is applied, never
before; the leader decides when to propose one (:mod:`electctl.raft.pure.deadlines`), so no two
machines' clocks are ever compared (Gray and Cheriton, "Leases", SOSP 1989, with the clock of one
server only).

It is a state machine in the sense of Schneider's "Implementing Fault-Tolerant Services Using the
State Machine Approach": what :meth:`LeaseTable.apply` does depends on the table and the command
alone, so every replica that applies the same log holds the same table and gives the same results.

A token is the index of the log entry whose application granted the leadership. At most one grant
an entry and election, so tokens of one election strictly grow.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from heapq import nsmallest

from msgspec import Struct

from electctl.raft.pure.commands import (
    Busy,
    Close,
    Command,
    Done,
    Enter,
    Entered,
    Evict,
    Expire,
    Full,
    Gone,
    Leave,
    Noop,
    Open,
    Opened,
    Result,
    Save,
    SessionCommand,
    Stale,
    Stamp,
    Superseded,
    Sweep,
)
from electctl.raft.pure.times import Times

#: What a table may hold: sessions, and bytes of its snapshot, at most. All replicas must have the
#: same limits, or their tables differ; they go with the version of the protocol. A snapshot must
#: fit into one message, in which it is a third longer (electctl.raft.pure.wire.PEER_LIMIT).
MAX_SESSIONS = 20_000
MAX_BYTES = 40 << 20
#: Bytes in a snapshot of a session or a checkpoint, without what a client chose; rounded up.
_SESSION_BYTES = 250
_CHECKPOINT_BYTES = 150


@dataclass(slots=True)
class Session:
    """One client's session. ``last_seq`` and ``last_result`` make a repeated command act once."""

    ttl_ms: int
    last_seq: int = 0
    last_result: Result | None = None
    election: str | None = None
    candidate: str = ""


@dataclass(slots=True)
class Election:
    """Sessions in the order in which they came; the holder is not in the queue."""

    holder: int | None = None
    token: int = 0
    stop_requested: bool = False
    queue: deque[int] = field(default_factory=deque)


class Checkpoint(Struct, frozen=True):
    """A value, and the grant under which it was written."""

    token: int
    version: int
    value: bytes


class Granted(Struct, frozen=True):
    """The session leads the election from now on."""

    session: int
    election: str
    token: int


class Effect(Struct, frozen=True):
    """What one command did: its result, the grant that followed, the session that ended."""

    result: Result
    granted: Granted | None = None
    ended: int | None = None


class Standing(Struct, frozen=True):
    """How a session stands in its election.

    ``entered`` is False before it entered, and after it left or was evicted. ``ahead`` counts
    those who come before it.
    """

    entered: bool
    token: int | None = None
    stop_requested: bool = False
    ahead: int = 0


class LeaseTable:
    """Feed committed commands to :meth:`apply` in the order of the log."""

    max_sessions = MAX_SESSIONS
    max_bytes = MAX_BYTES

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.elections: dict[str, Election] = {}
        self.checkpoints: dict[tuple[str, str], Checkpoint] = {}
        #: Election that has checkpoints → the entry of its last use.
        self.used: dict[str, int] = {}
        self.times = Times()
        #: Bytes of its snapshot, rounded up.
        self.size = 0

    # Commands ------------------------------------------------------------------------------------

    def apply(self, index: int, command: Command) -> Effect:
        """Apply the command of the entry ``index``."""
        match command:
            case Noop():
                return Effect(Done())
            case Open(ttl_ms=ttl_ms):
                if len(self.sessions) >= self.max_sessions:
                    return Effect(Full())
                self.sessions[index] = Session(ttl_ms)
                self.size += _SESSION_BYTES
                return Effect(Opened(index))
            case Expire(session=session):
                return self._end(index, session)
            case Evict(election=election, token=token, force=force):
                return self._evict(index, election, token, force)
            case Stamp(at=at):
                self.times.add(index, at)
                return Effect(Done())
            case Sweep(election=election, used=used):
                return Effect(self._sweep(election, used))
            case _:
                return self._once(index, command)

    def _once(self, index: int, command: SessionCommand) -> Effect:
        """Act unless this or a later command of the session has acted (thesis, 6.3)."""
        session = self.sessions.get(command.session)
        if session is None:
            return Effect(Gone())
        if command.seq < session.last_seq:
            return Effect(Superseded())
        if command.seq == session.last_seq and session.last_result is not None:
            return Effect(session.last_result)
        effect = self._act(index, session, command)
        session.last_seq = command.seq
        session.last_result = effect.result
        return effect

    def _act(self, index: int, session: Session, command: SessionCommand) -> Effect:
        match command:
            case Enter():
                return self._enter(index, session, command)
            case Leave(session=number):
                return Effect(Done(), granted=self._withdraw(index, number))
            case Close(session=number):
                return self._end(index, number)
            case Save():
                return Effect(self._save(index, session, command))

    def _enter(self, index: int, session: Session, command: Enter) -> Effect:
        if session.election not in (None, command.election):
            return Effect(Busy())
        if session.election is None:
            size = entered_size(command.election, command.candidate)
            if self.size + size > self.max_bytes:
                return Effect(Full())
            self.size += size
        election = self.elections.setdefault(command.election, Election())
        self._use(index, command.election)
        if session.election is None:
            session.election = command.election
            session.candidate = command.candidate
            election.queue.append(command.session)
        granted = self._grant(index, command.election)
        holds = election.holder == command.session
        return Effect(Entered(election.token if holds else None), granted=granted)

    def _use(self, index: int, name: str) -> None:
        if name in self.used:
            self.used[name] = index

    def _sweep(self, name: str, used: int) -> Result:
        if name in self.elections or self.used.get(name) != used:
            return Stale()
        del self.used[name]
        for key in [key for key in self.checkpoints if key[0] == name]:
            self.size -= slot_size(key, self.checkpoints.pop(key))
        return Done()

    def _save(self, index: int, session: Session, command: Save) -> Result:
        if session.election is None:
            return Stale()
        election = self.elections[session.election]
        if (election.holder, election.token) != (command.session, command.token):
            return Stale()
        key = session.election, command.slot
        stored = self.checkpoints.get(key)
        if stored is None or (stored.token, stored.version) < (command.token, command.version):
            checkpoint = Checkpoint(command.token, command.version, command.value)
            more = slot_size(key, checkpoint) - (0 if stored is None else slot_size(key, stored))
            if more > 0 and self.size + more > self.max_bytes:
                return Full()
            self.size += more
            self.checkpoints[key] = checkpoint
            self.used[session.election] = index
        return Done()

    def _evict(self, index: int, name: str, token: int, force: bool) -> Effect:
        election = self.elections.get(name)
        if election is None or election.holder is None or election.token != token:
            return Effect(Stale())
        if not force:
            election.stop_requested = True
            return Effect(Done())
        return Effect(Done(), granted=self._withdraw(index, election.holder))

    def _end(self, index: int, number: int) -> Effect:
        if number not in self.sessions:
            return Effect(Gone())
        granted = self._withdraw(index, number)
        del self.sessions[number]
        self.size -= _SESSION_BYTES
        return Effect(Done(), granted=granted, ended=number)

    def _withdraw(self, index: int, number: int) -> Granted | None:
        """Take the session out of its election; what follows for the others."""
        session = self.sessions[number]
        name, session.election = session.election, None
        if name is None:
            return None
        self._use(index, name)
        self.size -= entered_size(name, session.candidate)
        session.candidate = ""
        election = self.elections[name]
        if election.holder != number:
            election.queue.remove(number)
            return None
        election.holder = None
        election.stop_requested = False
        granted = self._grant(index, name)
        if granted is None:
            del self.elections[name]
        return granted

    def _grant(self, index: int, name: str) -> Granted | None:
        election = self.elections[name]
        if election.holder is not None or not election.queue:
            return None
        election.holder = election.queue.popleft()
        election.token = index
        return Granted(election.holder, name, index)

    # Questions -----------------------------------------------------------------------------------

    def left(self, after: str, limit: int) -> list[str]:
        """Elections that are over and have left checkpoints, in order, ``limit`` at a time."""
        names = (name for name in self.used if name > after and name not in self.elections)
        return nsmallest(limit, names)

    def standing(self, number: int) -> Standing | None:
        """How the session stands; None if there is no such session."""
        session = self.sessions.get(number)
        if session is None:
            return None
        if session.election is None:
            return Standing(entered=False)
        election = self.elections[session.election]
        if election.holder == number:
            return Standing(True, election.token, election.stop_requested)
        return Standing(True, ahead=1 + election.queue.index(number))

    def measure(self) -> int:
        """What :attr:`size` must be."""
        return (
            len(self.sessions) * _SESSION_BYTES
            + sum(
                entered_size(session.election, session.candidate)
                for session in self.sessions.values()
                if session.election is not None
            )
            + sum(slot_size(key, checkpoint) for key, checkpoint in self.checkpoints.items())
        )


def entered_size(election: str, candidate: str) -> int:
    """Bytes of a session's election, which may be its only one, and of its name."""
    return 2 * _in_json(election) + _in_json(candidate)


def slot_size(key: tuple[str, str], checkpoint: Checkpoint) -> int:
    """Bytes of a checkpoint, which is in base64, and of the last use of its election."""
    names = 2 * _in_json(key[0]) + _in_json(key[1])
    return _CHECKPOINT_BYTES + names + -(-len(checkpoint.value) // 3) * 4


def _in_json(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
