"""A guardian, an electctl and a releaser, as bare as can be: run as a script by test_releaser.

Reads one JSON object from stdin: ``url``, ``election``, ``ttl``, and what is to be done when the
process that leads has been killed (``then``: messages for the releaser; none: the end of the
stream). Prints JSON lines. This process stands for the guardian; its first child is the releaser,
its second one leads.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from electctl.base import deferral
from electctl.base.clock import now
from electctl.campaign.releaser import Releaser
from electctl.contract.url import BackendURL


def say(event: str, **more: object) -> None:
    line = json.dumps({"event": event, "at": now(), **more}) + "\n"
    os.write(1, line.encode())


def tell(end: socket.socket, message: dict[str, Any]) -> None:
    end.sendall(json.dumps(message).encode() + b"\n")


class Reporting(Releaser):
    """Tells of itself when it is asked."""

    def _take(self, message: dict[str, object]) -> None:
        if message != {"do": "report"}:
            super()._take(message)
            return
        usage = os.times()
        say(
            "report",
            loaded=self._backend is not None,
            rss=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            cpu=usage.user + usage.system,
        )


def serve(url: BackendURL, end: socket.socket) -> None:
    """The releaser's process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    Reporting(url).serve(end)
    say("releaser ends")


def lead(url: BackendURL, order: dict[str, Any], end: socket.socket) -> None:
    """electctl's process: it leads until it is killed."""
    from electctl.core.elector import connect

    with (
        connect(url) as elector,
        elector.campaign(order["election"], "doomed", ttl=order["ttl"]) as leadership,
    ):
        tell(end, {"do": "hold", "receipt": leadership.receipt})
        say("elected", token=leadership.token, pid=os.getpid())
        signal.pause()


def main() -> None:
    order = json.loads(sys.stdin.readline())
    # As the command line has it, which loads no more of a client library than it needs.
    deferral.enabled = True
    url = BackendURL.parse(order["url"])
    ours, theirs = socket.socketpair()
    releaser = os.fork()
    if releaser == 0:
        ours.close()
        serve(url, theirs)
        os._exit(0)
    theirs.close()
    leader = os.fork()
    if leader == 0:
        lead(url, order, ours)
        os._exit(1)
    say("forked", leader=leader, releaser=releaser)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "reap":
            break
        tell(ours, command)
    os.waitpid(leader, 0)
    say("killed")
    for message in order["then"]:
        tell(ours, message)
    say("told")
    ours.close()
    code = os.waitstatus_to_exitcode(os.waitpid(releaser, 0)[1])
    say("ended", code=code)


if __name__ == "__main__":
    main()
