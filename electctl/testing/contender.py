"""A candidate in a process of its own, for the cases that need a real one.

Not a user interface. Reads one JSON object from stdin, leads that many terms, and prints a JSON
line when it has been elected and when it is about to release.
"""

from __future__ import annotations

import json
import sys

from electctl.clock import now
from electctl.elector import connect


def main() -> None:
    """Lead ``terms`` terms of ``hold`` seconds each."""
    order = json.loads(sys.stdin.readline())
    with connect(order["url"]) as elector:
        for _ in range(order["terms"]):
            _say("campaigning")
            with elector.campaign(
                order["election"], order["candidate"], ttl=order["ttl"]
            ) as leadership:
                _say("elected", token=leadership.token)
                leadership.lost.wait(order["hold"])
                leadership.check()
                _say("stopped", token=leadership.token)


def _say(event: str, **more: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": now(), **more}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
