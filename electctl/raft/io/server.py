"""One node of a cluster as a process: sockets, clock and store around the sans-I/O replica.

What this does not guarantee: that a client or a peer is who it says, without TLS. Nor service
without a majority, nor anything at all if the store loses what it called durable: the node stops as
soon as it notices.

One thread does everything, in the order that :mod:`electctl.raft.pure.driver` says. Events that
wait are taken in turn, one of each connection.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from electctl.base.clock import now
from electctl.errors import ConfigError, ElectctlError, Unreachable
from electctl.raft.io.doorway import Doorway
from electctl.raft.io.guests import HELLO_TIMEOUT, MAX_CLIENTS, Guests, Say
from electctl.raft.io.peers import Peer, Stranger
from electctl.raft.io.sqlite import CANNOT_BE_REPAIRED, SqliteStorage
from electctl.raft.io.tls import Listening, Tls
from electctl.raft.pure.codec import Malformed
from electctl.raft.pure.commands import Stamp
from electctl.raft.pure.core import Raft
from electctl.raft.pure.driver import Action, Driver, Write
from electctl.raft.pure.errors import StoreDamaged
from electctl.raft.pure.messages import Stored
from electctl.raft.pure.replica import FromClient, Replica, ReplicaEvent, Tell
from electctl.raft.pure.requests import Request, Submit
from electctl.raft.pure.steps import Became, HandOver, Role, Send, Settings
from electctl.raft.pure.wire import NodeStatus, PeerHello, Welcome

STORE = "raft.db"
#: Seconds of work between two looks at the sockets.
_SHIFT = 0.005
_SETTINGS = Settings()
#: Files that a node may have open: more than the connections that it takes.
_FILES = 4096
#: Seconds between two notes of the time, while something is committed.
_STAMP_EVERY = 600.0
#: Seconds between two looks whether our socket and our store are still where they were.
_LOOK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node. ``peers`` are the other voters, by number; times in seconds.

    ``listen`` is for peers and clients, ``socket`` for clients on this machine. With ``idle`` a
    node of its own ends when nobody has needed it for so long.
    """

    number: int
    data: Path
    listen: tuple[str, int] | None = None
    socket: Path | None = None
    peers: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    election_timeout: float = 0.5
    idle: float | None = None
    tls: Tls | None = None

    @property
    def voters(self) -> tuple[int, ...]:
        """The numbers of all nodes."""
        return tuple(sorted({self.number, *self.peers}))


class Node:
    """Build it, which opens the store; then :meth:`run`. ``say`` takes each event worth a line.

    Raises StoreDamaged (store), ConfigError (data directory).
    """

    def __init__(self, config: NodeConfig, say: Say) -> None:
        self._config = config
        self._say = say
        tick_ms = max(1, round(config.election_timeout * 1000 / _SETTINGS.election_ticks))
        self._store = _open_store(config)
        try:
            self._replica = _revive(config, self._store.load(), tick_ms)
            self._driver = Driver(self._replica, tick_ms / 1000)
        except BaseException:
            self._store.close()
            raise
        self._peers: dict[int, Peer] = {}
        welcome = Welcome(config.number, config.voters, self._store.name)
        self._guests = Guests(welcome, self._check_hello, lambda: self.status, self._wake, say)
        self._doorway = Doorway(config.socket) if config.socket else None
        self._local: asyncio.Server | None = None
        self._lost_doorway = False
        self._tls: Listening | None = None
        self._awake = False
        #: Why we are to stop, once another leads.
        self._stopping: str | None = None
        self._busy_at = now()

    @property
    def status(self) -> NodeStatus:
        """How it is; the id is 0."""
        replica = self._replica
        raft = replica.raft
        return NodeStatus(
            0,
            raft.me,
            self._config.voters,
            raft.role.value,
            raft.term,
            raft.leader,
            replica.ready,
            raft.commit,
            replica.applied,
            raft.log.last_index,
            raft.log.snapshot.index,
            len(replica.table.sessions),
            len(replica.table.elections),
            tuple(number for number, peer in self._peers.items() if peer.reached),
        )

    async def run(self, serving: Callable[[], object] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, or until idle. ``serving`` is called once it does.

        Raises Unreachable (an address is taken), ConfigError (TLS files, socket), StoreDamaged,
        Unsound.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._done: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(self._unexpected)
        _allow_files()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop, f"{number.name} came")
        loop.add_signal_handler(signal.SIGHUP, self._look_again)
        servers: list[asyncio.Server] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._listen(servers)
            self._say("started", self._greeting(), False)
            tasks = [loop.create_task(peer.run()) for peer in self._dial()]
            for task in tasks:
                task.add_done_callback(self._ended)
            self._do(lambda: self._driver.begin(now()))
            if not self._done.done():
                self._busy_at = now()
                serving()
            self._next_stamp = now()
            self._tick()
            tasks.append(loop.create_task(self._keep_places()))
            tasks[-1].add_done_callback(self._ended)
            why = await self._done
            self._say("stopped", f"stopped: {why}", False)
        finally:
            for server in servers:
                server.close()
            for task in tasks:
                task.cancel()
            for peer in self._peers.values():
                peer.end()
            self._guests.close()
            if self._local is not None:
                self._local.close()
            if self._doorway is not None:
                # Before the store is given free: after that it may be the next server's.
                self._doorway.remove()
            self._store.close()

    # Start and end --------------------------------------------------------------------------------

    async def _listen(self, servers: list[asyncio.Server]) -> None:
        config = self._config
        if config.listen is not None:
            host, port = config.listen
            if config.tls is not None:
                self._tls = config.tls.listening(self._certificates)
            tls = self._tls
            try:
                server = await self._loop.create_server(
                    self._guests.accept,
                    host,
                    port,
                    backlog=MAX_CLIENTS,
                    ssl=tls.context if tls else None,
                    ssl_handshake_timeout=HELLO_TIMEOUT if tls else None,
                )
                servers.append(server)
            except OSError as error:
                cause = error.strerror or str(error)
                raise Unreachable(
                    f"cannot listen on {host}:{port}: {cause}",
                    hint="does another program listen there, is the address of this machine?",
                ) from None
        if self._doorway is not None:
            self._local = await self._open(self._doorway)

    async def _open(self, doorway: Doorway) -> asyncio.Server:
        return await self._loop.create_unix_server(
            self._guests.accept, sock=doorway.bind(), backlog=MAX_CLIENTS
        )

    async def _keep_places(self) -> None:
        """Make our socket again if somebody removes it; stop if our store is taken from its place.

        Who looks for us would otherwise not find us, and whoever starts a node there would begin
        another store beside ours.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if not self._store.is_there():
                raise StoreDamaged(
                    f"{self._config.data / STORE} was removed or replaced while we used it",
                    hint=CANNOT_BE_REPAIRED,
                )
            if self._doorway is not None and not self._doorway.is_there():
                await self._mend(self._doorway)

    async def _mend(self, doorway: Doorway) -> None:
        try:
            opened = await self._open(doorway)
        except ElectctlError as error:
            if not self._lost_doorway:
                self._say("socket", f"our socket is gone: {error.message}", False)
            self._lost_doorway = True
            return
        self._lost_doorway = False
        if self._local is not None:
            self._local.close()
        self._local = opened
        self._say("socket", f"{doorway.path} had been removed, and was made again", False)

    def _dial(self) -> list[Peer]:
        config = self._config
        tls = config.tls.calling() if config.tls else None
        for number, address in config.peers.items():
            hello = PeerHello(config.number, number, config.voters, self._store.name)
            self._peers[number] = Peer(hello, address, tls, self._check_welcome, self._say)
        return list(self._peers.values())

    def _look_again(self) -> None:
        """SIGHUP. Only certificates can change; each new connection looks for them by itself."""
        if self._tls is not None:
            self._tls.look()

    def _certificates(self, error: ConfigError | None) -> None:
        if error is None:
            self._say("certificates", "new certificates are in use", False)
        else:
            self._say("certificates", f"keeps its certificates: {error.message}", False)

    def _greeting(self) -> str:
        config = self._config
        places = [f"{config.listen[0]}:{config.listen[1]}"] if config.listen else []
        places += [str(config.socket)] if config.socket else []
        others = f" with {', '.join(map(str, sorted(config.peers)))}" if config.peers else ""
        return f"node {config.number}{others} listens on {' and '.join(places)}"

    def _stop(self, why: str) -> None:
        if not self._done.done():
            self._done.set_result(why)

    def _told_to_stop(self, why: str) -> None:
        """Not before another leads, if we do, so that nobody has to wait for a time-out."""
        first, self._stopping = self._stopping is None, why
        if first and self._config.peers and self._replica.raft.role is Role.LEADER:
            self._turn((HandOver(),))
            self._loop.call_later(self._config.election_timeout, self._stop, why)
        else:
            self._stop(why)
        self._leave_to_the_next()

    def _leave_to_the_next(self) -> None:
        raft = self._replica.raft
        if self._stopping is not None and raft.leader not in (None, raft.me):
            self._stop(self._stopping)

    def _fail(self, error: BaseException) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would print. A failed connection is no matter; anything else ends us."""
        error = context.get("exception")
        if "transport" in context or "socket" in context or error is None:
            self._say("connection_failed", f"{context['message']}: {error}", True)
        else:
            self._fail(error)

    # Time -----------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if now() >= self._driver.wake_at:
            self._turn(())
            if now() >= self._next_stamp:
                self._next_stamp = now() + _STAMP_EVERY
                self._stamp()
            self._leave_when_idle()
        if not self._done.done():
            self._loop.call_later(max(0.0, self._driver.wake_at - now()), self._tick)

    def _leave_when_idle(self) -> None:
        if self._guests.present or self._replica.table.sessions:
            self._busy_at = now()
        elif self._config.idle is not None and now() - self._busy_at >= self._config.idle:
            self._stamp()
            self._stop(f"idle for {self._config.idle:g} s")

    def _stamp(self) -> None:
        """Note the time, if something was committed since it was noted last."""
        replica = self._replica
        if replica.ready and replica.applied > replica.table.times.covered:
            request = Request(0, Submit(Stamp(int(time.time()))))
            self._turn([FromClient("", request)])  # nobody is called so: the answer is dropped

    # Events and instructions ----------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._shift)

    def _shift(self) -> None:
        """Take in what waits, for a while, and carry out what follows from it."""
        self._awake = False
        self._turn(self._events(now() + _SHIFT))
        self._leave_to_the_next()
        if self._guests.waiting:
            self._wake()

    def _events(self, end: float) -> Iterator[ReplicaEvent]:
        while self._guests.waiting and now() < end:
            event = self._guests.event()
            if event is not None:
                yield event

    def _turn(self, events: Iterable[ReplicaEvent]) -> None:
        self._do(lambda: self._driver.turn(events, now()))

    def _do(self, decide: Callable[[], list[Action]]) -> None:
        """Carry out what it decides, in order, unless we stop."""
        if self._done.done():
            return
        try:
            for item in decide():
                match item:
                    case Write(persists=persists):
                        self._store.write(*persists)
                    case Send(to=to, message=message):
                        self._peers[to].send(message)
                    case Tell(client=client, message=told):
                        self._guests.tell(client, told)
                    case Became():
                        self._became(item)
        except ElectctlError as error:
            self._fail(error)

    def _became(self, change: Became) -> None:
        match change:
            case Became(role=Role.LEADER, term=term):
                self._say("leader", f"leads in term {term}", False)
            case Became(leader=None, role=role, term=term):
                self._say(role.value, f"{role.value} in term {term}, without a leader", True)
            case Became(leader=leader, term=term):
                self._say("follower", f"follows node {leader} in term {term}", False)

    # Who is who -----------------------------------------------------------------------------------

    def _check_hello(self, hello: PeerHello) -> None:
        mine = self._config
        if hello.to != mine.number:
            raise Stranger(f"it looks for node {hello.to}; this is node {mine.number}")
        self._check(hello.number, hello.voters, hello.store)

    def _check_welcome(self, number: int, welcome: Welcome) -> None:
        if welcome.number != number:
            raise Stranger(f"it is node {welcome.number}")
        self._check(number, welcome.voters, welcome.store)
        if self._store.peer_store(number) is None:
            # Only from here: at the address that was configured for it, not from whoever calls.
            self._store.learn_peer_store(number, welcome.store)

    def _check(self, number: int, voters: tuple[int, ...], store: str) -> None:
        """Raises Stranger if that is not node ``number`` of our cluster, with the store it had."""
        mine = self._config
        if voters != mine.voters:
            raise Stranger(f"its voters are {_listed(voters)}, ours {_listed(mine.voters)}")
        if number not in mine.peers:
            raise Stranger(f"we are node {number} ourselves")
        if self._store.peer_store(number) not in (None, store):
            raise Stranger(
                f"node {number} has not the store that it had: it may have forgotten a vote"
            )


def _allow_files() -> None:
    """So that no number of connections takes the store's own files from it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _open_store(config: NodeConfig) -> SqliteStorage:
    folder = config.data
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / STORE).exists() and any(
            not path.name.startswith(f"{STORE}.new") for path in folder.iterdir()
        ):
            raise ConfigError(
                f"{folder} is not empty and holds no {STORE}",
                hint="a new node takes an empty directory; if the file was lost, so is the node",
            )
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"data directory {folder} cannot be used: {error.strerror}",
            hint="it must be a directory of ours, for this node alone",
        ) from None
    return SqliteStorage(folder / STORE, config.number, frozenset(config.voters))


def _revive(config: NodeConfig, stored: Stored, tick_ms: int) -> Replica:
    draw = random.SystemRandom().randrange
    try:
        raft = Raft(config.number, frozenset(config.voters), stored, _SETTINGS, draw)
        return Replica(raft, tick_ms)
    except (Malformed, StoreDamaged) as error:
        raise StoreDamaged(
            f"{config.data / STORE} is damaged: {error.message}", hint=CANNOT_BE_REPAIRED
        ) from None
