"""Elections, killed and paused leaders, and what a fencing token is for: `make demo`.

First, three `electctl campaign` processes contend on `local:`, the embedded default, which the
first of them starts; nothing but Python is needed. Each runs, only while it leads, a command that
writes a line into a ledger every 5 ms. The leader is killed with SIGKILL, twice: electctl alone,
and then all of it at once, as if its host had lost power. What the ledger says about overlap is the
verdict.

Then a leader is paused with its command, as a virtual machine is, for longer than its lease: once
with a resource that takes every write, and once with one that checks the token. Nothing is left
behind.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from electctl.base.clock import now

TTL = 3.0
PROGRAM = (sys.executable, "-m", "electctl")
CANDIDATES = ("alpha", "beta", "gamma")

COMMAND = """
import os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
while True:
    line = f"{os.environ['ELECTCTL_ID']} {os.environ['ELECTCTL_TOKEN']} {time.clock_gettime(7)}"
    os.write(out, line.encode() + b"\\n")
    time.sleep(0.005)
"""  # 7 is CLOCK_BOOTTIME

WRITES = """
import os, socket, sys, time
resource = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resource.connect(("127.0.0.1", int(sys.argv[1])))
while True:
    resource.send(f"{os.environ['ELECTCTL_ID']} {os.environ['ELECTCTL_TOKEN']}".encode())
    time.sleep(0.005)
"""


@dataclass
class Term:
    """What the ledger shows of one leadership: its first and last line."""

    leader: str
    token: int
    first: float
    last: float


def read(ledger: Path) -> list[Term]:
    """The terms in the ledger, in the order in which they began."""
    terms: dict[tuple[str, int], Term] = {}
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        leader, token, at = line.split()
        term = terms.setdefault(
            (leader, int(token)), Term(leader, int(token), float(at), float(at))
        )
        term.last = float(at)
    return sorted(terms.values(), key=lambda term: term.first)


def wait_for_term(ledger: Path, number: int, seconds: float) -> Term:
    """Wait until the ledger shows that many terms; return the newest."""
    deadline = now() + seconds
    while len(terms := read(ledger)) < number:
        if now() > deadline:
            raise SystemExit(f"electctl demo: no term {number} within {seconds:g} s")
        time.sleep(0.02)
    return terms[-1]


def environment(home: Path) -> dict[str, str]:
    """Ours, with nothing of the user's own settings, and a state directory under ``home``."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("ELECTCTL_")}
    return ours | {"ELECTCTL_STATE": str(home / "state"), "ELECTCTL_CONFIG": os.devnull}


def campaign(
    election: str, name: str, home: Path, command: str, target: str
) -> subprocess.Popen[bytes]:
    """Start one candidate, whose command writes to ``target``, a file or a port."""
    return subprocess.Popen(
        [
            *(*PROGRAM, "campaign", election, "--id", name, "--ttl", f"{TTL}s", "--quiet"),
            *("--events", str(home / f"{name}.events")),
            *("--", sys.executable, "-I", "-S", "-c", command, target),
        ],
        env=environment(home),
        start_new_session=True,
    )


def kill_electctl(process: subprocess.Popen[bytes]) -> None:
    """As a crash, an OOM killer or an impatient administrator does."""
    process.kill()


def kill_host(process: subprocess.Popen[bytes]) -> None:
    """All of it at once; stopped first, so that none can react to another's end."""
    pids = [process.pid, *descendants(process.pid)]
    send(signal.SIGSTOP, pids)
    send(signal.SIGKILL, pids)


KILLS = (
    (kill_electctl, "its guardian stops the command, then gives the lock back"),
    (kill_host, "nobody is left to give the lock back, so its lease must expire"),
)


def send(signum: signal.Signals, pids: list[int]) -> None:
    """A signal to processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def descendants(root: int) -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = [*children.get(root, [])]
    for pid in found:
        found += children.get(pid, [])
    return found


def stop_server(home: Path) -> None:
    """End the embedded server now; it would end by itself after a minute without use."""
    subprocess.run([*PROGRAM, "raft", "stop", "--quiet"], env=environment(home), check=False)


def play(home: Path, stack: ExitStack) -> list[Term]:
    """Run the whole story under ``home``; return the terms that the ledger shows."""
    running = {}
    for name in CANDIDATES:
        running[name] = campaign("demo", name, home, COMMAND, str(home / "ledger"))
        stack.callback(running[name].wait)
        stack.callback(running[name].send_signal, signal.SIGTERM)
    print(f"{len(CANDIDATES)} candidates campaign for 'demo' with a TTL of {TTL:g} s")
    print("no backend is named, so the first of them starts the embedded one, local:")
    ledger = home / "ledger"
    term = wait_for_term(ledger, 1, 20)
    for number, (kill, what) in enumerate(KILLS, start=2):
        print(f"{term.leader} acquired the lock and is now the leader, token {term.token}")
        time.sleep(1)  # lead for a while: this is a demonstration
        whom = "electctl" if kill is kill_electctl else "all processes"
        print(f"SIGKILL to {whom} of {term.leader}: {what}")
        killed_at = now()
        kill(running[term.leader])
        term = wait_for_term(ledger, number, 2 * TTL + 5)
        print(f"{term.leader} leads {term.first - killed_at:.2f} s after that")
    print(f"{term.leader} is now the leader, token {term.token}; it is told to stop (SIGTERM)")
    running[term.leader].terminate()
    running[term.leader].wait()
    return read(ledger)


def verdict(terms: list[Term]) -> int:
    """Print the terms and the verdict; the exit code."""
    begin = terms[0].first
    print("\nwho wrote to the ledger, in seconds:")
    print("  token  leader    first line   last line")
    for term in terms:
        print(
            f"  {term.token:5}  {term.leader:8}  {term.first - begin:10.3f}  "
            f"{term.last - begin:10.3f}"
        )
    pairs = list(pairwise(terms))
    overlap = sum(max(0.0, a.last - b.first) for a, b in pairs)
    grow = all(a.token < b.token for a, b in pairs)
    print(f"\noverlap: {overlap * 1000:.0f} ms; tokens grow: {'yes' if grow else 'NO'}")
    safe = overlap == 0 and grow
    print("verdict: " + ("at most one leader acted at any time" if safe else "SPLIT-BRAIN"))
    return 0 if safe else 1


# The second half ---------------------------------------------------------------------------------


class Resource(threading.Thread):
    """What leaders write to: a port that takes "ID TOKEN", and knows the highest token so far."""

    def __init__(self, *, checks: bool) -> None:
        super().__init__(daemon=True)
        #: Whether it refuses a write under a token that is lower than the highest.
        self.checks = checks
        #: Who wrote last.
        self.value = ""
        self.token = 0
        #: Writes under a token that was not the highest any more.
        self.taken = 0
        self.refused = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            writer, token = self._socket.recv(1024).decode().split()
            stale = int(token) < self.token
            if stale and self.checks:
                self.refused += 1
                continue
            self.taken += stale
            self.token = max(self.token, int(token))
            self.value = writer


def pause(home: Path, stack: ExitStack, *, checks: bool) -> Resource:
    """Two candidates, of which the leader is paused with all that is its own, and resumed."""
    election = "checked" if checks else "unchecked"
    resource = Resource(checks=checks)
    running = {}
    for name in CANDIDATES[:2]:
        running[name] = campaign(election, name, home, WRITES, str(resource.port))
        stack.callback(running[name].wait)
        stack.callback(running[name].send_signal, signal.SIGTERM)
    print(f"\na resource that {'checks the token' if checks else 'takes every write'}:")
    wait_until(lambda: resource.token > 0, "nobody leads", 20)
    old, old_token = resource.value, resource.token
    *others, command = [running[old].pid, *descendants(running[old].pid)]
    stack.callback(send, signal.SIGCONT, [*others, command])
    send(signal.SIGSTOP, [*others, command])  # electctl first: it would wake its guardian
    print(f"  {old} leads, token {old_token}, and is paused with its command, as a VM is")
    wait_until(lambda: resource.token > old_token, "nobody takes over", 2 * TTL + 5)
    print(f"  its lease expires: {resource.value} leads, token {resource.token}")
    # Who of those that were paused runs first, nobody says. Here it is the command.
    send(signal.SIGCONT, [command])
    wait_until(lambda: resource.taken + resource.refused >= 5, f"{old} does not write", 5)
    send(signal.SIGCONT, others)
    running[old].wait()
    stale = resource.taken or resource.refused
    print(
        f"  {old} is resumed: until its guardian has stopped it, its command writes {stale} times"
        f" under token {old_token}: {'all refused' if checks else 'all taken, SPLIT-BRAIN'}"
    )
    for process in running.values():
        process.terminate()
        process.wait()
    return resource


def wait_until(holds: Callable[[], bool], otherwise: str, seconds: float) -> None:
    """Wait for something, looking every 2 ms."""
    deadline = now() + seconds
    while not holds():
        if now() > deadline:
            raise SystemExit(f"electctl demo: {otherwise} within {seconds:g} s")
        time.sleep(0.002)


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # also through a pipe, it is told as it happens
    with tempfile.TemporaryDirectory(prefix="electctl-demo-") as folder, ExitStack() as stack:
        home = Path(folder)
        stack.callback(stop_server, home)
        terms = play(home, stack)
        for name in CANDIDATES:
            events = (home / f"{name}.events").read_text().splitlines()
            kinds = [json.loads(line)["event"] for line in events]
            print(f"{name:6} saw: {', '.join(dict.fromkeys(kinds))}")
        code = verdict(terms)
        print(
            "\nis a lease enough? electctl stops a command in time, but not one that is paused too"
        )
        unchecked = pause(home, stack, checks=False)
        checked = pause(home, stack, checks=True)
    print("\nverdict: a lease says who leads; only a resource that checks the token is sure of it")
    return code or int(unchecked.taken == 0 or checked.taken > 0 or checked.refused == 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # what ran is stopped already, and its files are gone
        sys.exit(130)
