"""Exclusion and fail-over measured from outside: two campaigns, one fault, one file.

Each round starts two real ``electctl campaign`` processes on one election, with a command that
appends a line every 5 ms, does something bad to the first, and reads the file afterwards. Nothing
that electctl says of itself is used but its exit code.

What a round measures, in milliseconds:

- ``gap``: from the first command's last line to the second's first (negative: two leaders);
- ``before end``: from the first command's last line to the end of its lease in the store, as the
  store last reported it;
- ``takeover``: from the fault to the second command's first line.

    python -m benchmarks.outside --scheme redis --rounds 20
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import electctl
from electctl.clock import now
from electctl.errors import ElectctlError
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.proxy import Proxy

WRITER = Path(__file__).with_name("writer.py")
COMMANDS = ("plain", "stubborn", "forked")
DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed. Times in milliseconds, None where the fault gives none."""

    fault: str
    command: str
    gap: float
    before_end: float | None
    takeover: float
    exit_code: int | None


class Campaign:
    """One ``electctl campaign`` process with a writer under it."""

    def __init__(self, url: str, election: str, name: str, command: str, ttl: float, home: Path):
        self.name = name
        self.log = home / f"{election}-{name}.log"
        self.lines = home / f"{election}.lines"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "electctl", "campaign", election),
                    *("-b", url, "--id", name, "--ttl", f"{ttl}s", "--"),
                    *(sys.executable, "-I", "-S", WRITER, command, self.lines, name),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def times(self) -> list[float]:
        """When this campaign's command wrote, in seconds on electctl's clock."""
        if not self.lines.exists():
            return []
        pairs = (line.split() for line in self.lines.read_text().splitlines())
        return [int(at) / 1e9 for name, at in pairs if name == self.name]

    def wait_writing(self) -> None:
        """Wait for this command's first line."""
        until(lambda: bool(self.times()), f"{self.name} writes nothing: {self.log.read_text()}")

    def tree(self) -> list[int]:
        """This process and all its descendants."""
        return [self.process.pid, *descendants(self.process.pid)]

    def end(self) -> None:
        """Leave nothing behind."""
        for pid in self.tree():
            send(pid, signal.SIGKILL)
        self.process.wait()


def descendants(root: int) -> list[int]:
    """All processes below ``root``, from /proc, independently of electctl's own code."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found: list[int] = []
    todo = [root]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def send(pid: int, signum: int) -> None:
    """A signal to a process that may be gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for ``condition``, looking every 10 ms; raise TimeoutError after ``seconds``."""
    deadline = now() + seconds
    while not condition():
        if now() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


class LeaseEnd(threading.Thread):
    """Follows when the store will end the lease of one candidate, as the store itself says."""

    def __init__(self, url: str, election: str, candidate: str):
        super().__init__(daemon=True)
        self.elector = electctl.connect(url)
        self.election = election
        self.candidate = candidate
        self.last: float | None = None
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            try:
                asked = now()
                holder = self.elector.holder(self.election)
            except ElectctlError:
                continue
            if holder and holder.id == self.candidate and holder.expires_in is not None:
                # Counted from before the question: the lease ends no earlier than this says.
                self.last = asked + holder.expires_in

    def end(self) -> float | None:
        """Stop following; the last end that was reported, on electctl's clock."""
        self.stop.set()
        self.join()
        self.elector.close()
        return self.last


# Faults: each acts on the first campaign, and may undo itself when left. -------------------------


@dataclass(slots=True)
class Scene:
    """What a fault may touch."""

    first: Campaign
    cluster: Cluster
    links: list[Proxy]


@contextmanager
def kill_tree(scene: Scene) -> Iterator[None]:
    """SIGKILL of everything at once: stopped first, so that none can react to another's end."""
    pids = scene.first.tree()
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            send(pid, signum)
    yield


@contextmanager
def kill_electctl(scene: Scene) -> Iterator[None]:
    """SIGKILL of electctl alone."""
    scene.first.process.send_signal(signal.SIGKILL)
    yield


@contextmanager
def stop_electctl(scene: Scene) -> Iterator[None]:
    """SIGSTOP of electctl alone, resumed at the end of the round."""
    scene.first.process.send_signal(signal.SIGSTOP)
    yield
    scene.first.process.send_signal(signal.SIGCONT)


@contextmanager
def store_gone(scene: Scene) -> Iterator[None]:
    """The store is stopped, and started again once the first campaign has ended."""
    scene.cluster.stop()
    until(lambda: scene.first.process.poll() is not None, "the first campaign goes on")
    scene.cluster.start()
    yield


@contextmanager
def swallowed(scene: Scene) -> Iterator[None]:
    """The first campaign's connection stays open and carries nothing any more."""
    for link in scene.links:
        link.swallow()
    yield


@contextmanager
def terminated(scene: Scene) -> Iterator[None]:
    """SIGTERM to electctl: the orderly hand-over."""
    scene.first.process.send_signal(signal.SIGTERM)
    yield


FAULTS = {
    "kill-tree": kill_tree,
    "kill-electctl": kill_electctl,
    "stop-electctl": stop_electctl,
    "store-gone": store_gone,
    "swallowed": swallowed,
    "sigterm": terminated,
}


def one_round(
    scheme: str, fault: str, command: str, ttl: float, home: Path, cluster: Cluster | None = None
) -> Round:
    """Play one round. Raises TimeoutError if the second campaign never leads."""
    election = f"outside-{fault}-{command}-{os.urandom(4).hex()}"
    with ExitStack() as stack:
        if cluster is None or fault == "store-gone":
            cluster = stack.enter_context(make_cluster(scheme, home / election))
        links = [stack.enter_context(Proxy(server.address)) for server in cluster.entrances]
        through_links = cluster.url_for([link.address for link in links])
        first = Campaign(through_links, election, "first", command, ttl, home)
        stack.callback(first.end)
        first.wait_writing()
        second = Campaign(cluster.url, election, "second", command, ttl, home)
        stack.callback(second.end)
        elector = stack.enter_context(electctl.connect(cluster.url))
        until(lambda: "second" in elector.candidates(election), "the second does not wait")
        lease_end = LeaseEnd(cluster.url, election, "first")
        until(lambda: lease_end.last is not None, "the store does not tell the lease's end")
        # At any moment between two renewals, which nobody controls.
        time.sleep(int.from_bytes(os.urandom(1)) / 256 * ttl / 3)
        at = now()
        with FAULTS[fault](Scene(first, cluster, links)):
            second.wait_writing()
            lease_ends_at = lease_end.end()
            # Whatever the first still writes is written by now, or shows within this time.
            time.sleep(0.3)
        if fault in ("stop-electctl", "swallowed", "sigterm", "store-gone"):
            first.process.wait(DEADLINE)
        last, begin = max(first.times()), min(second.times())
        timed = fault not in ("sigterm", "store-gone") and lease_ends_at is not None
        return Round(
            fault,
            command,
            gap=(begin - last) * 1e3,
            before_end=(lease_ends_at - last) * 1e3 if timed and lease_ends_at else None,
            takeover=(begin - at) * 1e3,
            exit_code=first.process.poll(),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scheme", default="redis")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ttl", type=float, default=2.0)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--at-once", type=int, default=3, help="rounds played at the same time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cases = [(f, c) for _ in range(args.rounds) for f in args.faults for c in args.commands]
    with (
        tempfile.TemporaryDirectory(prefix="electctl-outside-") as directory,
        make_cluster(args.scheme, Path(directory, "shared"), args.nodes) as cluster,
        ThreadPoolExecutor(args.at_once) as pool,
    ):

        def play(case: tuple[str, str]) -> Round:
            return one_round(args.scheme, *case, args.ttl, Path(directory), cluster)

        rounds = []
        for done in pool.map(play, cases):
            rounds.append(done)
            if not args.json:
                print(f"\r{len(rounds)} of {len(cases)} rounds", end="", file=sys.stderr)
    print(file=sys.stderr)
    if args.json:
        print(json.dumps([asdict(done) for done in rounds], indent=1))
    else:
        show(rounds, args.ttl)
    return 0 if all(done.gap > 0 for done in rounds) else 1


def show(rounds: list[Round], ttl: float) -> None:
    """The smallest margins of each fault and command."""
    print(f"ttl {ttl:g} s; smallest of the rounds, ms (takeover: largest)")
    print("fault          command   rounds      gap  before end  takeover  exit")
    for fault in FAULTS:
        for command in COMMANDS:
            some = [r for r in rounds if (r.fault, r.command) == (fault, command)]
            if not some:
                continue
            ends = [r.before_end for r in some if r.before_end is not None]
            codes = sorted({str(r.exit_code) for r in some})
            print(
                f"{fault:14} {command:9} {len(some):6} {min(r.gap for r in some):8.1f} "
                f"{min(ends) if ends else float('nan'):11.1f} "
                f"{max(r.takeover for r in some):9.1f}  {','.join(codes)}"
            )


if __name__ == "__main__":
    sys.exit(main())
