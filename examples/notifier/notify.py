"""Tells somebody about each change of leader: the other end of `electctl watch --json`.

Shows    the JSON lines of watch, read as they come. What happened is handed to a program of your
         own, NOTIFY, as its last argument; without it, it is printed.
Run      export ELECTCTL_BACKEND=redis://127.0.0.1:6379/0     (or: eval "$(electctl lab env)")
         electctl watch billing --json | NOTIFY='logger -t election' python3 notify.py
Does not protect from
         anything: it tells what the store says, a little later. Nobody may begin or stop acting as
         the leader because of it. While the backend is out of reach changes are missed; only what
         it is like afterwards is told. A message that NOTIFY fails to deliver is not repeated.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import Any


def sentence(event: dict[str, Any]) -> str | None:
    """What a line of watch says, for people; None if they need not know."""
    name = event["election"]
    leader = "nobody" if event["holder"] is None else event["holder"] or "a tool without a name"
    match event["event"]:
        case "holder" | "vacant":
            return f"{name}: {leader} leads"
        case "unreachable":
            return f"{name}: the {event['backend']} backend is out of reach"
        case "recovered":
            return f"{name}: the {event['backend']} backend is back; {leader} leads"
    return None  # "waiting": only the queue has changed


def main() -> None:
    notify = shlex.split(os.environ.get("NOTIFY", "echo"))
    for line in sys.stdin:
        text = sentence(json.loads(line))
        if text and subprocess.run([*notify, text]).returncode:
            print(f"notify.py: not delivered: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
