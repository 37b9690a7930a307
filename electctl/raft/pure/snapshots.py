"""The lease table as bytes: what a snapshot holds.

What this does not do: say which entries it stands for;
:class:`electctl.raft.pure.messages.Snapshot` does. Equal tables give equal bytes.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from electctl.raft.pure.codec import Decoder, encode
from electctl.raft.pure.commands import Result
from electctl.raft.pure.leases import Checkpoint, Election, LeaseTable, Session
from electctl.raft.pure.times import Times


class _Session(Struct, frozen=True):
    number: int
    ttl_ms: int
    last_seq: int
    last_result: Result | None
    election: str | None
    candidate: str


class _Election(Struct, frozen=True):
    name: str
    holder: int | None
    token: int
    stop_requested: bool
    queue: tuple[int, ...]


class _Slot(Struct, frozen=True):
    election: str
    slot: str
    checkpoint: Checkpoint


class _Use(Struct, frozen=True):
    election: str
    index: int


class _Time(Struct, frozen=True):
    index: int
    at: int


class _Table(Struct, frozen=True):
    """Without times: as stores hold it that were written before there were any."""

    sessions: tuple[_Session, ...]
    elections: tuple[_Election, ...]
    slots: tuple[_Slot, ...]


class _TimedTable(Struct, frozen=True):
    sessions: tuple[_Session, ...]
    elections: tuple[_Election, ...]
    slots: tuple[_Slot, ...]
    uses: tuple[_Use, ...]
    times: tuple[_Time, ...]


_decoder = Decoder(_Table | _TimedTable)


def dump(table: LeaseTable) -> bytes:
    """All of the table."""
    return encode(
        _TimedTable(
            tuple(
                _Session(number, s.ttl_ms, s.last_seq, s.last_result, s.election, s.candidate)
                for number, s in sorted(table.sessions.items())
            ),
            tuple(
                _Election(name, e.holder, e.token, e.stop_requested, tuple(e.queue))
                for name, e in sorted(table.elections.items())
            ),
            tuple(
                _Slot(election, slot, checkpoint)
                for (election, slot), checkpoint in sorted(table.checkpoints.items())
            ),
            tuple(_Use(*use) for use in sorted(table.used.items())),
            tuple(_Time(*pair) for pair in table.times.pairs),
        )
    )


def load(state: bytes) -> LeaseTable:
    """The table of :func:`dump`; an empty one for no bytes. Raises Malformed."""
    table = LeaseTable()
    if state:
        fill(table, state)
    return table


def fill(table: LeaseTable, state: bytes) -> None:
    """Put what :func:`dump` wrote into an empty table. Raises Malformed."""
    stored: _Table | _TimedTable = _decoder.decode(state)
    for s in stored.sessions:
        table.sessions[s.number] = Session(
            s.ttl_ms, s.last_seq, s.last_result, s.election, s.candidate
        )
    for e in stored.elections:
        table.elections[e.name] = Election(e.holder, e.token, e.stop_requested, deque(e.queue))
    for slot in stored.slots:
        table.checkpoints[slot.election, slot.slot] = slot.checkpoint
    if isinstance(stored, _TimedTable):
        table.used = {use.election: use.index for use in stored.uses}
        table.times = Times((time.index, time.at) for time in stored.times)
    else:
        # Not known, and so as late as it can have been.
        last = max([0, *table.sessions, *(slot.checkpoint.token for slot in stored.slots)])
        table.used = dict.fromkeys((slot.election for slot in stored.slots), last)
    table.size = table.measure()
