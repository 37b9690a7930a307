"""An election, a killed leader, a fail-over and a verdict: `make demo`.

Three `electctl campaign` processes contend on `local:`, the embedded default, which the first of
them starts; nothing but Python is needed. Each runs, only while it leads, a command that writes a
line into a ledger every 5 ms. The leader is killed with SIGKILL, twice; what the ledger says about
overlap is the verdict. Nothing is left behind.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from electctl.clock import now

TTL = 3.0
PROGRAM = (sys.executable, "-m", "electctl")
CANDIDATES = ("alpha", "beta", "gamma")
KILLS = 2

COMMAND = """
import os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
while True:
    line = f"{os.environ['ELECTCTL_ID']} {os.environ['ELECTCTL_TOKEN']} {time.clock_gettime(7)}"
    os.write(out, line.encode() + b"\\n")
    time.sleep(0.005)
"""  # 7 is CLOCK_BOOTTIME


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


def campaign(name: str, home: Path) -> subprocess.Popen[bytes]:
    """Start one candidate."""
    return subprocess.Popen(
        [
            *(*PROGRAM, "campaign", "demo", "--id", name, "--ttl", f"{TTL}s", "--quiet"),
            *("--events", str(home / f"{name}.events")),
            *("--", sys.executable, "-I", "-S", "-c", COMMAND, str(home / "ledger")),
        ],
        env=environment(home),
        start_new_session=True,
    )


def stop_server(home: Path) -> None:
    """End the embedded server now; it would end by itself after a minute without use."""
    subprocess.run([*PROGRAM, "raft", "stop", "--quiet"], env=environment(home), check=False)


def play(home: Path, stack: ExitStack) -> list[Term]:
    """Run the whole story under ``home``; return the terms that the ledger shows."""
    stack.callback(stop_server, home)
    running = {}
    for name in CANDIDATES:
        running[name] = campaign(name, home)
        stack.callback(running[name].wait)
        stack.callback(running[name].send_signal, signal.SIGTERM)
    print(f"{len(CANDIDATES)} candidates campaign for 'demo' with a TTL of {TTL:g} s")
    print("no backend is named, so the first of them starts the embedded one, local:")
    ledger = home / "ledger"
    term = wait_for_term(ledger, 1, 20)
    for number in range(2, KILLS + 2):
        print(f"{term.leader} acquired the lock and is now the leader, token {term.token}")
        time.sleep(1)  # lead for a while: this is a demonstration
        print(f"SIGKILL {term.leader}; nobody releases its lock, so its lease must expire first")
        killed_at = now()
        running[term.leader].kill()
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


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # also through a pipe, it is told as it happens
    with tempfile.TemporaryDirectory(prefix="electctl-demo-") as home, ExitStack() as stack:
        terms = play(Path(home), stack)
        for name in CANDIDATES:
            events = Path(home, f"{name}.events").read_text().splitlines()
            kinds = [json.loads(line)["event"] for line in events]
            print(f"{name:6} saw: {', '.join(dict.fromkeys(kinds))}")
    return verdict(terms)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # what ran is stopped already, and its files are gone
        sys.exit(130)
