"""The simulated world: one queue of what happens next, and all the parts in it.

What this does not do: judge. :class:`~electctl.simulate.invariants.Invariants` raises Violation
from inside; :func:`electctl.simulate.run.run` looks at the end.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial

from electctl.raft.pure.client import Client
from electctl.raft.pure.messages import Message
from electctl.raft.pure.replica import FromClient
from electctl.raft.pure.requests import Answer, Notice, Request
from electctl.raft.pure.steps import HandOver, Receive
from electctl.simulate.actor import Candidate, Reader
from electctl.simulate.invariants import Invariants, Violation
from electctl.simulate.network import Letter, Network
from electctl.simulate.plan import LENGTH, QUIET, Action, Fault, Plan
from electctl.simulate.server import Moment, Parts, Server

#: Some five times as many as any run needs: more is messages that beget messages.
MOST_EVENTS = 200_000
HEARS_OF_A_CRASH = 0.8
#: Seconds before the end from which on nothing may upset the servers: the leader is found.
CALM = 8.0
#: Seconds before that in which the network loses nothing any more.
LULL = 2.0
#: Seconds in which every server has heard of what is committed, also with some messages lost.
NEWS = 5.0
#: Seconds that a server which is stopped waits for another to take over.
STOP = 0.5


class World:
    """Builds everything from a plan; :meth:`run_until` lets time pass."""

    def __init__(
        self, plan: Plan, parts: Parts, client: type[Client], *, traced: bool = False
    ) -> None:
        self.now = 0.0
        self.plan = plan
        self.invariants = Invariants(
            majority=plan.servers // 2 + 1, patience=3 * plan.settings.election_ticks
        )
        self.trace: list[str] | None = [] if traced else None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._draw = draw = random.Random(f"{plan.seed} world")
        self.network = Network(
            draw,
            self._deliver_later,
            delay=plan.delay,
            loss=plan.loss,
            double=plan.double,
            straggle=plan.straggle,
            latest=plan.latest,
            echo=plan.echo,
            seen=self.invariants.seen,
        )
        numbers = tuple(range(1, plan.servers + 1))
        self.servers = {
            number: Server(
                number,
                frozenset(numbers),
                self,
                parts,
                draw,
                rate=rate,
                tick=plan.tick,
                batch=plan.batch,
                sync=plan.sync,
                settings=plan.settings,
                compact_after=plan.compact_after,
                max_sessions=plan.max_sessions,
                max_bytes=plan.max_bytes,
            )
            for number, rate in zip(numbers, plan.server_rates, strict=True)
        }
        self.elections = [f"e{number}" for number in range(plan.elections)]
        self.candidates = {
            f"c{number}": Candidate(
                f"c{number}",
                self.elections[number % plan.elections],
                numbers,
                plan.ttl,
                rate,
                self,
                client,
                draw,
                stubborn=plan.stubborn,
            )
            for number, rate in enumerate(plan.client_rates)
        }
        self.reader = Reader(numbers, self)
        #: The term when calm begins, and what had been committed some time before the end.
        self.term_in_calm = 0
        self.committed_before_the_end = 0
        self.after(LENGTH - CALM - LULL, self.network.calm_down)
        self.after(LENGTH - CALM, self._calm)
        self.after(LENGTH - NEWS, self._nearly_over)
        self._server_names = list(map(str, numbers))
        self._client_names = [*self.candidates, self.reader.address]
        for election in self.elections:
            self.reader.follow(election)
        for name, lags in zip(self.candidates, plan.client_lags, strict=True):
            for way, seconds in enumerate(lags):
                for link in self._links_of(name, self._server_names, way) if seconds else ():
                    self.network.lag(*link, seconds)
        for fault in plan.faults:
            self.after(fault.at, lambda fault=fault: self._break(fault))  # type: ignore[misc]
        for action in plan.actions:
            self.after(action.at, lambda action=action: self._act(action))  # type: ignore[misc]

    @property
    def steps(self) -> int:
        """Steps of all cores so far."""
        return sum(server.steps for server in self.servers.values())

    def run_until(self, end: float) -> None:
        """Let everything happen up to that time. Raises Violation."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= end:
            if self._count > MOST_EVENTS:
                raise Violation("no storm", f"{self._count} events by {self.now:.3f} s")
            self.now, _, action = pop(queue)
            action()
        self.now = end

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call ``action`` after ``delay`` seconds."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, action))

    def log(self, text: str) -> None:
        """A line for the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {text}")

    def _calm(self) -> None:
        self.term_in_calm = max(server.replica.raft.term for server in self.servers.values())

    def _nearly_over(self) -> None:
        self.committed_before_the_end = self.invariants.committed

    # Messages ------------------------------------------------------------------------------------

    def send(
        self, sender: str, receiver: str, message: Message | Request | Answer | Notice
    ) -> None:
        """Put a message into the network."""
        if self.trace is not None:
            self.log(f"{sender} > {receiver}  {message}")
        self.network.send(Letter(sender, receiver, message))

    def _deliver_later(self, delay: float, letter: Letter) -> None:
        self.after(delay, lambda: self._deliver(letter))

    def _deliver(self, letter: Letter) -> None:
        sender, receiver, message = letter
        if self.trace is not None:
            self.log(f"{receiver} < {sender}  {message}")
        match message:
            case Answer() | Notice():
                client = self.candidates.get(receiver.partition(".")[0], self.reader)
                client.deliver(receiver, sender, message)
            case Request():
                self.servers[int(receiver)].deliver(FromClient(sender, message))
            case _:
                self.servers[int(receiver)].deliver(Receive(int(sender), message))

    # What the plan says --------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        election = self.elections[action.pick % len(self.elections)]
        match action.kind:
            case "save":
                for candidate in self.candidates.values():
                    candidate.save()
            case "release":
                for candidate in self.candidates.values():
                    if candidate.election == election:
                        candidate.release()
            case "leave":
                candidates = list(self.candidates.values())
                candidates[action.pick % len(candidates)].leave()
            case "look":
                self.reader.look(election)
            case "open":
                self.reader.open_sessions(1 + action.pick % 2)
            case "evict" | "evict-force":
                self.reader.evict(election, force=action.kind == "evict-force")

    def _break(self, fault: Fault) -> None:
        heal = self._broken(fault)
        self.after(fault.duration, heal)

    def _broken(self, fault: Fault) -> Callable[[], None]:
        """Break it; how to heal it."""
        match fault.kind:
            case "client-crash" | "client-pause" | "client-isolate" | "client-lag":
                candidate = self._victim_client(fault)
                self.log(f"{fault.kind} {candidate.address} for {fault.duration:.2f} s")
                if fault.kind == "client-pause":
                    candidate.pause()
                    return candidate.resume
                if fault.kind == "client-isolate":
                    return self._block(self._links_of(candidate.name, self._server_names, 2))
                if fault.kind == "client-lag":
                    return self._lag(
                        self._links_of(candidate.name, self._server_names, fault.pick % 3), fault
                    )
                candidate.crash()
                return candidate.restart
            case "loss":
                return self._weather(fault, loss=0.3, slow=0)
            case "slow-network":
                return self._weather(fault, loss=0.0, slow=1)
            case "isolate" | "deaf" | "mute" | "one-way" | "split":
                return self._cut(fault)
            case "stall":
                return self._stall(fault)
        server = self._victim(fault)
        self.log(f"{fault.kind} of server {server.name} for {fault.duration:.2f} s")
        match fault.kind:
            case "crash":
                return self._crash(server)
            case "hand-over":
                server.deliver(HandOver())
                return lambda: None
            case "planned-stop":
                server.deliver(HandOver())
                self.after(min(fault.duration / 2, STOP), partial(self._take_down, server))
                return server.start_again
            case "restart":
                self._take_down(server)
                self.after(0.01, server.start_again)
                return lambda: None
            case "crash-in-sync":
                self._trap(server, "sync", fault)
                return lambda: None
            case "crash-after-append":
                self._trap(server, "append", fault)
                return lambda: None
            case "crash-after-vote" | "crash-when-leading" | "cut-when-leading":
                for each in self.servers.values():
                    self._trap(each, "vote" if fault.kind == "crash-after-vote" else "lead", fault)
                return lambda: None
            case "lag":
                others = [name for name in self._server_names if name != server.name]
                return self._lag(self._links_of(server.name, others, fault.pick % 3), fault)
            case "late-ticks":
                return self._late_ticks(server)
            case "wedge":
                return self._wedge(server, fault.pick)
            case "pause":
                server.pause()
                return server.resume
            case "slow-disk":
                return self._slow_disk(server)

    def _victim(self, fault: Fault) -> Server:
        servers = list(self.servers.values())
        if fault.leader:
            leading = [server for server in servers if server.leads]
            if leading:
                return max(leading, key=lambda server: server.replica.raft.term)
        return servers[fault.pick % len(servers)]

    def _victim_client(self, fault: Fault) -> Candidate:
        candidates = list(self.candidates.values())
        if fault.leader:
            candidates = [c for c in candidates if c.leads] or candidates
        return candidates[fault.pick % len(candidates)]

    def _weather(self, fault: Fault, *, loss: float, slow: int) -> Callable[[], None]:
        self.log(f"{fault.kind} for {fault.duration:.2f} s")
        network = self.network
        network.loss += loss
        network.slow += slow

        def heal() -> None:
            network.loss -= loss
            network.slow -= slow

        return heal

    def _crash(self, server: Server) -> Callable[[], None]:
        self._take_down(server)
        return server.start_again

    def _take_down(self, server: Server) -> None:
        if not server.alive:
            return
        server.crash()
        # Who was connected may hear of it.
        clients: list[Candidate | Reader] = [*self.candidates.values(), self.reader]
        for client in clients:
            if self._draw.random() < HEARS_OF_A_CRASH:
                self.after(self.plan.delay, partial(client.lose_way, server.number))

    def _stall(self, fault: Fault) -> Callable[[], None]:
        """Nobody runs, as when the machine below them all hangs; then all notice at once."""
        self.log(f"stall of all servers for {fault.duration:.2f} s")
        for server in self.servers.values():
            server.pause()

        def heal() -> None:
            for server in self.servers.values():
                server.resume()

        return heal

    def _trap(self, server: Server, moment: Moment, fault: Fault) -> None:
        """Wait for the moment, which may be later than the fault."""

        def snap() -> None:
            left = LENGTH - QUIET - self.now
            if left <= 0:
                return
            self.log(f"server {server.name}: {fault.kind}")
            if fault.kind == "cut-when-leading":
                others = self._server_names + self._client_names * (fault.pick & 1)
                heal = self._block(self._links_of(server.name, others, 2))
                self.after(min(fault.duration, left), heal)
            else:
                # Back soon: what it forgot matters while the others still remember.
                self.after(min(fault.duration, 0.5) / 10, self._crash(server))

        server.traps[moment] = snap

    def _late_ticks(self, server: Server) -> Callable[[], None]:
        server.stop_clock()
        return server.start_clock

    def _wedge(self, server: Server, pick: int) -> Callable[[], None]:
        """Cut off with some clients, and late in noticing."""
        here, there = [server.name], [name for name in self._server_names if name != server.name]
        for place, client in enumerate(self._client_names):
            (there if pick >> place & 1 else here).append(client)
        links = [link for a in here for b in there for link in ((a, b), (b, a))]
        tick, unblock = self._late_ticks(server), self._block(links)

        def heal() -> None:
            tick()
            unblock()

        return heal

    def _slow_disk(self, server: Server) -> Callable[[], None]:
        server.slow += 1

        def heal() -> None:
            server.slow -= 1

        return heal

    def _cut(self, fault: Fault) -> Callable[[], None]:
        links = self._links(fault)
        self.log(
            f"{fault.kind} for {fault.duration:.2f} s: " + " ".join(f"{a}>{b}" for a, b in links)
        )
        return self._block(links)

    def _block(self, links: list[tuple[str, str]]) -> Callable[[], None]:
        for sender, receiver in links:
            self.network.block(sender, receiver)

        def heal() -> None:
            self.log("links are back")
            for sender, receiver in links:
                self.network.unblock(sender, receiver)

        return heal

    def _lag(self, links: list[tuple[str, str]], fault: Fault) -> Callable[[], None]:
        seconds = (0.2, 0.4, 0.7, 2.0)[fault.pick >> 4 & 3]
        self.log(f"{seconds} s longer: " + " ".join(f"{a}>{b}" for a, b in links))
        for sender, receiver in links:
            self.network.lag(sender, receiver, seconds)

        def heal() -> None:
            for sender, receiver in links:
                self.network.lag(sender, receiver, -seconds)

        return heal

    def _links_of(self, name: str, others: list[str], way: int) -> list[tuple[str, str]]:
        """The links in one direction (0: to it, 1: from it) or both (2)."""
        inward = [(other, name) for other in others if other != name]
        outward = [(name, other) for other in others if other != name]
        return (inward, outward, inward + outward)[way]

    def _links(self, fault: Fault) -> list[tuple[str, str]]:
        if fault.kind == "split":
            machines = self._server_names + self._client_names
            side = {machine: fault.pick >> place & 1 for place, machine in enumerate(machines)}
            return [(a, b) for a in machines for b in machines if side[a] != side[b]]
        victim = self._victim(fault).name
        # Half of the faults leave clients on both sides of the cut.
        others = self._server_names + self._client_names * (fault.pick & 1)
        match fault.kind:
            case "deaf":
                return self._links_of(victim, others, 0)
            case "mute":
                return self._links_of(victim, others, 1)
            case "one-way":
                links = self._links_of(victim, others, 2)
                return links[fault.pick % (len(links) or 1) :][:1]
            case _:
                return self._links_of(victim, others, 2)
