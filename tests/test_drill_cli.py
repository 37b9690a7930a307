"""``electctl drill`` as it is typed: usage, lists, results, exit codes, an end in order."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from electctl import __version__
from electctl.cli.drill import _conclude
from electctl.compare.results import read
from electctl.drill import matrix
from electctl.drill.runner import Plan
from electctl.errors import Inconclusive, Negative
from electctl.faults import library
from electctl.lab.cluster import Cluster
from tests.campaigns import validate
from tests.drill_results import result
from tests.processes import Electctl, processes_with, wait_for

pytestmark = pytest.mark.warm

RESULT = result("redis", "pause:tree", "fenced", seed=1) | {
    "versions": {"electctl": __version__, "server": "redis", "client": None, "python": "3"}
}


@pytest.mark.parametrize(
    ("args", "cause", "hint"),
    [
        (("run", "redis", "--fault", "puase:tree"), "no fault puase:tree", "pause:tree"),
        (("run", "redis", "--fault", "partition:even"), "cannot be done to redis", "drill list"),
        (("run", "redsi", "--fault", "gc"), "no backend is installed for redsi", "redis"),
        (("run", "redis://h:1/0", "--fault", "flush"), "not the drill's to break", "run redis "),
        (("run", "redis://h:1/0?ca=a.pem", "--fault", "gc"), "a.pem is named from this", "/a.pem"),
        (("matrix", "redis://h:1/0"), "breaks no others", "matrix redis"),
        (("run", "local", "--fault", "gc"), "local:// has no lab", ""),
        (("run", "redis", "--fault", "gc", "--expect", "save"), "no verdict 'save'", "safe"),
        (("run", "redis", "--fault", "gc", "--rounds", "0"), "no number of rounds", "1"),
        (("run", "redis", "--fault", "gc", "--ttl", "0s"), "a lease of 0 s", "3s"),
        (
            ("run", "redis", "--fault", "gc", "--candidate", "etcdctl-lock"),
            "etcdctl-lock is no candidate on redis",
            "redis-py-lock",
        ),
        (("matrix", "--quick", "--rounds", "2"), "contradict", ""),
        (("matrix", "redis", "--fault", "partition:even"), "none of these", "drill list"),
        (("matrix", "--candidate", "etcdctl-lok"), "no candidate etcdctl-lok", "etcdctl-lock"),
        (("matrix", "--at-once", "0"), "0 labs", "2"),
    ],
)
def test_what_cannot_be_played(
    electctl: Electctl, args: tuple[str, ...], cause: str, hint: str
) -> None:
    done = electctl.run("drill", *args, check=2)
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert cause in first
    assert hint in "".join(rest)


def test_the_list_names_every_fault_and_where_it_applies(electctl: Electctl) -> None:
    lines = electctl.run("drill", "list", "--json", check=0).stdout.splitlines()
    found = {fault["fault"]: fault for fault in map(json.loads, lines)}
    for fault in found.values():
        validate("drill-list", fault)
    assert set(found) == set(library.FAULTS)
    assert "redis" not in found["partition:even"]["schemes"]
    assert {"etcd", "raft", "redis", "zk"} <= set(found["pause:tree"]["schemes"])
    shown = electctl.run("drill", "list", "redis", check=0).stdout
    assert "pause:tree" in shown
    assert "partition:even" not in shown


def test_the_exit_code_is_what_was_found_against_what_was_expected() -> None:
    _conclude(["safe", "fenced"], None)
    _conclude(["not_injected"], "not_injected")
    with pytest.raises(Negative):
        _conclude(["safe", "fenced"], "safe")
    for expected in (None, "safe"):
        with pytest.raises(Inconclusive):
            _conclude(["safe", "not_injected"], expected)


# The file of results -----------------------------------------------------------------------------


def test_what_the_file_has_is_not_played_again(electctl: Electctl, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(RESULT) + "\n")
    done = electctl.run(
        *("drill", "matrix", "redis", "--fault", "pause:tree", "--quick"),
        *("--results", path),
        check=0,
    )
    assert "has 1 of 1 rounds already" in done.stderr
    assert done.stdout.split() == ["FAULT", "REDIS", "pause:tree", "fenced"]
    assert path.read_text() == json.dumps(RESULT) + "\n"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"ttl": 5.0},
        {"verdict": "inconclusive"},
        {"versions": {"electctl": "0.0.1"}},
        {"candidate": "redis-py-lock"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_says_nothing_of_this_round_is_played(other: dict[str, Any]) -> None:
    plan = Plan("redis", "pause:tree", 1)
    assert matrix.left([plan], [RESULT]) == []
    assert matrix.left([plan], [{**RESULT, **other}]) == [plan]


def test_a_line_that_its_writer_died_over_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(RESULT) + '\n{"scheme": "re')
    assert [each.data for each in read(path)] == [RESULT]
    results = matrix.Results(path)
    results.add(RESULT)
    results.close()
    assert [each.data for each in read(path)] == [RESULT, RESULT]


def test_another_file_is_refused(electctl: Electctl, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("to do\n")
    done = electctl.run("drill", "matrix", "--results", path, check=2)
    assert "notes.txt, line 1: no JSON" in done.stderr
    assert path.read_text() == "to do\n"


# Real rounds -------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.quiet
def test_a_run_gives_a_result_its_record_and_an_exit_code(
    electctl: Electctl, tmp_path: Path
) -> None:
    done = electctl.run(
        *("drill", "run", "redis", "--fault", "crash:electctl", "--seed", "5", "--json"),
        *("--keep", tmp_path / "kept", "--expect", "fenced"),
        timeout=120,
        check=1,
    )
    assert "the verdict is safe, and fenced was expected" in done.stderr
    result = json.loads(done.stdout)
    validate("drill-result", result)
    assert result["verdict"] == "safe"
    assert result["command"] == (
        "electctl drill run redis --fault crash:electctl --seed 5 --ttl 3s"
    )
    assert result["versions"]["server"].startswith("redis ")
    record = sorted((tmp_path / "kept" / "seed-5").iterdir())
    verified = electctl.run("verify", *record, check=0).stdout
    assert "at most one leader at a time" in verified


@pytest.mark.server
@pytest.mark.quiet
def test_a_store_that_runs_already_is_left_as_it_was(
    electctl: Electctl, redis_url: str, redis_cluster: Cluster
) -> None:
    with redis.Redis(*redis_cluster.entrances[0].address) as server:
        before = server.keys("*drill*")
        server.execute_command("ACL SETUSER driller on >secret ~* &* +@all")
        url = redis_url.replace("://", "://driller:secret@")
        done = electctl.run(
            *("drill", "run", url, "--fault", "crash:electctl", "--seed", "5", "--json"),
            timeout=120,
            check=0,
        )
        assert server.keys("*drill*") == before
    found = json.loads(done.stdout)
    validate("drill-result", found)
    assert found["verdict"] == "safe"
    assert found["handover"] < found["ttl"] * 1000
    assert "://driller:***@" in found["command"]
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.server
@pytest.mark.quiet
def test_local_needs_no_server(electctl: Electctl) -> None:
    done = electctl.run("drill", "run", "local:", "--fault", "pause:tree", timeout=120, check=0)
    assert "fenced" in done.stdout


@pytest.mark.server
@pytest.mark.quiet
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(
    electctl: Electctl, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    drill = electctl.popen(
        *("drill", "run", "redis", "--fault", "partition:candidate"),
        env={"TMPDIR": str(place)},
    )

    def running() -> list[str]:
        return processes_with(str(place))

    def a_command_acts() -> bool:
        return any("writer.py" in line and "campaign" not in line for line in running())

    wait_for(a_command_acts, what="a command acts")
    drill.send_signal(number)
    assert drill.wait(60) in (code, -number)
    assert running() == []
    assert list(place.iterdir()) == []
