"""``electctl raft`` as a user runs it: status of a cluster that loses nodes, refusals, events.

What this does not show: malformed options; those are in test_bad_input.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from electctl.lab.ports import HeldPort
from electctl_raft.lab import RaftCluster
from tests.processes import DEADLINE, Electctl, wait_for

SCHEMAS = files("electctl") / "schemas"


def validated(line: str, schema: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RaftCluster]:
    with RaftCluster(tmp_path / "lab", 3) as cluster:
        yield cluster


def test_status_of_a_cluster_that_loses_its_nodes(electctl: Electctl, cluster: RaftCluster) -> None:
    nodes = [f"127.0.0.1:{server.port}" for server in cluster.servers]
    command = ["raft", "status", *(word for node in nodes for word in ("--node", node))]

    def status(code: int) -> list[dict[str, Any]]:
        done = electctl.run(*command, "--json")
        assert done.returncode == code, done.stderr
        return [validated(line, "raft-status") for line in done.stdout.splitlines()]

    heads, *rows = electctl.run(*command, check=0).stdout.splitlines()
    assert heads.split()[:5] == ["NODE", "ADDRESS", "ROLE", "TERM", "LEADER"]
    assert [row.split()[:2] for row in rows] == [[str(n), a] for n, a in enumerate(nodes, 1)]
    assert all(row.endswith("2 of 2") for row in rows)

    found = status(0)
    leader = cluster.leading() + 1
    assert [one["number"] for one in found] == [1, 2, 3]
    assert {one["leader"] for one in found} == {leader}
    assert [one["role"] == "leader" for one in found] == [n == leader for n in (1, 2, 3)]
    assert [one["ready"] for one in found] == [n == leader for n in (1, 2, 3)]
    assert [sorted(one["reached"]) for one in found] == [[2, 3], [1, 3], [1, 2]]

    cluster.servers[leader - 1].kill()
    wait_for(lambda: len(cluster.statuses()) == 2 and cluster_leads(cluster))
    gone = status(0)[leader - 1]
    assert gone == {
        "address": nodes[leader - 1],
        "reachable": False,
        "cause": "Connection refused",
    }
    table = electctl.run(*command, check=0).stdout
    assert "silent: Connection refused" in table

    cluster.servers[cluster.leading()].kill()
    wait_for(lambda: not cluster_leads(cluster))
    done = electctl.run(*command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "electctl: no node leads a majority"

    cluster.stop()
    done = electctl.run(*command)
    assert done.returncode == 69
    assert done.stderr.splitlines()[0] == "electctl: no node answers"
    assert done.stdout.count("silent") == 3


def cluster_leads(cluster: RaftCluster) -> bool:
    return any(status.ready for status in cluster.statuses().values())


def test_what_a_node_refuses_to_start_on(electctl: Electctl, tmp_path: Path) -> None:
    held = HeldPort()
    data = tmp_path / "data"
    listen = f"127.0.0.1:{held.number}"

    def refused(number: int, port: str, *more: str, code: int) -> str:
        done = electctl.run(
            "raft", "serve", "--id", str(number), "--listen", port, "--data", data, *more
        )
        assert done.returncode == code, done.stderr
        line, hint = done.stderr.splitlines()
        assert hint.startswith("hint: ")
        return line

    node = electctl.popen("raft", "serve", "--id", "1", "--listen", listen, "--data", data)
    assert node.stderr is not None
    wait_for(lambda: node.stderr is not None and "leads in term 1" in node.stderr.readline())
    assert "in use by another process" in refused(1, "127.0.0.1:1", code=78)
    node.send_signal(signal.SIGTERM)
    assert node.wait(DEADLINE) == 0
    assert "stopped: SIGTERM came" in node.stderr.read()
    assert "belongs to node 1, not to node 2" in refused(2, listen, code=78)
    others = ("--peer", "2=127.0.0.1:1", "--peer", "3=127.0.0.1:2")
    assert "of a cluster of nodes 1, not 1, 2, 3" in refused(1, listen, *others, code=78)

    held.release()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        assert f"cannot listen on {taken}: " in refused(1, taken, code=69)

    store = data / "raft.db"
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2])
    assert f"{store} is damaged" in refused(1, listen, code=78)
    middle = whole.rindex(b'["Noop"]')
    store.write_bytes(whole[:middle] + b'["Nope"]' + whole[middle + 8 :])
    assert f"{store} is damaged: a row is not" in refused(1, listen, code=78)
    store.write_bytes(b"")
    assert f"{store} is empty" in refused(1, listen, code=78)


def test_events_as_json(electctl: Electctl, tmp_path: Path) -> None:
    args = ("raft", "serve", "--id", "7", "--data", tmp_path / "d", "--socket", tmp_path / "s")
    done = electctl.run(*args, "--idle", "200ms", "--json", check=0)
    assert done.stdout == ""
    events = [validated(line, "raft-event") for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["started", "leader", "stopped"]
    assert {event["node"] for event in events} == {7}
    silent = electctl.run(*args, "--idle", "200ms", "-q", check=0)
    assert silent.stderr == ""


def test_a_node_outlives_who_reads_its_log_or_does_not(electctl: Electctl, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 512)
    os.set_blocking(writing, True)
    node = electctl.popen(
        "raft", "serve", "-v", "--id", "1", "--socket", place, "--data", tmp_path / "d",
        stderr=writing,
    )  # fmt: skip
    os.close(writing)
    wait_for(lambda: node.poll() is not None or place.exists(), what="it listens")
    electctl.run("raft", "status", "--node", place, check=0)
    os.close(reading)
    electctl.run("raft", "status", "--node", place, check=0)
    node.terminate()
    assert node.wait(DEADLINE) == 0


def test_a_node_outlives_the_disk_of_its_log(electctl: Electctl, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with open("/dev/full", "w") as full:
        node = electctl.popen(
            "raft", "serve", "--id", "1", "--socket", place, "--data", tmp_path / "d", stderr=full
        )
    wait_for(lambda: node.poll() is not None or place.exists(), what="it listens")
    electctl.run("raft", "status", "--node", place, check=0)
    node.terminate()
    assert node.wait(DEADLINE) == 0
