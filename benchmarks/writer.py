"""A command that shows when it ran: a line every 5 ms, written with one append each.

    writer.py plain|stubborn|forked FILE NAME

``stubborn`` ignores SIGTERM. ``forked`` writes from a grandchild in a session of its own that
ignores SIGTERM too. A line is "NAME <CLOCK_BOOTTIME in ns>".
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

INTERVAL = 0.005


def write_for_ever(path: str, name: str) -> NoReturn:
    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    while True:
        os.write(out, f"{name} {time.clock_gettime_ns(time.CLOCK_BOOTTIME)}\n".encode())
        time.sleep(INTERVAL)


def main() -> None:
    mode, path, name = sys.argv[1:]
    if mode != "plain":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "forked":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                write_for_ever(path, name)
            os._exit(0)
        while True:
            signal.pause()
    write_for_ever(path, name)


if __name__ == "__main__":
    main()
