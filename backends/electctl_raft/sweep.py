"""What elections that are over have left in the table of the built-in Raft, and its removal.

What this does not guarantee: an exact time of last use. The leader notes its wall clock every ten
minutes, and when it leaves, and so does whoever looks; an election is never taken for older than
these notes prove.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from electctl.contract.backend import Leftover
from electctl.errors import Unreachable
from electctl.raft.io.link import Desk
from electctl.raft.pure.commands import Done, Stamp, Sweep
from electctl.raft.pure.requests import Applied, LeftSeen, LookLeft, Submit


def leftovers(desk: Desk) -> Iterator[Leftover]:
    """Every election that has checkpoints, and that nobody leads or awaits. Linearizable reads."""
    # Ours counts too: what is committed before it has an age when somebody looks again.
    desk.ask(Submit(Stamp(int(time.time()))))
    after = ""
    while True:
        reply = desk.ask(LookLeft(after)).reply
        if not isinstance(reply, LeftSeen):
            raise Unreachable("a node answered something else than was asked")
        if not reply.found:
            return
        for left in reply.found:
            last = float(left.at) if left.at else time.time()
            yield Leftover(left.election, ("checkpoint",), last, left.used)
        after = reply.found[-1].election


def sweep(desk: Desk, leftover: Leftover) -> bool:
    """See :meth:`electctl.contract.backend.Backend.sweep`. One command, which can be sent again."""
    assert isinstance(leftover.seen, int), "a leftover of another backend"
    answered = desk.ask(Submit(Sweep(leftover.election, leftover.seen)))
    # Where it was sent more than once, the first copy may be why it has gone.
    return answered.reply == Applied(Done()) or answered.exchange.copies > 1
