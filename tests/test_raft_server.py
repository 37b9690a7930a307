"""Nodes as processes: what they serve, what they refuse, what they remember.

What this does not show: elections under faults, which are simulated, and leases, which the
conformance suite looks at.
"""

from __future__ import annotations

import resource
import socket
import stat
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from electctl.base.clock import now
from electctl.core.elector import connect
from electctl.errors import Unreachable
from electctl.lab.ports import HeldPort
from electctl.lab.server import Server
from electctl.raft.io.guests import MAX_CLIENTS, MAX_STRANGERS
from electctl.raft.io.status import Address, ask_status
from electctl.raft.pure.commands import Done, Enter, Entered, Open, Opened, Save
from electctl.raft.pure.messages import Heartbeat, Vote, VoteReply
from electctl.raft.pure.requests import (
    Answer,
    CheckpointSeen,
    ElectionSeen,
    LookCheckpoint,
    LookElection,
    Request,
    Submit,
)
from electctl.raft.pure.wire import (
    CLIENT_LIMIT,
    HELLO_LIMIT,
    REPLY_TO_HELLO,
    VERSION,
    ClientHello,
    Farewell,
    NodeStatus,
    PeerHello,
    Welcome,
    frame,
)
from electctl_raft.lab import RaftCluster
from tests.processes import DEADLINE, wait_for
from tests.raft_talk import Talk


def body(data: bytes) -> bytes:
    return (len(data) + 1).to_bytes(4, "big") + bytes((VERSION,)) + data


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftCluster]:
    """One node, for tests that leave it as it was."""
    with RaftCluster(tmp_path_factory.mktemp("alone"), 1) as cluster:
        yield cluster


@pytest.fixture
def node(alone: RaftCluster) -> Server:
    return alone.servers[0]


def leads(talk: Talk, election: str) -> tuple[int, int]:
    """Session and token of a new leader."""
    opened = talk.submit(Open(60_000))
    assert isinstance(opened, Opened)
    entered = talk.submit(Enter(opened.session, 1, election, "worker"))
    assert isinstance(entered, Entered)
    assert entered.token is not None
    return opened.session, entered.token


def test_a_client_leads_and_saves(node: Server, election: str) -> None:
    with Talk(node.address) as talk:
        session, token = leads(talk, election)
        assert talk.submit(Save(session, 2, token, "s", b"\0value", 1)) == Done()
        found = talk.ask(LookCheckpoint(election, "s"))
    assert isinstance(found, CheckpointSeen)
    assert found.checkpoint is not None
    assert found.checkpoint.value == b"\0value"


BAD_GREETINGS = {
    "another version": (b"\0\0\0\7\x09bcdefg", "version 9 of the protocol; this is version 2"),
    "too long": ((HELLO_LIMIT + 1).to_bytes(4, "big") + b"\1", "65537 bytes where 1 to 65536"),
    "empty": (bytes(5), "a frame of 0 bytes"),
    "not JSON": (body(b"GET / HTTP/1.1"), "not JSON"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bytes where 1 to 65536"),
    "no greeting": (frame(Request(1, LookElection("a"))), "none of the messages"),
    "no name": (frame(ClientHello("")), "has 1 to 200 characters"),
    "long name": (frame(ClientHello("x" * 201)), "has 1 to 200 characters"),
    "other voters": (frame(PeerHello(2, 1, (1, 2), "s")), "its voters are 1, 2, ours 1"),
    "our number": (frame(PeerHello(1, 1, (1,), "s")), "we are node 1 ourselves"),
    "another's": (frame(PeerHello(2, 3, (1,), "s")), "it looks for node 3; this is node 1"),
}


def farewell(talk: Talk) -> str:
    """Why the node hangs up, which it must; "" if that was lost with the connection."""
    said = [REPLY_TO_HELLO.decode(found) for found in talk.ends()]
    assert all(isinstance(one, Farewell) for one in said), said
    return said[0].reason if said else ""


@pytest.mark.parametrize(("data", "cause"), BAD_GREETINGS.values(), ids=BAD_GREETINGS)
def test_who_greets_badly_is_told_why_and_hung_up_on(node: Server, data: bytes, cause: str) -> None:
    def told() -> str:
        with Talk(node.address, None) as talk:
            talk.sock.sendall(data)
            return farewell(talk)

    assert cause in wait_for(told)


def test_refusals_are_logged_but_not_each_of_a_thousand(node: Server) -> None:
    def lines() -> list[str]:
        for _ in range(20):
            with Talk(node.address, None) as talk:
                talk.sock.sendall(frame(ClientHello("")))
                farewell(talk)
        return [line for line in node.log.read_text().splitlines() if "1 to 200 char" in line]

    begun = now()
    (first, *_) = found = wait_for(lines)
    assert len(found) <= 2 + now() - begun
    assert "node 1: refused 127.0.0.1:" in first


BAD_REQUESTS = {
    "too long": (CLIENT_LIMIT + 1).to_bytes(4, "big") + b"\1",
    "not JSON": body(b"[1,"),
    "deep": body(b"[" * 100_000),
    "a peer's": frame(Vote(9, 9, 9, False)),
    "a leader's": body(b'["Request",1,["Submit",["Expire",1]]]'),
    "negative": body(b'["Request",1,["Renew",-1]]'),
    "surrogate": body(b'["Request",1,["LookElection","\\ud800"]]'),
}


@pytest.mark.parametrize("data", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_malformed_frame_ends_its_connection_and_nothing_else(
    node: Server, election: str, data: bytes
) -> None:
    with Talk(node.address, "good") as good, Talk(node.address, "bad") as bad:
        leads(good, election)
        bad.sock.sendall(data + frame(Request(7, LookElection(election))))
        farewell(bad)
        seen = good.ask(LookElection(election))
    assert isinstance(seen, ElectionSeen)
    assert seen.holder == "worker"


def test_who_does_not_greet_is_hung_up_on(node: Server) -> None:
    with Talk(node.address, None) as silent:
        assert farewell(silent) == "it does not greet"


@pytest.fixture
def many_files() -> Iterator[None]:
    """May we have a connection of each kind that a node takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_the_silent_do_not_keep_others_out(node: Server) -> None:
    with ExitStack() as stack:
        first, *_ = [
            stack.enter_context(Talk(node.address, None)) for _ in range(MAX_STRANGERS + 1)
        ]
        assert farewell(first) == "too many that say nothing"
        with Talk(node.address, "late") as talk:
            assert isinstance(talk.ask(LookElection("a")), ElectionSeen)


@pytest.mark.usefixtures("many_files")
def test_a_burst_of_connections_is_let_in(node: Server) -> None:
    """While the node is busy, they come and greet; it hears them all."""
    with ExitStack() as stack:
        node.pause()
        stack.callback(node.resume)
        talks = [stack.enter_context(Talk(node.address, None)) for _ in range(400)]
        for number, talk in enumerate(talks):
            talk.send(ClientHello(f"burst{number}"))
        node.resume()
        for talk in talks:
            assert isinstance(REPLY_TO_HELLO.decode(talk.body()), Welcome)


@pytest.mark.usefixtures("many_files")
def test_a_full_house_is_still_served(node: Server, election: str) -> None:
    """Nor does the node run out of files, which its store needs too."""
    with ExitStack() as stack:
        first = stack.enter_context(Talk(node.address, "first"))
        for number in range(1, MAX_CLIENTS):
            stack.enter_context(Talk(node.address, f"guest{number}"))
        late = stack.enter_context(Talk(node.address, None))
        late.send(ClientHello("late"))
        assert farewell(late) == (
            f"it has {MAX_CLIENTS} clients, each candidate and each watch among them, "
            "and takes no more"
        )
        for _ in range(MAX_STRANGERS):
            stack.enter_context(Talk(node.address, None))
        leads(first, election)


def test_a_name_belongs_to_the_connection_that_greeted_last(node: Server) -> None:
    with Talk(node.address, "twice") as first, Talk(node.address, "twice") as second:
        assert first.ends() == []
        assert isinstance(second.ask(LookElection("a")), ElectionSeen)


def test_a_client_that_does_not_read_is_hung_up_on(node: Server, election: str) -> None:
    with Talk(node.address, "good") as good:
        session, token = leads(good, election)
        good.submit(Save(session, 2, token, "s", bytes(1_000_000), 1))
        with Talk(node.address, "deaf") as deaf:

            def asks(number: int) -> None:
                """Once it is hung up on it cannot even ask."""
                deaf.send(Request(number, LookCheckpoint(election, "s")))
                # Takes as long as the node needs for the question before.
                assert isinstance(good.ask(LookElection(election)), ElectionSeen)

            with pytest.raises(ConnectionError):
                deque(map(asks, range(1, 100_000)), maxlen=0)


def test_what_is_asked_too_often_is_put_off(node: Server) -> None:
    """And never left without an answer."""
    with Talk(node.address, "eager") as talk:
        asked = b"".join(frame(Request(n, LookElection("a"))) for n in range(1, 3001))
        talk.sock.sendall(asked)
        answers = {told.id for told in (talk.told() for _ in range(3000))}
    assert answers == set(range(1, 3001))


# Memory ------------------------------------------------------------------------------------------


def test_what_was_answered_is_there_after_sigkill(tmp_path: Path) -> None:
    with RaftCluster(tmp_path, 1) as cluster:
        node = cluster.servers[0]
        with Talk(node.address) as talk:
            session, token = leads(talk, "a")
            for number in range(1, 31):
                value = str(number).encode()
                assert talk.submit(Save(session, 1 + number, token, "s", value, number)) == Done()
        node.kill()
        node.start()
        with Talk(node.address) as talk:
            seen = talk.ask(LookElection("a"))
            found = talk.ask(LookCheckpoint("a", "s"))
    assert isinstance(seen, ElectionSeen)
    assert (seen.holder, seen.token) == ("worker", token)
    assert isinstance(found, CheckpointSeen)
    assert found.checkpoint is not None
    assert found.checkpoint.value == b"30"


def test_a_node_alone_that_restarts_lets_each_lease_run_for_its_ttl(tmp_path: Path) -> None:
    """A tick is a second here, so one too many shows."""
    with RaftCluster(tmp_path, 1, extra=("--election-timeout", "10s")) as cluster:
        node = cluster.servers[0]
        with Talk(node.address) as talk:
            opened = talk.submit(Open(3000))
            assert isinstance(opened, Opened)
            talk.submit(Enter(opened.session, 1, "a", "worker"))
        node.restart()
        begun = now()
        with Talk(node.address) as talk:

            def ended() -> bool:
                seen = talk.ask(LookElection("a"))
                assert isinstance(seen, ElectionSeen)
                return seen.token is None

            wait_for(ended)
        assert now() - begun >= 2.9


def test_a_log_that_was_cut_down_is_there_after_a_restart(tmp_path: Path) -> None:
    with RaftCluster(tmp_path, 1) as cluster:
        node = cluster.servers[0]
        with Talk(node.address) as talk:
            session, token = leads(talk, "a")
            asked = [
                Request(n, Submit(Save(session, 1 + n, token, "s", str(n).encode(), n)))
                for n in range(1, 1201)
            ]
            for start in range(0, 1200, 400):
                talk.sock.sendall(b"".join(map(frame, asked[start : start + 400])))
                for _ in range(400):
                    while not isinstance(talk.told(), Answer):
                        pass
        before = ask_status(node.address, DEADLINE)
        assert before.snapshot_index >= 1000
        node.restart()
        with Talk(node.address) as talk:
            found = talk.ask(LookCheckpoint("a", "s"))
    assert isinstance(found, CheckpointSeen)
    assert found.checkpoint is not None
    assert found.checkpoint.value == b"1200"


def test_a_log_of_few_large_entries_is_cut_down_too(node: Server, election: str) -> None:
    with Talk(node.address) as talk:
        session, token = leads(talk, election)
        for number in range(1, 25):
            save = Save(session, 1 + number, token, "s", bytes(400_000), number)
            assert talk.submit(save) == Done()
    status = ask_status(node.address, DEADLINE)
    assert status.applied - status.snapshot_index < 25


@pytest.mark.parametrize("away", ["killed", "paused"])
def test_a_node_that_was_away_catches_up(tmp_path: Path, away: str) -> None:
    """With a snapshot and with large entries."""
    with RaftCluster(tmp_path, 3) as cluster, connect(cluster.url) as elector:
        node = cluster.servers[(cluster.leading() + 1) % 3]
        with elector.campaign("a", ttl=60.0, wait=60.0) as leadership:
            if away == "killed":
                node.kill()
            else:
                node.pause()
            for number in range(30):
                leadership.checkpoint.set(bytes(370_000), f"slot{number % 4}")
            if away == "killed":
                node.start()
            else:
                node.resume()

        def caught_up() -> bool:
            statuses = cluster.statuses().values()
            assert all(status.snapshot_index > 0 for status in statuses if status.ready)
            return len({status.applied for status in statuses}) == 1 and cluster.settled()

        wait_for(caught_up, deadline=60.0)


def test_a_node_that_lost_its_store_is_not_let_in_again(tmp_path: Path) -> None:
    """It may have forgotten a vote, or an entry that is committed."""
    with RaftCluster(tmp_path, 3) as cluster:
        with Talk(cluster.servers[cluster.leading()].address) as talk:
            leads(talk, "a")
        lost = (cluster.leading() + 1) % 3
        node = cluster.servers[lost]
        node.stop()
        (tmp_path / node.name / "data" / "raft.db").unlink()
        with pytest.raises(Unreachable, match="ended with code 78"):
            node.start()
        assert "is not empty and holds no raft.db" in node.tail()
        for left in (tmp_path / node.name / "data").iterdir():
            left.unlink()
        node.start()
        wait_for(lambda: "it may have forgotten a vote" in node.log.read_text())
        assert not cluster.settled()
        with Talk(cluster.servers[cluster.leading()].address) as talk:
            assert isinstance(talk.ask(LookElection("a")), ElectionSeen)
        status = ask_status(node.address, DEADLINE)
        assert (status.leader, status.last_index) == (None, 0)


def test_a_store_that_fails_ends_the_node_and_keeps_what_was_answered(tmp_path: Path) -> None:
    with RaftCluster(tmp_path, 1) as cluster:
        node = cluster.servers[0]
        node.stop()
        argv = list(node.argv)
        # No file may grow beyond a megabyte.
        node.argv = ["/bin/sh", "-c", 'ulimit -f 2048; exec "$@"', "sh", *argv]
        node.start()
        acknowledged = 0
        with Talk(node.address) as talk, suppress(ConnectionError):
            session, token = leads(talk, "a")
            for number in range(1, 100):
                save = Save(session, 1 + number, token, "s", bytes((number,)) * 50_000, number)
                assert talk.submit(save) == Done()
                acknowledged = number
        wait_for(lambda: not node.alive)
        assert node.why_silent() == "it ended with code 78"
        assert "raft.db: " in node.tail()
        assert 0 < acknowledged < 99
        node.argv = argv
        node.start()
        with Talk(node.address) as talk:
            found = talk.ask(LookCheckpoint("a", "s"))
    assert isinstance(found, CheckpointSeen)
    assert found.checkpoint is not None
    assert found.checkpoint.version in (acknowledged, acknowledged + 1)


def test_a_node_that_sees_a_promise_of_raft_broken_ends(tmp_path: Path) -> None:
    """Another node leads in the term in which this one does: we are both."""
    with ExitStack() as stack:
        held, second, third = (HeldPort() for _ in range(3))
        for port in (held, second, third):
            stack.callback(port.release)
        listen = f"127.0.0.1:{held.number}"
        peers = ("--peer", f"2=127.0.0.1:{second.number}", "--peer", f"3=127.0.0.1:{third.number}")
        node = serve(tmp_path, "--listen", listen, *peers)
        address = "127.0.0.1", held.number
        try:
            node.spawn()
            wait_for(lambda: answered(address))
            with Talk(address, None) as talk:
                talk.send(PeerHello(2, 1, (1, 2, 3), "store"))
                talk.body()

                def ended() -> bool:
                    status = answered(address)
                    with suppress(ConnectionError):
                        if status is not None and status.role == "pre-candidate":
                            talk.send(VoteReply(status.term + 1, True, True))
                            talk.send(VoteReply(status.term + 1, True, False))
                        elif status is not None and status.role == "leader":
                            talk.send(Heartbeat(status.term, 0, 1))
                    return not node.alive

                wait_for(ended)
        finally:
            node.kill()
    assert node.why_silent() == "it ended with code 70"
    assert "node 2 and node 1 both lead in term" in node.tail()


@pytest.mark.slow
def test_sessions_that_end_together_unseat_nobody(tmp_path: Path) -> None:
    """A new leader gives each its full TTL from one moment on."""
    with RaftCluster(tmp_path, 3) as cluster:
        leading = cluster.servers[cluster.leading()]
        asked = b"".join(frame(Request(n, Submit(Open(8000)))) for n in range(1, 1001))
        with ExitStack() as stack:
            talks = [stack.enter_context(Talk(leading.address, f"t{n}")) for n in range(8)]
            for talk in talks:
                talk.sock.sendall(asked)
            for talk in talks:
                for _ in range(1000):
                    talk.told()
        leading.kill()

        def leader() -> NodeStatus | None:
            return next((s for s in cluster.statuses().values() if s.ready), None)

        before = wait_for(leader)
        assert before is not None
        leading = cluster.servers[before.number - 1]
        assert before.sessions == 8000
        wait_for(lambda: ask_status(leading.address, DEADLINE).sessions == 0)
        assert ask_status(leading.address, DEADLINE).term == before.term


# A node's own ------------------------------------------------------------------------------------


def serve(home: Path, *args: str | Path) -> Server:
    """One node without peers that is not waited for."""
    argv = [sys.executable, "-m", "electctl", "raft", "serve", "--id", "1"]
    argv += ["--data", str(home / "data"), *map(str, args)]
    return Server("node", argv, home=home, port=0, check=lambda timeout: "")


def test_a_local_socket_is_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    node = serve(tmp_path, "--socket", path)
    try:
        node.spawn()
        wait_for(path.exists)
        status = wait_for(lambda: answered(path))
        assert status is not None
        assert status.ready
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        second = serve(tmp_path / "second", "--socket", path)
        second.spawn()
        wait_for(lambda: not second.alive)
        assert "another server listens on" in second.tail()
        assert "code 69" in second.why_silent()
        node.kill()
        assert path.is_socket()
        node.spawn()
        wait_for(lambda: answered(path))
        node.stop()
        assert node.why_silent() == "it ended with code 0"
        assert not path.exists()
    finally:
        node.kill()


def answered(address: Address) -> NodeStatus | None:
    try:
        return ask_status(address, DEADLINE)
    except Unreachable:
        return None


def test_an_idle_node_ends(tmp_path: Path) -> None:
    path = tmp_path / "s"
    node = serve(tmp_path, "--socket", path, "--idle", "300ms")
    try:
        node.spawn()
        wait_for(lambda: answered(path))
        with socket.socket(socket.AF_UNIX) as guest:
            guest.settimeout(DEADLINE)
            guest.connect(str(path))
            guest.sendall(frame(ClientHello("guest")))
            assert guest.recv(100)
            assert node.alive
        wait_for(lambda: not node.alive)
        assert node.why_silent() == "it ended with code 0"
        assert "stopped: idle for 0.3 s" in node.tail()
    finally:
        node.kill()
