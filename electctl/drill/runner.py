"""Drills from beginning to end: a lab, rounds in it, results.

What this does not guarantee: that nothing is left if this process is killed with SIGKILL: its
servers and candidates die with it (Linux), its files stay in the temporary directory.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from electctl.contract.backend import Native, NativeRun
from electctl.contract.traits import Traits
from electctl.contract.url import BackendURL
from electctl.core import registry
from electctl.drill import catalogue, result
from electctl.drill.entrants import Programs, Tool, electctl, native
from electctl.drill.evidence import Promise
from electctl.drill.given import Given
from electctl.drill.judge import judge
from electctl.drill.round import Setting, Spoilt, play
from electctl.errors import Inconclusive, Unreachable, Unsupported, UsageError
from electctl.faults import library
from electctl.lab.cluster import Cluster, make_cluster

T = TypeVar("T")
#: Of an election in a drill, in seconds: short, with room for the machine's own delays.
TTL = 3.0
#: How often a round that is spoilt is played anew.
TRIES = 3
#: Seconds for a server to answer again after a round, before it is started anew.
MEND_LIMIT = 5.0
_TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Plan:
    """What one ``drill run`` plays. ``ttl`` in seconds."""

    #: The scheme whose servers are started, or the URL of a store that runs already.
    place: str
    fault: str
    seed: int
    ttl: float = TTL
    candidate: str = "electctl"
    #: Which one of its run.
    round: int = 1
    #: Where each round's record is kept; None for nowhere.
    keep: Path | None = None
    programs: Programs = field(default_factory=Programs)

    def command(self) -> str:
        """What repeats it."""
        place = BackendURL.parse(self.place).masked() if self.given else self.place
        words = ["electctl drill run", place, "--fault", self.fault]
        words += ["--seed", str(self.seed), "--ttl", f"{self.ttl:g}s"]
        if self.candidate != "electctl":
            words += ["--candidate", self.candidate]
        return " ".join(words)

    @property
    def given(self) -> bool:
        """Whether it is played on a store that runs already."""
        return ":" in self.place

    @property
    def scheme(self) -> str:
        """Of the store."""
        return self.place.partition(":")[0]


@contextmanager
def home() -> Iterator[Path]:
    """A directory for everything, removed again."""
    with tempfile.TemporaryDirectory(prefix="electctl-drill-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def lab(plan: Plan, at: Path) -> Cluster:
    """The servers of a scheme, as many as it takes to lose one, not started; or those given.

    Raises UsageError, Unsupported.
    """
    if plan.given:
        return Given(at, plan.place)
    return make_cluster(plan.scheme, at, catalogue.nodes_of(plan.scheme), breakable=True)


def run(
    plans: Sequence[Plan],
    stop: threading.Event,
    tell: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> None:
    """Play rounds on one scheme, one after the other, in a lab of their own. Raises Stopped."""
    for plan in plans:
        check(plan)
    if not plans[0].given:
        say(f"starting {plans[0].scheme}")
    with home() as at, lab(plans[0], at / "lab") as cluster:
        for plan in plans:
            tell(one_round(cluster, plan, at / str(plan.round), stop))
            mend(cluster)


def check(plan: Plan) -> None:
    """Raise UsageError or Unsupported for what cannot be played."""
    tool_of(plan)
    reason = library.find(plan.fault).needs(lab(plan, Path("/nonexistent")))
    if reason is not None and plan.given:
        raise UsageError(
            f"{plan.fault} is done to servers, and those are not the drill's to break",
            hint=f"electctl drill run {plan.scheme} --fault {plan.fault} starts some of its own",
        )
    if reason is not None:
        raise Unsupported(
            f"{plan.fault} cannot be done to {plan.scheme}: {reason}",
            hint=f"electctl drill list {plan.scheme} names what can",
        )


def one_round(cluster: Cluster, plan: Plan, at: Path, stop: threading.Event) -> dict[str, Any]:
    """Play one round, anew if it is spoilt: its result. Raises Stopped, Inconclusive."""
    traits = registry.plugin(plan.scheme).traits_of(plan.scheme)
    promise = promise_of(plan, traits)
    setting = Setting(
        library.find(plan.fault),
        traits.scheme,
        promise.bound / 1e9,
        plan.ttl,
        plan.seed,
        tool_of(plan),
        plan.programs,
    )
    for attempt in range(TRIES):
        place = at / str(attempt)
        try:
            evidence = play(cluster, setting, place, stop)
            break
        except Spoilt as spoilt:
            mend(cluster)
            if attempt == TRIES - 1:
                raise Inconclusive(
                    f"no round of {plan.fault} on {plan.scheme}: {spoilt}",
                    hint="is the machine busy?",
                ) from spoilt
    if isinstance(cluster, Given):
        cluster.forget(evidence.election)
    if plan.keep is not None:
        keep(place, plan.keep)
    played = result.Played(
        scheme=plan.scheme,
        nodes=None if plan.given else cluster.nodes,
        candidate=plan.candidate,
        fault=setting.fault.name,
        seed=plan.seed,
        round=plan.round,
        ttl=plan.ttl,
        command=plan.command(),
        server=cluster.version(),
        client=result.client_version(registry.plugin(plan.scheme).requires),
    )
    return result.as_dict(played, evidence, judge(evidence, promise))


def _native(plan: Plan) -> Callable[[Native], NativeRun] | None:
    """What starts a native tool; None for electctl. Raises UsageError, with what there is."""
    if plan.candidate == "electctl":
        return None
    plugin = registry.plugin(plan.scheme)
    spec = plugin.natives.get(plan.candidate)
    if spec is None:
        known = ", ".join(["electctl", *plugin.natives])
        raise UsageError(
            f"{plan.candidate} is no candidate on {plan.scheme}", hint=f"there: {known}"
        )
    made: Callable[[Native], NativeRun] = registry.load_part(plugin, spec)
    return made


def tool_of(plan: Plan) -> Tool:
    """What campaigns. Raises UsageError for what does not, on this scheme."""
    make = _native(plan)
    return electctl if make is None else native(make)


def promise_of(plan: Plan, traits: Traits) -> Promise:
    """What is promised to whoever campaigns with that tool. Raises UsageError."""
    make = _native(plan)
    if make is None:
        return Promise(traits.token != "none", traits.checkpoint, _bound(traits, plan.ttl))
    example = BackendURL.parse(plan.place if plan.given else f"{plan.scheme}://127.0.0.1:1")
    run = make(Native(example, "election", "a", plan.ttl, ("true",)))
    return Promise(run.token, False, _bound(traits, run.ttl or plan.ttl))


def _bound(traits: Traits, ttl: float) -> int:
    """The bound on fail-over, in nanoseconds."""
    return int(traits.failover_bound(traits.granted(ttl)) * 1e9)


def keep(place: Path, there: Path) -> None:
    """Keep what a round recorded. Raises UsageError if something is there already."""
    try:
        there.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{there} is there already", hint="name another directory") from None
    for file in (*place.glob("*.jsonl"), *place.glob("*.events")):
        shutil.copy(file, there)


def mend(cluster: Cluster) -> None:
    """Have the servers be one cluster again, whatever a round has left. Raises Unreachable."""
    try:
        for server in cluster.servers:
            if server.why_silent():
                server.wait_ready(MEND_LIMIT)
        cluster.settle()
    except Unreachable:
        cluster.stop()
        cluster.start()


def in_order(work: Callable[[threading.Event], T], say: Callable[[str], None]) -> T:
    """Do ``work`` in a thread: Ctrl-C and SIGTERM end it in order, and interrupt no clean-up.

    ``work`` gets an event that is then set, and raises Stopped soon. Raises what ``work`` does, or
    KeyboardInterrupt, or SystemExit (143).
    """
    stop = threading.Event()
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work(stop))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failed.append(error)

    ends: list[BaseException] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not ends:
            interrupted = number == signal.SIGINT
            ends.append(KeyboardInterrupt() if interrupted else SystemExit(_TERMINATED))
            stop.set()
            say("stopping servers and candidates")

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=run, name="drill")
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if ends:
        raise ends[0]
    if failed:
        raise failed[0]
    return done[0]
