"""Exclusion and fail-over measured from outside: two campaigns, one fault, one file.

Each round starts two real ``electctl campaign`` processes on one election, with a command that
appends a line every 5 ms, does something bad to the first, and reads the file afterwards. Nothing
that electctl says of itself is used but its exit code. ``--tool etcdctl`` puts ``etcdctl lock`` in
its place, as a yardstick; it does not stop its command, and rounds that ask for that are left out.

What a round measures, in milliseconds:

- ``gap``: from the first command's last line to the second's first (negative: two leaders);
- ``before end``: from the first command's last line to the end of its lease in the store: what the
  store last said of it or, where it tells no end (ZooKeeper), the last moment at which it was
  asked and still had the first for its leader. So the true margin is at least this;
- ``takeover``: from the fault to the second command's first line.

    python -m benchmarks.outside --scheme redis --rounds 20
    python -m benchmarks.outside --scheme etcd --tool etcdctl --rounds 1

Some faults are done to the store itself; these rounds are played alone. ``cut-off`` is of a member
that follows, ``cut-off-leader`` of the one that leads the store; ZooKeeper's others then take 3 to
30 s to elect another, and once took minutes on a busy machine.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import electctl
from benchmarks.stores import TTL, Address, Separable, cluster_of
from electctl.clock import now
from electctl.elector import LeaderElector
from electctl.errors import ElectctlError, Unreachable
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy
from electctl_etcd.lab import EtcdCluster
from electctl_raft.lab import RaftCluster

WRITER = Path(__file__).with_name("writer.py")
COMMANDS = ("plain", "stubborn", "forked")
DEADLINE = 60.0
#: Until a store that has lost its own leader serves again.
STORE_DEADLINE = 400.0
TRIES = 3


def electctl_argv(
    cluster: Cluster, addresses: Sequence[Address], election: str, name: str, ttl: float
) -> list[str]:
    """``electctl campaign``, up to its command."""
    return [
        *(sys.executable, "-m", "electctl", "campaign", election),
        *("-b", cluster.url_for(addresses), "--id", name, "--ttl", f"{ttl:g}s", "--"),
    ]


def etcdctl_argv(
    cluster: Cluster, addresses: Sequence[Address], election: str, name: str, ttl: float
) -> list[str]:
    """``etcdctl lock``, up to its command; it has no names."""
    assert isinstance(cluster, EtcdCluster)
    return [*cluster.etcdctl_command(addresses=addresses), "lock", f"--ttl={ttl:g}", election, "--"]


TOOLS = {"electctl": electctl_argv, "etcdctl": etcdctl_argv}


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
    """One process of a tool with a writer under it."""

    def __init__(self, argv: list[str], election: str, name: str, command: str, home: Path):
        self.name = name
        self.log = home / f"{election}-{name}.log"
        self.lines = home / f"{election}.lines"
        #: All processes that were ever seen under it.
        self.known: set[int] = set()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, sys.executable, "-I", "-S", WRITER, command, self.lines, name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def times(self) -> list[float]:
        """When this campaign's command wrote, in seconds on electctl's clock."""
        if not self.lines.exists():
            return []
        # Up to the last end of a line: what follows it is being written right now.
        whole = self.lines.read_text().rpartition("\n")[0]
        pairs = (line.split() for line in whole.splitlines())
        return [int(at) / 1e9 for name, at in pairs if name == self.name]

    def wait_writing(self) -> None:
        """Wait for this command's first line."""
        until(
            lambda: bool(self.times()),
            f"{self.name} writes nothing: {self.log.read_text()}",
            STORE_DEADLINE,
        )

    @property
    def ended(self) -> bool:
        """Whether the tool has gone."""
        return self.process.poll() is not None

    def tree(self) -> list[int]:
        """This process and all its descendants."""
        found = [self.process.pid, *descendants(self.process.pid)]
        self.known.update(found)
        return found

    def end(self) -> None:
        """Leave nothing behind, also of what has lost its parent."""
        self.tree()
        for pid in self.known:
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


class Spoilt(Exception):
    """No round: on a starved machine a campaign may lose its lease, or find no contact in time."""


class LeaseEnd(threading.Thread):
    """Follows when the store will end the leadership that it has now, as the store itself says."""

    def __init__(self, url: str, election: str):
        super().__init__(daemon=True)
        self.elector = electctl.connect(url)
        self.election = election
        holder = self.elector.holder(election)
        if holder is None:
            raise LookupError(f"nobody leads {election}")
        self.key = holder.key
        self.last = 0.0
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            try:
                asked = now()
                holder = self.elector.holder(self.election)
            except ElectctlError:
                continue
            if holder and holder.key == self.key:
                # Counted from before the question: the lease ends no earlier than this says.
                # etcd drops the fractions of a second, so an earlier answer can be the nearer one.
                self.last = max(self.last, asked + (holder.expires_in or 0.0))

    def end(self) -> float:
        """Stop following; the latest end that is certain, on electctl's clock."""
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
    #: The member that the first campaign is connected to, where that is one alone.
    far: int | None


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


@contextmanager
def cut_off(scene: Scene) -> Iterator[None]:
    """The member that the first campaign is connected to loses all its peers, not its clients."""
    assert isinstance(scene.cluster, Separable)
    assert scene.far is not None
    scene.cluster.ways.separate(scene.far)
    try:
        yield
    finally:
        scene.cluster.ways.heal()
        until(scene.cluster.settled, "the member does not join again")


FAULTS = {
    "kill-tree": kill_tree,
    "kill-electctl": kill_electctl,
    "stop-electctl": stop_electctl,
    "store-gone": store_gone,
    "swallowed": swallowed,
    "sigterm": terminated,
    "cut-off": cut_off,
    "cut-off-leader": cut_off,
}
#: Done to the store: no other round can be played on it at the same time.
ALONE = ("store-gone", "cut-off", "cut-off-leader")
#: After these the first campaign ends by itself.
ENDS = ("stop-electctl", "swallowed", *ALONE, "sigterm")
#: What a tool that does not stop its command cannot come through.
NEED_STOPPING = ("store-gone", "sigterm")


def faults_of(scheme: str, nodes: int, tool: str = "electctl") -> list[str]:
    """The faults that can be played."""
    impossible = set(NEED_STOPPING) if tool != "electctl" else set()
    if scheme not in ("etcd", "zk", "raft") or nodes == 1:
        impossible |= {"cut-off", "cut-off-leader"}
    if scheme == "raft":
        impossible.add("cut-off")  # its followers serve nobody
    return [fault for fault in FAULTS if fault not in impossible]


def far_member(fault: str, cluster: Cluster) -> int | None:
    """The member that the first campaign is connected to; None for all of them."""
    if not fault.startswith("cut-off"):
        return None
    assert isinstance(cluster, Separable)
    leading = cluster.leading()
    return leading if fault == "cut-off-leader" else (leading + 1) % cluster.nodes


def one_waits(elector: LeaderElector, election: str) -> bool:
    """Whether somebody waits, as far as the store can tell just now."""
    try:
        return len(elector.candidates(election)) == 1
    except Unreachable:
        return False


def one_round(
    cluster: Cluster, fault: str, command: str, ttl: float, home: Path, tool: str = "electctl"
) -> Round:
    """Play one round, anew if it is spoilt. Raises TimeoutError if the second never leads."""
    for _ in range(TRIES - 1):
        with suppress(Spoilt):
            return _one_round(cluster, fault, command, ttl, home, tool)
    return _one_round(cluster, fault, command, ttl, home, tool)


def _one_round(
    cluster: Cluster, fault: str, command: str, ttl: float, home: Path, tool: str
) -> Round:
    election = f"outside-{fault}-{command}-{os.urandom(4).hex()}"
    far = far_member(fault, cluster)
    servers = list(enumerate(cluster.entrances))
    serves = isinstance(cluster, RaftCluster)  # the one cut off is then the only one that does
    near = [server.address for number, server in servers if number != far or serves]
    with ExitStack() as stack:
        links = [
            stack.enter_context(Proxy(server.address))
            for number, server in servers
            if far in (None, number)
        ]

        def start(name: str, addresses: list[Address]) -> Campaign:
            argv = TOOLS[tool](cluster, addresses, election, name, ttl)
            campaign = Campaign(argv, election, name, command, home)
            stack.callback(campaign.end)
            return campaign

        first = start("first", [link.address for link in links])
        until(lambda: bool(first.times()) or first.ended, "the first writes nothing")
        second = start("second", near)
        elector = stack.enter_context(electctl.connect(cluster.url_for(near)))
        until(
            lambda: one_waits(elector, election) or first.ended or second.ended,
            "the second does not wait",
        )
        if first.ended or second.ended:
            raise Spoilt(f"{election}: one of the two gave up before the fault")
        lease_end = LeaseEnd(cluster.url_for(near), election)
        until(lambda: lease_end.last > 0, "the store does not tell who leads")
        # At any moment between two renewals, which nobody controls.
        time.sleep(int.from_bytes(os.urandom(1)) / 256 * ttl / 3)
        first.tree()
        at = now()
        with FAULTS[fault](Scene(first, cluster, links, far)):
            second.wait_writing()
            lease_ends_at = lease_end.end()
            # Whatever the first still writes is written by now, or shows within this time.
            time.sleep(0.3)
        if tool == "electctl" and fault in ENDS:
            first.process.wait(DEADLINE)
        last, begin = max(first.times()), min(second.times())
        timed = fault not in ("sigterm", "store-gone")
        return Round(
            fault,
            command,
            gap=(begin - last) * 1e3,
            before_end=(lease_ends_at - last) * 1e3 if timed else None,
            takeover=(begin - at) * 1e3,
            exit_code=first.process.poll(),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scheme", default="redis")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ttl", type=float)
    parser.add_argument("--faults", nargs="+", choices=FAULTS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--tool", choices=TOOLS, default="electctl")
    parser.add_argument("--at-once", type=int, default=3, help="rounds played at the same time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ttl = args.ttl or TTL[args.scheme]
    rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="electctl-outside-") as directory,
        cluster_of(args.scheme, Path(directory, "store"), args.nodes) as cluster,
    ):
        faults = args.faults or faults_of(args.scheme, cluster.nodes, args.tool)
        cases = [(f, c) for _ in range(args.rounds) for f in faults for c in args.commands]

        def play(case: tuple[str, str]) -> None:
            rounds.append(one_round(cluster, *case, ttl, Path(directory), args.tool))
            if not args.json:
                print(f"\r{len(rounds)} of {len(cases)} rounds", end="", file=sys.stderr)

        with ThreadPoolExecutor(args.at_once) as pool:
            list(pool.map(play, [case for case in cases if case[0] not in ALONE]))
        for case in cases:
            if case[0] in ALONE:
                play(case)
    print(file=sys.stderr)
    if args.json:
        print(json.dumps([asdict(done) for done in rounds], indent=1))
    else:
        print(f"{args.tool} on {args.scheme} × {cluster.nodes}")
        show(rounds, ttl)
    return 0 if args.tool != "electctl" or all(done.gap > 0 for done in rounds) else 1


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
