"""One server, its port, its cluster: started, watched, killed and paused in this process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from electctl.contract.backend import Plugin
from electctl.core import registry
from electctl.errors import MissingDependency, Unreachable, Unsupported, UsageError
from electctl.lab import ready
from electctl.lab.cluster import Cluster, make_cluster
from electctl.lab.ports import HOST, HeldPort
from electctl.lab.server import Server, StartFailed, find_program, process, tree
from tests.processes import DEADLINE, wait_for


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A Redis of one's own, to break."""
    with make_cluster("redis", tmp_path / "redis") as found:
        yield found


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return cluster.servers[0]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[list[Server]]:
    """Servers that the test adds are killed at its end."""
    added: list[Server] = []
    yield added
    for one in added:
        one.kill()


def script(home: Path, code: str, check: ready.Check = lambda _: "") -> Server:
    """A process of the shell as a server that answers at once."""
    argv = ["/bin/sh", "-c", code]
    return Server("script", argv, home=home, port=1, check=check, start_timeout=0.5)


def test_it_answers_when_started_and_not_when_stopped(server: Server) -> None:
    assert server.alive
    assert server.why_silent() == ""
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert (server.alive, server.pid) == (False, None)
    assert server.why_silent() == "it ended with code 0"


def test_pause_is_seen_in_the_kernel_and_undone_by_resume(server: Server) -> None:
    pid = server.pid
    assert pid is not None
    server.pause()
    found = process(pid)
    assert found is not None
    assert found.state == "T"
    assert server.paused
    assert server.why_silent() == "it is paused"
    server.resume()
    assert not server.paused
    assert server.why_silent() == ""


def test_a_paused_server_can_be_stopped_in_order(server: Server) -> None:
    server.pause()
    server.stop()
    assert server.why_silent() == "it ended with code 0"


def test_a_killed_server_starts_again_at_the_same_address(server: Server) -> None:
    before = server.address
    server.kill()
    assert server.why_silent() == "it was killed by signal 9"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(before)
    server.start()
    assert server.why_silent() == ""
    first = server.pid
    server.restart()
    assert server.pid != first
    assert server.address == before


def test_a_server_that_is_not_running_cannot_be_paused(server: Server) -> None:
    server.stop()
    with pytest.raises(Unreachable, match="is not running"):
        server.pause()


def test_pause_and_kill_reach_what_the_server_started(tmp_path: Path, shell: list[Server]) -> None:
    one = script(tmp_path, "sleep 600 & sleep 600 & wait")
    shell.append(one)
    one.start()
    assert one.pid is not None
    parent = one.pid
    pids = wait_for(lambda: found if len(found := tree(parent)) == 3 else [])
    one.pause()
    assert {found.state for pid in pids if (found := process(pid))} == {"T"}
    one.resume()
    assert "T" not in {found.state for pid in pids if (found := process(pid))}
    one.kill()
    wait_for(lambda: not [pid for pid in pids if (found := process(pid)) and found.state != "Z"])


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path, shell: list[Server]) -> None:
    one = script(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    one.stop_timeout = 0.2
    shell.append(one)
    one.start()
    wait_for(lambda: one.tail() == "deaf")
    one.stop()
    assert one.why_silent() == "it was killed by signal 9"


def test_one_that_ends_at_once_shows_why(tmp_path: Path) -> None:
    one = script(tmp_path, "echo first; echo last >&2; exit 7", lambda _: "nothing there")
    with pytest.raises(StartFailed) as failed:
        one.start()
    assert failed.value.message == (
        "script (sh) did not start: it ended with code 7; it last said: last"
    )
    assert failed.value.log == "first\nlast"
    assert failed.value.hint == f"its log is {tmp_path / 'log'}"


def test_one_that_does_not_answer_is_killed_and_shows_why(tmp_path: Path) -> None:
    free = HeldPort()
    one = script(tmp_path, "exec sleep 600", ready.tcp(free.number))
    with pytest.raises(StartFailed) as failed:
        one.start()
    free.release()
    assert "does not answer after 0.5 s: [Errno 111] Connection refused" in failed.value.message
    assert failed.value.message.endswith("it printed nothing")
    assert not one.alive


def test_environment_and_home_are_the_servers_own(tmp_path: Path, shell: list[Server]) -> None:
    one = script(tmp_path / "home", 'echo "$WORD in $PWD"; exec sleep 600')
    one.env["WORD"] = "set"
    shell.append(one)
    one.start()
    wait_for(lambda: one.tail() == f"set in {tmp_path / 'home'}")


HOST_PROCESS = """
import sys, threading
from pathlib import Path
from electctl.lab.server import Server

one = Server("one", ["/bin/sleep", "600"], home=Path(sys.argv[1]), port=1, check=lambda _: "")
worker = threading.Thread(target=one.start)
worker.start()
worker.join()
print(one.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_dies_with_its_process_but_not_with_a_thread_of_it(tmp_path: Path) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST_PROCESS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        threads = Path(f"/proc/{host.pid}/task")
        # The main thread and the one that forks are left; the signal comes as a thread ends.
        wait_for(lambda: len(list(threads.iterdir())) == 2)
        found = process(pid)
        assert found is not None
        assert found.parent == host.pid
        assert found.state != "Z"
        host.kill()
        wait_for(lambda: (found := process(pid)) is None or found.state == "Z")


def test_a_program_is_found_in_path_and_in_the_newest_of_its_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("9.6", "15", "10"):
        program = tmp_path / version / "bin" / "initdatabase"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    places = [f"{tmp_path}/*/bin"]
    found = find_program("initdatabase", "postgresql", places)
    assert found == str(tmp_path / "15" / "bin" / "initdatabase")
    monkeypatch.setenv("PATH", str(tmp_path / "10" / "bin"))
    found = find_program("initdatabase", "postgresql", places)
    assert found == str(tmp_path / "10" / "bin" / "initdatabase")


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(MissingDependency) as missing:
        find_program("no-such-server", "no-such-package")
    assert missing.value.message == "the program no-such-server is not installed"
    assert missing.value.hint == "apt-get install no-such-package"


def test_a_held_port_is_refused_to_others_and_open_to_its_server() -> None:
    held = HeldPort()
    with socket.socket() as greedy, pytest.raises(OSError, match="in use"):
        greedy.bind((HOST, held.number))
    with socket.create_server((HOST, held.number)):
        socket.create_connection((HOST, held.number)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, held.number))
    held.release()
    held.release()


def test_many_held_ports_are_all_different() -> None:
    held = [HeldPort() for _ in range(200)]
    assert len({one.number for one in held}) == 200
    for one in held:
        one.release()


def test_checks_tell_why_there_is_no_answer() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            for reply in (
                b"+PONG\r\n",
                b"-ERR\r\n",
                b"HTTP/1.0 503 no\r\n\r\n",
                b"SSH-2.0\r\n\r\n",
            ):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1000)
                    sock.sendall(reply)

        peer = threading.Thread(target=answer)
        peer.start()
        ping = ready.exchange(port, b"PING\r\n", b"+PONG")
        assert ping(DEADLINE) == ""
        assert ping(DEADLINE) == "it answered b'-ERR\\r\\n'"
        health = ready.http_get(port, "/health")
        assert health(DEADLINE) == "GET /health was answered with 503"
        assert health(DEADLINE).startswith("it does not speak HTTP")
        peer.join()
        assert ready.tcp(port)(DEADLINE) == ""


def test_a_cluster_has_its_ports_and_data_again(tmp_path: Path) -> None:
    home = tmp_path / "redis"
    with make_cluster("redis", home) as first:
        url = first.url
    with make_cluster("redis", home) as second:
        assert second.url == url
    port = int(url.rpartition(":")[2].partition("/")[0])
    with (
        socket.create_server((HOST, port)),
        pytest.raises(Unreachable, match=f"port {port} of redis is taken"),
    ):
        make_cluster("redis", home).start()


def test_a_cluster_keeps_its_port_while_it_is_stopped(cluster: Cluster) -> None:
    address = cluster.servers[0].address
    cluster.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(address)
    cluster.start()
    assert cluster.servers[0].why_silent() == ""


class Lame(Cluster):
    """Its second server does not start."""

    def configure(self) -> None:
        for number, code in enumerate(["exec sleep 600", "exit 1"]):
            one = script(self.home / str(number), code)
            if number:
                one.check = lambda _: "not yet"
            self.servers.append(one)

    def url_for(self, addresses: Sequence[tuple[str, int]]) -> str:
        return "lame://"


def test_a_cluster_of_which_one_server_fails_is_stopped(tmp_path: Path) -> None:
    cluster = Lame(tmp_path)
    with pytest.raises(StartFailed):
        cluster.start()
    assert [server.alive for server in cluster.servers] == [False, False]
    assert cluster.servers[0].why_silent() == f"it was killed by signal {signal.SIGTERM.value}"


BARE = Plugin(schemes=("bare",), traits=registry.plugin("redis").traits, backend="none:none")


def test_a_scheme_without_a_lab_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("bare", f"{__name__}:BARE", registry.GROUP)
    monkeypatch.setattr(registry, "_entries", lambda: {"bare": entry})
    with pytest.raises(Unsupported, match="bare:// has no lab"):
        make_cluster("bare", tmp_path)


def test_a_node_count_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 is not a number of nodes"):
        make_cluster("redis", tmp_path, 4)
