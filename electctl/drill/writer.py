"""The command that runs under a campaign in a drill: ``writer.py LEDGER SOURCE CANDIDATE``.

It writes to the ledger every few milliseconds and, where its campaign has one, to the guarded
checkpoint at a slower pace, through the campaign's socket as ``electctl checkpoint set`` does. What
the predecessor left there is read first. It tells the ledger what came of each.

A script of its own, run with ``python -I -S``: it starts fast, because the time until the first
write is measured. SOURCE is the directory that electctl is imported from, by the thread of the
checkpoint alone.

What this does not guarantee: to obey anything. It takes what its campaign does to it: SIGTERM ends
it by default.
"""

import os
import socket
import sys
import threading
import time

#: Seconds between two writes, and between two checkpoints.
INTERVAL = 0.005
CHECKPOINTS = 0.02


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _connect(path: str) -> socket.socket:
    ledger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ledger.connect(path)
    return ledger


def write(path: str, who: str) -> None:
    """Write for ever. ``who`` is the candidate and its token."""
    ledger = _connect(path)
    while True:
        ledger.send(f"write {who} {_now()}".encode())
        if not ledger.recv(64):
            return
        time.sleep(INTERVAL)


def keep_checkpoint(path: str, source: str, who: str) -> None:
    """Read it, then set it for ever; not where the scheme has none."""
    sys.path.insert(0, source)
    from electctl.campaign import ask
    from electctl.errors import Inconclusive, LeadershipLost, UsageError

    ledger = _connect(path)
    began = _now()
    try:
        value = ask.get_checkpoint()
    except UsageError:
        return  # this scheme has none
    except Inconclusive:
        value = None
    else:
        told = "-" if value is None else value.decode()
        ledger.send(f"get {who} {_now()} {began} {told}".encode())
    version = 0
    while True:
        version += 1
        began = _now()
        # Told beforehand, because it may be killed while it waits for the answer.
        ledger.send(f"try {who} {began} {version}".encode())
        try:
            ask.set_checkpoint(f"{who.replace(' ', '/')}/{version}".encode())
            outcome = "accepted"
        except LeadershipLost:
            outcome = "refused"
        except Inconclusive:
            outcome = "unknown"
        ledger.send(f"set {who} {_now()} {version} {outcome}".encode())
        time.sleep(CHECKPOINTS)


def main() -> None:
    """Two threads, where there is a campaign of electctl around."""
    path, source, candidate = sys.argv[1:]
    # A short name: the path of a socket has an end, which that of a directory has not.
    folder, ledger = os.path.split(path)
    os.chdir(folder)
    who = f"{candidate} {os.environ.get('ELECTCTL_TOKEN') or '-'}"
    if os.environ.get("ELECTCTL_SOCKET"):
        threading.Thread(target=keep_checkpoint, args=(ledger, source, who), daemon=True).start()
    write(ledger, who)


if __name__ == "__main__":
    main()
