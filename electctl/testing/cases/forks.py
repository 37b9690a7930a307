"""A leader's process that forks: what its children are not.

What this leaves out: a fork that goes on to open a backend of its own; that is another process like
any other.
"""

from __future__ import annotations

import os
import select

from electctl.testing.cases.base import Cases
from electctl.testing.harness import Link
from electctl.testing.stage import PATIENCE, Stage, let_pass

#: How a fork of the leader leaves: by unwinding the ``with`` block, to the interpreter's end; by an
#: error; by giving back all that it can reach; and as multiprocessing does it.
WAYS = ("exit", "error", "release", "multiprocessing")

#: Seconds in which what has been sent is counted.
_ON_THE_WAY = 0.1

#: Seconds: a TTL that outlives the time for which the leader is stopped, also on a busy machine. A
#: store may close the connection of one that has expired.
_PATIENT_TTL = 15.0


class Forks(Cases):
    """A leadership belongs to the process that won it."""

    def test_a_fork_of_the_leader_gives_nothing_away(self, stage: Stage) -> None:
        """Its children leave the ``with`` block in every way, several times over.

        None of them leads, waits for a lock that nobody holds there, or sends anything that the
        store could take for the leader's word; the leader goes on and is renewed.
        """
        ways = [*WAYS * 2]
        process = stage.process("parent", forks=ways, hold=2 * stage.ttl)
        elected = process.until("elected")
        for way in ways:
            saw = process.until("child")
            assert saw["reason"] == "forked", saw
            assert saw["lost"] is True, saw
            assert (saw["remaining"], saw["valid_until"], saw["receipt"]) == (0, 0, None), saw
            assert (saw["write"], saw["renew"]) == ("LeadershipLost", "LeadershipLost"), saw
            assert (saw["campaign"], saw["view"]) == ("UsageError", "UsageError"), saw
            ended = process.until("forked")
            assert ended["way"] == way
            assert ended["code"] == (1 if way == "error" else 0), ended
            stage.must_not_win("rival")
        let_pass(1.5 * stage.ttl)
        holder = stage.elector.holder(stage.election)
        assert holder is not None
        assert (holder.id, holder.token) == ("parent", elected["token"])
        stage.must_not_win("rival")
        process.until("stopped")


class LinkedForks(Cases):
    """What passes on the way to the store."""

    def test_a_fork_of_the_leader_sends_nothing(self, stage: Stage) -> None:
        """Not a byte, until its very end; and it opens no connection.

        The leader itself is stopped meanwhile, so whatever passes is the child's.
        """
        link = stage.link()
        process = stage.process("parent", forks=WAYS, alone=True, link=link, ttl=_PATIENT_TTL)
        process.until("elected")
        for way in WAYS:
            child = process.until("alone")
            pid = child["pid"]
            assert isinstance(pid, int)
            handle = os.pidfd_open(pid)
            before = _settled(link)
            assert before[1] > 0, "the leader was elected through this link"
            process.go_on()
            assert select.select([handle], [], [], PATIENCE)[0], "it does not end"
            os.close(handle)
            assert _settled(link) == before, f"the child that left by {way!r} has sent something"
            process.resume()
            process.until("forked")


def _settled(link: Link) -> tuple[int, int]:
    """What was sent, once nothing more is on its way."""
    while True:
        found = link.sent
        let_pass(_ON_THE_WAY)
        if link.sent == found:
            return found
