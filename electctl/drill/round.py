"""One round: candidates, a ledger, an observer, a fault; and what was recorded of it.

What this does not guarantee: that the machine kept up. Where a candidate gave up before the fault,
the round is :class:`Spoilt`, and played again.
"""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from electctl.base.clock import now, now_ns
from electctl.drill import history, written
from electctl.drill.entrants import Entrant, Entry, Programs, Tool, electctl
from electctl.drill.evidence import Evidence, Injection, Mark, MarkKind, Span
from electctl.drill.observer import Observer, spans_of
from electctl.errors import Unreachable
from electctl.faults import library
from electctl.faults.fault import Fault, NotInjected, Scene
from electctl.lab.cluster import Cluster
from electctl.lab.proxy import Proxy

NAMES = ("a", "b", "c")
#: Seconds until a candidate leads, or is seen to wait.
LEAD_LIMIT = 30.0
WAIT_LIMIT = 10.0
#: Seconds beyond the bound on fail-over for which a successor is waited for.
PATIENCE = 3.0
#: Seconds for which a fault goes on after a successor has acted: does the first one act beside it?
BESIDE = 0.5
#: Seconds that are watched after the fault was undone, and for which a command must have acted.
AFTER = 1.2
RECENT_NS = 300_000_000
#: Seconds that candidates may take to end.
END_LIMIT = 10.0
_POLL = 0.01


class Spoilt(Exception):
    """No round: a candidate gave up before the fault, as on a starved machine."""


class Stopped(Exception):
    """The user wants no more."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is played. Times in seconds; ``bound`` is that on fail-over."""

    fault: Fault
    scheme: str
    bound: float
    ttl: float
    seed: int
    tool: Tool = electctl
    programs: Programs = field(default_factory=Programs)

    @property
    def rng(self) -> random.Random:
        """Decides what can be decided: the order of candidates, the moment of the fault."""
        return random.Random(self.seed)


def play(cluster: Cluster, setting: Setting, home: Path, stop: threading.Event) -> Evidence:
    """Play one round on a cluster that runs; its files are left in ``home``.

    Raises Spoilt; Stopped once ``stop`` is set. Whatever happens, nothing of it goes on running.
    """
    with ExitStack() as stack:
        return _Round(cluster, setting, home, stop, stack).play()


class _Round:
    """A round that is being played; ``stack`` ends what it started."""

    def __init__(
        self,
        cluster: Cluster,
        setting: Setting,
        home: Path,
        stop: threading.Event,
        stack: ExitStack,
    ) -> None:
        self.cluster = cluster
        self.setting = setting
        self.home = home
        self.stop = stop
        self.stack = stack
        self.election = f"drill-{secrets.token_hex(4)}"
        self.rng = setting.rng
        self.names = self.rng.sample(NAMES, len(NAMES))
        self.began = now_ns()
        self.log = written.Log(home / "ledger")
        self.entrants: list[Entrant] = []
        self.marks: list[Mark] = []
        self.not_injected = False

    def play(self) -> Evidence:
        home = self.home
        home.mkdir(parents=True, exist_ok=True)
        self._start_ledger()
        try:
            self.stack.enter_context(self.setting.fault.before(self.cluster))
            links, others = self._links()
        except NotInjected as error:
            self.not_injected = True
            return self._evidence(None, str(error), now_ns(), ())
        observer = Observer(self.cluster.url, self.election, home / "store.jsonl")
        self.stack.callback(observer.close)
        near = [link.address for link in links.values()]
        leader = self._start(self.names[0], near, LEAD_LIMIT)
        if leader is None:
            return self._evidence(None, self._silence(self.names[0]), now_ns(), ())
        self._start(self.names[1], others, 0.0)
        self._await_waiting(observer)
        door = self._start_newcomer(others)
        self._await_moment(leader)
        if any(entrant.ended for entrant in self.entrants):
            raise Spoilt(self._silence(next(e.name for e in self.entrants if e.ended)))
        injection, trouble = self._break(leader, links, door)
        self._settle(leader)
        if injection is not None and self._lost_before(injection.since):
            raise Spoilt(f"{leader.name} had lost its leadership before the fault")
        ended = now_ns()
        handover = self._hand_over()
        self._end()
        read = observer.finish()
        if read is not None:
            self.log.reads.append(read)
        return self._evidence(
            injection, trouble, ended, spans_of(observer.changes, ended), handover
        )

    # Before the fault ----------------------------------------------------------------------------

    def _start_ledger(self) -> None:
        (self.home / "ledger").touch()
        process = subprocess.Popen(
            [*self.setting.programs.ledger, str(self._socket), str(self.home / "ledger")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.stack.enter_context(process)
        assert process.stdout is not None
        if not process.stdout.read(1):
            raise Spoilt("the ledger did not start")

    @property
    def _socket(self) -> Path:
        return self.home / "s"

    def _links(self) -> tuple[dict[int, Proxy], list[tuple[str, int]]]:
        """The leader's own ways to the store, and where the others reach it."""
        entrances = self.cluster.entrances
        try:
            ours, theirs = library.entrances(self.setting.fault, self.cluster)
        except (LookupError, Unreachable) as error:
            raise NotInjected(f"nobody leads the store: {error}") from error
        links = {place: self.stack.enter_context(Proxy(entrances[place].address)) for place in ours}
        return links, [entrances[place].address for place in theirs]

    def _start(
        self, name: str, addresses: Sequence[tuple[str, int]], limit: float
    ) -> Entrant | None:
        """Start a candidate; None if its command does not act within ``limit`` seconds."""
        url = self.cluster.url_for(addresses)
        source = str(Path(written.__file__).parents[2])
        command = (*self.setting.programs.writer, str(self._socket), source, name)
        events = self.home / f"{name}.events"
        entry = Entry(self.election, name, url, self.setting.ttl, self.home / name, command, events)
        entrant = Entrant(entry, self.setting.tool, self.setting.programs)
        self.entrants.append(entrant)
        self.stack.callback(entrant.kill)
        if limit:
            self._until(lambda: self._acts(entrant) or entrant.ended, limit)
        return entrant if not limit or self._acts(entrant) else None

    def _start_newcomer(self, addresses: Sequence[tuple[str, int]]) -> list[Proxy]:
        """Start one who comes when the fault has been done, and has not seen the leader: its way
        to the store, to be opened then. One who waits may trust what it saw for a while.
        """
        links = [self.stack.enter_context(Proxy(address)) for address in addresses]
        if self.cluster.proxyable:
            for link in links:
                link.hold()
        self._start(self.names[2], [link.address for link in links], 0.0)
        if self.cluster.proxyable:
            newcomer = self.entrants[-1]
            self._until(
                lambda: any(link.counters.accepted for link in links) or newcomer.ended, WAIT_LIMIT
            )
            # It has loaded all that it needs, and does not give up meanwhile.
            newcomer.send(signal.SIGSTOP, newcomer.tree())
        return links

    def _acts(self, entrant: Entrant) -> bool:
        return self.log.acted(entrant.name) is not None

    def _await_waiting(self, observer: Observer) -> None:
        """Until the store shows that the second waits; not all stores show that."""

        def waits() -> bool:
            return observer.view is not None and len(observer.view.waiting) > 0

        self._until(lambda: waits() or any(each.ended for each in self.entrants), WAIT_LIMIT)

    def _await_moment(self, leader: Entrant) -> None:
        """Until soon after a renewal: what happens to the grant the leader learns at the next one.

        Of a tool that does not tell of its renewals: any moment between two.
        """
        ttl = self.setting.ttl
        if self.setting.tool is electctl:
            seen = written.renewals(leader.events)
            self._until(lambda: written.renewals(leader.events) > seen or leader.ended, ttl)
            self._until(lambda: False, self.rng.random() * ttl / 30)
        else:
            self._until(lambda: False, self.rng.random() * ttl / 3)

    def _silence(self, name: str) -> str:
        said = next((entrant.said() for entrant in self.entrants if entrant.name == name), "")
        return f"{name} never led, or gave up before the fault" + (f": {said}" if said else "")

    # The fault -----------------------------------------------------------------------------------

    def _break(
        self, leader: Entrant, links: dict[int, Proxy], door: Sequence[Proxy]
    ) -> tuple[Injection | None, str]:
        fault = self.setting.fault
        leader.tree()
        scene = Scene(leader, self.cluster, links, self.election, self.setting.ttl)
        try:
            with fault.inject(scene) as injected:
                since = int(injected.at * 1e9)
                for link in door:
                    link.forward()
                self.entrants[-1].resume()
                self._mark(since, "fault", f"{fault.name}: {injected.confirmed}")
                if fault.hold is None:
                    self._until(lambda: self._succeeded(since), self._patience)
                    self._until(lambda: False, BESIDE)
                else:
                    self._until(lambda: False, fault.hold * self.setting.ttl)
            until = now_ns()
        except NotInjected as error:
            if leader.ended:
                raise Spoilt(f"{leader.name} had ended before the fault: {error}") from error
            self.not_injected = True
            return None, str(error)
        self._mark(until, "undone", f"{fault.name} is over")
        return Injection(since, until, injected.target, injected.confirmed), ""

    @property
    def _patience(self) -> float:
        return self.setting.bound + PATIENCE

    def _mark(self, at: int, kind: MarkKind, text: str) -> None:
        self.marks.append(Mark(at, "", kind, text))

    def _succeeded(self, since: int) -> bool:
        leader = self.entrants[0].name
        return any(
            act.at > since and act.term.candidate != leader for act in reversed(self.log.acts)
        )

    def _lost_before(self, since: int) -> bool:
        """Whether the leader had given up, or another one acted, before that."""
        leader = self.entrants[0]
        events = written.entries(leader.events)
        ends = [span.until for span in written.beliefs(events, {}, now_ns())]
        return any(until is not None and until < since for until in ends) or any(
            act.at < since and act.term.candidate != leader.name for act in self.log.acts
        )

    def _settle(self, leader: Entrant) -> None:
        """Watch on, until somebody acts and the first has either gone on or ended."""
        self._until(lambda: False, AFTER)

        def calm() -> bool:
            at = now_ns()
            return any(self._acts_at(each, at) for each in self.entrants) and (
                leader.ended or self._acts_at(leader, at)
            )

        self._until(calm, self._patience)

    def _acts_at(self, entrant: Entrant, at: int) -> bool:
        acts = (act.at for act in reversed(self.log.acts) if act.term.candidate == entrant.name)
        return at - next(acts, 0) < RECENT_NS

    # Afterwards ----------------------------------------------------------------------------------

    def _hand_over(self) -> int | None:
        """Ask the one who leads to end; nanoseconds until the next one acts, None if none does."""
        alive = [entrant for entrant in self.entrants if not entrant.ended]
        leaders = [entrant for entrant in alive if self._acts_at(entrant, now_ns())]
        if len(leaders) != 1 or len(alive) == 1:
            return None
        (leader,) = leaders
        at = now_ns()
        leader.terminate()

        def next_act() -> int | None:
            acts = (a.at for a in self.log.acts if a.term.candidate != leader.name and a.at > at)
            return next(acts, None)

        self._until(lambda: next_act() is not None, self._patience)
        first = next_act()
        return None if first is None else first - at

    def _end(self) -> None:
        """All candidates end in order, so that their events say so."""
        for entrant in self.entrants:
            entrant.resume()
            entrant.terminate()
        self._until(lambda: all(e.gone_at is not None for e in self.entrants), END_LIMIT)
        for entrant in self.entrants:
            entrant.kill()
        self.log.read_on()

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether ``condition`` came true in time. Raises Stopped."""
        deadline = now() + seconds
        while True:
            if self.stop.is_set():
                raise Stopped
            self.log.read_on()
            for entrant in self.entrants:
                entrant.look()
            if condition():
                return True
            if now() >= deadline:
                return False
            time.sleep(_POLL)

    def _evidence(
        self,
        injection: Injection | None,
        trouble: str,
        ended: int,
        store: tuple[Span, ...],
        handover: int | None = None,
    ) -> Evidence:
        events = [entry for e in self.entrants for entry in written.entries(e.events)]
        gone = {e.name: e.ended_at for e in self.entrants if e.ended_at is not None}
        evidence = Evidence(
            began=self.began,
            ended=ended,
            election=self.election,
            leader=self.names[0],
            injection=injection,
            trouble=trouble,
            not_injected=self.not_injected,
            store=store if events else written.named(store, self.log.acts),
            belief=written.beliefs(events, gone, ended)
            if events
            else written.by_acts(self.log.acts, ended),
            acts=tuple(act for act in self.log.acts if act.at <= ended),
            sets=tuple(each for each in self.log.sets if each.began <= ended),
            reads=tuple(self.log.reads),
            marks=tuple(mark for mark in (*written.marks(events), *self.marks) if mark.at <= ended),
            handover=handover,
        )
        scheme = self.setting.scheme
        told = history.lines(evidence, self.election, scheme, events, gone)
        history.write(self.home / "ledger.jsonl", told)
        return evidence
