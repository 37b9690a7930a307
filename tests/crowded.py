"""A leader on a host whose processes are used up right after its election: run as a script.

Reads one JSON object from stdin (``url``, ``election``, ``ttl``), and prints another.
"""

from __future__ import annotations

import json
import resource
import sys
import threading

from electctl.core.elector import connect
from electctl.errors import ElectctlError


def main() -> None:
    order = json.loads(sys.stdin.readline())
    with connect(order["url"]) as elector:
        leadership = elector.campaign(order["election"], "a", ttl=order["ttl"], wait=20.0)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        try:
            threading.Thread(target=str).start()
            crowded = False
        except RuntimeError:
            crowded = True
        lost = leadership.lost.wait(2.2 * order["ttl"])
        remaining = leadership.remaining()
        leadership.release()
        trouble = ""
        try:  # this takes a connection of its own, and so a thread on most schemes
            elector.holder(order["election"])
        except ElectctlError as error:
            trouble = type(error).__name__
    error_ = leadership.release_error
    said = {
        "crowded": crowded,
        "lost": lost,
        "remaining": remaining,
        "release": "" if error_ is None else error_.message,
        "trouble": trouble,
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
