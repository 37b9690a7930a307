"""The simulated world: one queue of what happens next, and all the parts in it.

What this does not do: judge. :class:`~electctl.simulate.invariants.Invariants` raises Violation
from inside; :func:`electctl.simulate.run.run` looks at the end.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from electctl.raft.client import Client
from electctl.raft.messages import Message
from electctl.raft.replica import FromClient
from electctl.raft.requests import Answer, Notice, Request
from electctl.raft.steps import Receive
from electctl.simulate.actor import Candidate, Reader
from electctl.simulate.invariants import Invariants, Violation
from electctl.simulate.network import Letter, Network
from electctl.simulate.plan import LENGTH, QUIET, Action, Fault, Plan
from electctl.simulate.server import Parts, Server

#: Some five times as many as any run needs: more is messages that beget messages.
MOST_EVENTS = 200_000


class World:
    """Builds everything from a plan; :meth:`run_until` lets time pass."""

    def __init__(
        self, plan: Plan, parts: Parts, client: type[Client], *, traced: bool = False
    ) -> None:
        self.now = 0.0
        self.plan = plan
        self.invariants = Invariants()
        self.trace: list[str] | None = [] if traced else None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        draw = random.Random(f"{plan.seed} world")
        self.network = Network(
            draw,
            self._deliver_later,
            delay=plan.delay,
            loss=plan.loss,
            double=plan.double,
            straggle=plan.straggle,
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
                sync=plan.sync,
                settings=plan.settings,
                compact_after=plan.compact_after,
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
            )
            for number, rate in enumerate(plan.client_rates)
        }
        self.reader = Reader(numbers, self)
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
            case "client-crash" | "client-pause" | "client-isolate":
                candidate = self._victim_client(fault)
                self.log(f"{fault.kind} {candidate.address} for {fault.duration:.2f} s")
                if fault.kind == "client-pause":
                    candidate.pause()
                    return candidate.resume
                if fault.kind == "client-isolate":
                    return self._cut_off(candidate)
                candidate.crash()
                return candidate.restart
            case "loss":
                return self._weather(fault, loss=0.3, slow=0)
            case "slow-network":
                return self._weather(fault, loss=0.0, slow=1)
            case "isolate" | "deaf" | "mute" | "one-way" | "split":
                return self._cut(fault)
        server = self._victim(fault)
        self.log(f"{fault.kind} of server {server.name} for {fault.duration:.2f} s")
        match fault.kind:
            case "crash":
                return self._crash(server)
            case "crash-in-sync":
                self._trap(server, fault)
                return lambda: None
            case "crash-after-vote":
                for voter in self.servers.values():
                    self._trap(voter, fault)
                return lambda: None
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
        if not server.alive:
            return lambda: None
        server.crash()

        def restart() -> None:
            self.log(f"server {server.name} starts")
            server.start()

        return restart

    def _trap(self, server: Server, fault: Fault) -> None:
        """Crash when the server next syncs, or has voted, which may be later than the fault."""

        def snap() -> None:
            self.log(f"server {server.name} crashes: {fault.kind}")
            if self.now < LENGTH - QUIET:
                # Back soon: what it forgot matters while the others still remember.
                self.after(min(fault.duration, 0.5) / 10, self._crash(server))

        if fault.kind == "crash-in-sync":
            server.in_sync = snap
        else:
            server.after_vote = snap

    def _late_ticks(self, server: Server) -> Callable[[], None]:
        server.ticks_late += 1

        def heal() -> None:
            server.ticks_late -= 1

        return heal

    def _wedge(self, server: Server, pick: int) -> Callable[[], None]:
        """Cut off with some clients, and late in noticing."""
        here, there = [server.name], [s.name for s in self.servers.values() if s is not server]
        for place, client in enumerate([*self.candidates, self.reader.address]):
            (there if pick >> place & 1 else here).append(client)
        links = [link for a in here for b in there for link in ((a, b), (b, a))]
        tick, unblock = self._late_ticks(server), self._block(links)

        def heal() -> None:
            tick()
            unblock()

        return heal

    def _cut_off(self, candidate: Candidate) -> Callable[[], None]:
        links = [
            link
            for server in self.servers.values()
            for link in ((candidate.name, server.name), (server.name, candidate.name))
        ]
        return self._block(links)

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

    def _links(self, fault: Fault) -> list[tuple[str, str]]:
        names = [server.name for server in self.servers.values()]
        clients = [*self.candidates, self.reader.address]
        if fault.kind == "split":
            machines = names + clients
            side = {machine: fault.pick >> place & 1 for place, machine in enumerate(machines)}
            return [(a, b) for a in machines for b in machines if side[a] != side[b]]
        victim = self._victim(fault).name
        # Half of the faults leave clients on both sides of the cut.
        others = [name for name in names + clients * (fault.pick & 1) if name != victim]
        inward = [(other, victim) for other in others]
        outward = [(victim, other) for other in others]
        match fault.kind:
            case "deaf":
                return inward
            case "mute":
                return outward
            case "one-way":
                return (inward + outward)[fault.pick % (2 * len(others) or 1) :][:1]
            case _:
                return inward + outward
