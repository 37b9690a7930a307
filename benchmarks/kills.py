"""Kills or stops the leader of a Raft cluster again and again while clients save checkpoints.

``python -m benchmarks.kills [--kills N] [--stop]``: writers lead elections of their own and count
up in a checkpoint; the node that leads the others is killed with SIGKILL (``--stop``: told to stop,
with SIGTERM), started again when another leads, and so on. Every value that was acknowledged must
be there afterwards, and be read at once after each kill. The exit code is 1 if one is lost.

What this does not show: the loss of power. The kernel goes on, so what was written is there whether
or not it was synced.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from electctl.base.clock import now
from electctl.core.elector import LeaderElector, connect
from electctl.core.registry import open_backend
from electctl.errors import ElectctlError, LeadershipLost, OutcomeUnknown, Unreachable
from electctl_raft.lab import RaftCluster

#: Seconds: the leaderships of the writers, and how long anything may take.
TTL = 5.0
LIMIT = 60.0
WRITERS = 3


class Writer(threading.Thread):
    """Leads ``election``, again and again if need be, and counts up in its checkpoint."""

    def __init__(self, url: str, election: str) -> None:
        super().__init__(name=election)
        self.election = election
        #: The last value that was sent, and the last that was acknowledged.
        self.tried = 0
        self.acknowledged = 0
        #: How many were acknowledged, the longest wait for one since a kill, and how many
        #: leaderships ended.
        self.count = 0
        self.slowest = 0.0
        self.lost = 0
        self.failure: BaseException | None = None
        self._url = url
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with connect(self._url) as elector:
                while not self._over.is_set():
                    self._term(elector)
        except (ElectctlError, AssertionError) as error:
            self.failure = error

    def _term(self, elector: LeaderElector) -> None:
        with elector.campaign(self.election, ttl=TTL, wait=LIMIT) as leadership:
            while not self._over.is_set():
                begun = now()
                self.tried += 1
                try:
                    leadership.checkpoint.set(str(self.tried).encode())
                except OutcomeUnknown:
                    continue
                except LeadershipLost:
                    self.lost += 1
                    return
                self.acknowledged = self.tried
                self.count += 1
                self.slowest = max(self.slowest, now() - begun)

    def end(self) -> None:
        """Stop; raises what went wrong."""
        self._over.set()
        self.join()
        if self.failure is not None:
            raise AssertionError(f"{self.election}: {self.failure}") from self.failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: acknowledged checkpoints, leaderships that ended; times in seconds."""

    acknowledged: int
    lost: int
    #: For each kill: until a read through the others was answered, and the longest that a writer
    #: waited for an acknowledgement.
    outages: tuple[float, ...]
    waits: tuple[float, ...]


def kill_leaders(home: Path, kills: int, *, stop: bool = False) -> Outcome:
    """Raises AssertionError if an acknowledged checkpoint is lost."""
    outages = []
    waits = []
    with ExitStack() as stack:
        cluster = stack.enter_context(RaftCluster(home, 3))
        backend = stack.enter_context(closing(open_backend(cluster.url)))
        writers = [Writer(cluster.url, f"writer{number}") for number in range(WRITERS)]
        for writer in writers:
            writer.start()
            stack.callback(writer.end)

        def read(writer: Writer) -> None:
            least = writer.acknowledged
            found = int(backend.read_checkpoint(writer.election, "") or b"0")
            most = writer.tried
            assert least <= found <= most, (
                f"{writer.election}: {found} is there; {least} was acknowledged, {most} was tried"
            )

        def answered() -> bool:
            try:
                for writer in writers:
                    read(writer)
            except (Unreachable, OutcomeUnknown):
                return False
            return True

        for number in range(kills):
            counts = [writer.count for writer in writers]
            _until(
                lambda c=counts: all(w.count > n + 5 for w, n in zip(writers, c, strict=True)),  # type: ignore[misc]
                f"the writers go on before kill {number + 1}",
            )
            leading = cluster.servers[cluster.leading()]
            for writer in writers:
                writer.slowest = 0.0
            killed = now()
            if stop:
                leading.stop()
            else:
                leading.kill()
            _until(answered, f"the others answer after kill {number + 1}")
            outages.append(now() - killed)
            counts = [writer.count for writer in writers]
            _until(
                lambda c=counts: all(w.count > n for w, n in zip(writers, c, strict=True)),  # type: ignore[misc]
                f"the writers go on after kill {number + 1}",
            )
            waits.append(max(writer.slowest for writer in writers))
            leading.start()
            cluster.settle()
        for writer in writers:
            writer.end()
            read(writer)
    return Outcome(
        sum(writer.count for writer in writers),
        sum(writer.lost for writer in writers),
        tuple(outages),
        tuple(waits),
    )


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = now() + LIMIT
    while not holds():
        assert now() < deadline, f"not within {LIMIT:g} s: {what}"
        time.sleep(0.01)


def _times(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds):.2f} s (median), {max(seconds):.2f} s at most"


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, metavar="N")
    parser.add_argument("--stop", action="store_true", help="SIGTERM instead of SIGKILL")
    options = parser.parse_args()
    kills = options.kills
    with TemporaryDirectory() as folder:
        try:
            outcome = kill_leaders(Path(folder), kills, stop=options.stop)
        except AssertionError as error:
            print(error)
            return 1
    how = "planned stops" if options.stop else "kills"
    print(
        f"{kills} {how}: {outcome.acknowledged} checkpoints acknowledged, none lost; "
        f"{outcome.lost} leaderships of {TTL:g} s ended; a writer waited for an acknowledgement "
        f"{_times(outcome.waits)}; the others answered after {_times(outcome.outages)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
