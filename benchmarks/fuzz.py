"""Random and mutated frames into the decoder, and into the ports of real nodes.

``python -m benchmarks.fuzz [--frames N] [--seed SEED]``: N frames into each. The decoder must call
a frame malformed, or give a message that survives the way to bytes and back; the nodes must go on
serving a client beside it, as the same processes, in memory that does not grow. The exit code is 1
if they do not.

What this does not measure: what a frame can do that is not malformed. Without TLS whoever reaches
the port may say anything, also that it is a node; such frames of nodes are left out here.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from electctl.base.clock import now
from electctl.errors import Unreachable
from electctl.lab.server import Server
from electctl.raft.io.status import ask_status
from electctl.raft.pure.codec import Decoder, Malformed
from electctl.raft.pure.commands import (
    ClientCommand,
    Close,
    Command,
    Done,
    Enter,
    Entered,
    Evict,
    Expire,
    Leave,
    Noop,
    Open,
    Save,
)
from electctl.raft.pure.leases import Checkpoint, Standing
from electctl.raft.pure.messages import (
    Append,
    AppendReply,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Install,
    Vote,
    VoteReply,
)
from electctl.raft.pure.requests import (
    Answer,
    Applied,
    CheckpointSeen,
    ElectionSeen,
    Follow,
    LookCheckpoint,
    LookElection,
    Notice,
    Renew,
    Renewed,
    Request,
    Retry,
    Submit,
)
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    FROM_CLIENT,
    FROM_PEER,
    HELLO,
    HELLO_LIMIT,
    PEER_LIMIT,
    REPLY_TO_HELLO,
    TO_CLIENT,
    ClientHello,
    Farewell,
    Framer,
    NodeStatus,
    PeerHello,
    StatusAsked,
    Welcome,
    frame,
)
from electctl_raft.lab import RaftCluster

# Session 1 is nobody's: the first entry of every log is a leader's. The witness keeps its own.
_SAVE = Save(1, 2, 4, "slot", b"value \0\xff", 7)
_COMMANDS: tuple[ClientCommand, ...] = (
    Open(1000),
    Enter(1, 1, "nightly", "wörker"),
    Leave(1, 9),
    _SAVE,
    Close(1, 10),
    Evict("e", 4, True),
)
_LOG: tuple[Command, ...] = (Noop(), *_COMMANDS, Expire(1))
_ENTRIES = tuple(Entry(number, 2, command) for number, command in enumerate(_LOG, 5))
_STATUS = NodeStatus(1, 1, (1, 2, 3), "leader", 4, 1, True, 9, 9, 9, 0, 2, 1, (2,))
_SEEN = ElectionSeen("wörker", 4, 3, 1000, 500, ("a", "b"))

SAMPLES: dict[Decoder, tuple[object, ...]] = {
    HELLO: (ClientHello("host_1é"), PeerHello(2, 1, (1, 2, 3), "ab" * 16)),
    REPLY_TO_HELLO: (Welcome(1, (1, 2, 3), "cd" * 16), Farewell("no")),
    FROM_CLIENT: (
        *(Request(n, Submit(command)) for n, command in enumerate(_COMMANDS, 1)),
        Request(8, Renew(1)),
        Request(9, LookElection("nightly")),
        Request(10, LookCheckpoint("nightly", "slot")),
        Request(11, Follow("nightly")),
        StatusAsked(12),
    ),
    TO_CLIENT: (
        Answer(1, Applied(Entered(None))),
        Answer(2, Applied(Done())),
        Answer(3, Renewed(Standing(True, 4, False, 0), False)),
        Answer(4, _SEEN),
        Answer(5, CheckpointSeen(Checkpoint(4, 7, b"\0"))),
        Answer(6, Retry(None)),
        Notice(3),
        _STATUS,
    ),
    FROM_PEER: (
        Vote(3, 9, 2, True),
        VoteReply(3, True, False),
        Append(3, 4, 2, _ENTRIES, 6),
        AppendReply(3, 9, True, 4, 2),
        Heartbeat(3, 9, 17),
        HeartbeatReply(3, 17),
        Install(3, 9, 2, b"table" * 20),
    ),
}
_FRAMES = {decoder: [frame(value) for value in values] for decoder, values in SAMPLES.items()}
#: What parsers trip over: edges of numbers, of texts, of structure.
_TIDBITS = [
    b"[", b"]", b'"', b",", b"-1", b"9" * 400, b"9223372036854775807", b"9223372036854775808",
    b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b"\\ud800", b"\\u0000", b"\xff", b"\0" * 8,
    b"[" * 2000, b'"Save"', b'"Request"', b"0.5",
]  # fmt: skip


class Mutator:
    """Frames from a seed: most of them near to a good one, some of them nothing of the kind."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def frame(self, decoder: Decoder) -> bytes:
        """One frame, or what looks like one. The length in front is right, but for one in six."""
        draw = self.draw
        if draw.random() < 0.1:
            return draw.randbytes(draw.randrange(1, 200))
        good = draw.choice(_FRAMES[decoder])
        body = bytearray(good[4:])
        for _ in range(draw.randrange(0, 4)):
            self._mutate(body)
        length = len(body)
        if draw.random() < 1 / 6:
            length = draw.choice((0, 1, length - 1, length + 1, 1 << 31, (1 << 32) - 1))
        return max(0, length).to_bytes(4, "big") + body

    def _mutate(self, body: bytearray) -> None:
        draw = self.draw
        at = draw.randrange(len(body)) if body else 0
        match draw.randrange(6):
            case 0 if body:
                body[at] ^= 1 << draw.randrange(8)
            case 1 if body:
                body[at] = draw.randrange(256)
            case 2:
                del body[at : at + draw.randrange(1, 9)]
            case 3:
                body[at:at] = draw.choice(_TIDBITS)
            case 4:
                body[at : at + draw.randrange(1, 9)] = draw.choice(_TIDBITS)
            case _:
                other = draw.randrange(len(body)) if body else 0
                body[at:at] = body[other : other + draw.randrange(1, 30)]


def decode(frames: int, seed: int) -> Counter[str]:
    """Frames into framer and decoder; how many were what. Raises what should not be raised."""
    mutator = Mutator(seed)
    counted: Counter[str] = Counter()
    decoders = list(SAMPLES)
    for number in range(frames):
        decoder = decoders[number % len(decoders)]
        framer = Framer(CLIENT_LIMIT, first=HELLO_LIMIT)
        try:
            for body in framer.feed(mutator.frame(decoder)):
                value = decoder.decode(body)
                (again,) = Framer(PEER_LIMIT).feed(frame(value))
                if decoder.decode(again) != value:
                    raise AssertionError(f"{body!r} became {again!r}")
                counted["messages"] += 1
        except Malformed:
            counted["malformed"] += 1
        else:
            counted["unfinished"] += framer.kept > 0
    return counted


# The port ----------------------------------------------------------------------------------------

#: Connections at a time, and frames that each is to carry.
_ABREAST = 8
_BURST = 6
_PATIENCE = 30.0


class Port:
    """Frames into nodes, over many connections; ``counted`` tells what became of them."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(seed)
        self.counted: Counter[str] = Counter()

    def throw(self, addresses: list[tuple[str, int]]) -> None:
        """One connection to each address, with a burst of frames; returns when all are closed."""
        with ExitStack() as stack:
            socks = []
            for address in addresses:
                sock = stack.enter_context(socket.create_connection(address, _PATIENCE))
                socks.append(sock)
                with suppress(ConnectionError):
                    sock.sendall(b"".join(self._burst()))
                    sock.shutdown(socket.SHUT_WR)
            for sock in socks:
                self._finish(sock)

    def _burst(self) -> Iterator[bytes]:
        draw = self._mutator.draw
        self.counted["connections"] += 1
        if draw.random() < 0.2:
            # Not even greeted.
            self.counted["frames"] += 1
            yield self._mutator.frame(HELLO)
            return
        yield frame(ClientHello(f"fuzz-{draw.randrange(20)}"))
        for _ in range(_BURST):
            self.counted["frames"] += 1
            yield self._mutator.frame(FROM_CLIENT)

    def _finish(self, sock: socket.socket) -> None:
        try:
            while sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            self.counted["reset"] += 1


def as_peer(port: Port, address: tuple[str, int]) -> None:
    """Frames of a node that are malformed, to a node that takes us for node 2."""
    mutator = port._mutator
    with socket.create_connection(address, _PATIENCE) as sock:
        sock.sendall(frame(PeerHello(2, 1, (1, 2, 3), "fuzz")))
        if not sock.recv(1 << 16):
            raise AssertionError("it does not take us for node 2")
        data = mutator.frame(FROM_PEER)
        while not _is_malformed(data):
            data = mutator.frame(FROM_PEER)
        port.counted["connections"] += 1
        port.counted["frames"] += 1
        port.counted["as a peer"] += 1
        with suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        port._finish(sock)


def _is_malformed(data: bytes) -> bool:
    framer = Framer(PEER_LIMIT)
    try:
        for body in framer.feed(data):
            FROM_PEER.decode(body)
    except Malformed:
        return True
    return framer.kept > 0


class Witness(threading.Thread):
    """A client beside it all, which leads an election and asks for its renewal again and again."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(name="witness")
        self._address = address
        self._over = threading.Event()
        self.answers = 0
        self.slowest = 0.0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with socket.create_connection(self._address, _PATIENCE) as sock:
                self._serve(sock)
        except (OSError, AssertionError, Malformed) as error:
            self.failure = error

    def _serve(self, sock: socket.socket) -> None:
        framer = Framer(CLIENT_LIMIT)
        sock.sendall(frame(ClientHello("witness")))
        number = 0

        def ask(request: Request) -> object:
            sock.sendall(frame(request))
            while True:
                for body in framer.feed(sock.recv(1 << 16)):
                    if b'"Answer"' in body:
                        answer = TO_CLIENT.decode(body)
                        assert answer.id == request.id
                        return answer.reply

        opened = ask(Request(1, Submit(Open(10_000))))
        assert isinstance(opened, Applied)
        session: int = opened.result.session  # type: ignore[union-attr]
        ask(Request(2, Submit(Enter(session, 1, "witnessed", "witness"))))
        number = 2
        while not self._over.wait(0.02):
            number += 1
            begun = now()
            reply = ask(Request(number, Renew(session)))
            assert isinstance(reply, Renewed), reply
            assert reply.standing is not None, "its session has ended"
            assert reply.standing.token is not None, "it leads no more"
            self.slowest = max(self.slowest, now() - begun)
            self.answers += 1

    def end(self) -> None:
        """Stop; raises what went wrong."""
        self._over.set()
        self.join()
        if self.failure is not None:
            raise AssertionError(f"the witness: {self.failure}") from self.failure


def resident(pid: int) -> float:
    """MiB in memory now (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def lone_voter(home: Path, cluster: RaftCluster) -> Server:
    """Node 1 of three, whose peers do not run: it takes frames of nodes."""
    argv = list(cluster.servers[0].argv)
    port = cluster.port("lone")
    argv[argv.index("--listen") + 1] = f"127.0.0.1:{port}"
    argv[argv.index("--data") + 1] = str(home / "lone" / "data")
    for number in (2, 3):
        argv += ["--peer", f"{number}=127.0.0.1:{cluster.port(f'nobody{number}')}"]

    def check(timeout: float) -> str:
        try:
            return "" if ask_status(("127.0.0.1", port), timeout).number == 1 else "another"
        except Unreachable as error:
            return error.message

    return Server("lone", argv, home=home / "lone", port=port, check=check)


def storm(frames: int, seed: int, home: Path, say: bool = True) -> tuple[Counter[str], list[float]]:
    """Frames into real nodes; what became of them, and the first node's MiB again and again.

    Raises AssertionError if a node does not go on serving.
    """
    port = Port(seed)
    with RaftCluster(home, 1) as cluster:
        node, lone = cluster.servers[0], lone_voter(home, cluster)
        try:
            lone.start()
            pids = node.pid, lone.pid
            assert node.pid is not None
            witness = Witness(node.address)
            witness.start()
            sizes = [resident(node.pid)]
            said = time.monotonic()
            while port.counted["frames"] < frames:
                for _ in range(25):
                    port.throw([node.address] * (_ABREAST - 1) + [lone.address])
                as_peer(port, lone.address)
                sizes.append(resident(node.pid))
                if say and time.monotonic() - said > 10:
                    said = time.monotonic()
                    print(f"{port.counted['frames']} frames, {sizes[-1]:.0f} MiB", flush=True)
            witness.end()
            assert (node.pid, lone.pid) == pids, "a node has ended"
            assert not node.why_silent(_PATIENCE)
            assert not lone.why_silent(_PATIENCE)
            sizes.append(resident(pids[1] or 0))
            port.counted["answers to the witness"] = witness.answers
            port.counted["slowest of them, ms"] = round(witness.slowest * 1000)
        finally:
            lone.stop()
    return port.counted, sizes


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    counted = decode(options.frames, options.seed)
    spent = time.monotonic() - begun
    print(f"decoder: {options.frames} frames in {spent:.0f} s: {dict(counted)}", flush=True)
    begun = time.monotonic()
    with TemporaryDirectory() as folder:
        thrown, sizes = storm(options.frames, options.seed, Path(folder))
    spent = time.monotonic() - begun
    *sizes, lone = sizes
    quarter = max(sizes[: max(1, len(sizes) // 4)])
    print(
        f"port: {thrown['frames']} frames in {spent:.0f} s: {dict(thrown)}; MiB of the node: "
        f"{sizes[0]:.0f} at first, at most {quarter:.0f} in the first quarter and "
        f"{max(sizes):.0f} in all, {sizes[-1]:.0f} in the end; of the other {lone:.0f}"
    )
    return 0 if max(sizes) < quarter + 20 else 1


if __name__ == "__main__":
    sys.exit(main())
