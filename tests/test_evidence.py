"""What drills have shown: results read strictly, gathered into cells, set beside promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from electctl.compare import textbook
from electctl.compare.evidence import ORDER, Cell, Evidence, told
from electctl.compare.results import Result, Verdict, parse, read, reference
from electctl.core.registry import schemes
from electctl.drill.catalogue import applicable
from electctl.errors import UsageError
from tests.campaigns import validate
from tests.drill_results import matrix, result, write
from tests.processes import Electctl

pytestmark = pytest.mark.warm

PAGE = (Path(__file__).parent.parent / "docs" / "drills.md").read_text()
(EXAMPLE,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rounds(*verdicts: str, **changed: Any) -> list[Result]:
    """One run of ``redis`` × ``flush``, a round for each verdict."""
    return [
        Result.of(result("redis", "flush", verdict, seed=number, round=number, **changed))
        for number, verdict in enumerate(verdicts, 1)
    ]


def only(evidence: Evidence) -> Cell:
    (cell,) = evidence.of(sorted(evidence.schemes()))
    return cell


# Reading -----------------------------------------------------------------------------------------


def test_the_example_on_the_page_is_a_result() -> None:
    assert Result.of(json.loads(EXAMPLE)).fault == "clock:forward"


def test_blank_lines_and_fields_of_later_versions_are_no_error() -> None:
    later = json.dumps(json.loads(EXAMPLE) | {"later": 1})
    (found,) = parse(["\n", later, ""], "f")
    assert found.data["later"] == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 2}, "'version' must be 1"),
        ({"scheme": "re dis"}, "'scheme' must be a name"),
        ({"fault": "</script>"}, "'fault' must be a name"),
        ({"seed": True}, "'seed' must be a whole number"),
        ({"ttl": 0}, "'ttl' must be seconds above 0"),
        ({"started": "yesterday"}, "'started' must be a time"),
        ({"started": "2026-01-31T02:00:04"}, "'started' must be a time with its zone"),
        ({"verdict": "fine"}, "'verdict' must be one of split-brain, fenced"),
        ({"verdict": []}, "'verdict' must be one of"),
        ({"injected": {}}, "'injected.target' must be there"),
        ({"overlap": {"store": 0, "belief": -1, "effect": 0}}, "'overlap.belief' must be"),
        ({"stale": {}}, "'stale.unfenced' must be there"),
        ({"breaks": ["hearts"]}, "'breaks[0]' must be one of exclusion"),
        ({"lanes": {"store": [], "belief": [], "effect": [1]}}, "'lanes.effect[0]' must be"),
        ({"marks": [{"at": 1}]}, "'marks[0].kind' must be there"),
    ],
)
def test_what_is_no_result_is_named_with_its_line(changed: dict[str, Any], said: str) -> None:
    lines = [json.dumps(result()), json.dumps(result() | changed)]
    with pytest.raises(UsageError, match=r"f\.jsonl, line 2: ") as caught:
        parse(lines, "f.jsonl")
    assert said in caught.value.message


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"version": NaN}', "[" * 100_000])
def test_what_is_no_object_is_named_with_its_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"f, line 1: (no JSON|not a result)"):
        parse([text + "\n"], "f")


def test_a_last_line_that_its_writer_died_over_is_left_out() -> None:
    whole = json.dumps(result())
    assert len(parse([whole + "\n", whole[:200]], "f")) == 1
    with pytest.raises(UsageError, match="line 1: no JSON"):
        parse([whole[:200] + "\n", whole], "f")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b'"\xff"\n', "is no text in UTF-8")]
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "r.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"r.jsonl.*{said}"):
        read(path)


JUNK: list[Any] = [None, True, -1, 0, 1.5, 1e400, 2**70, "", "\ud800", [], {}, ["a"], {"a": 1}]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in ``node`` with every key or index of it."""
    if isinstance(node, (dict, list)):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from places(node[key])


def test_no_damage_gives_more_than_one_clear_error() -> None:
    whole = json.loads(EXAMPLE)
    refused = taken = 0
    for holder, key in list(places(whole)):
        kept = holder[key]
        for junk in JUNK:
            holder[key] = junk
            try:
                (found,) = parse([json.dumps(whole) + "\n"], "f")
            except UsageError as error:
                refused += 1
                assert re.match(r"f, line 1: .+$", error.message)  # noqa: PT017
            else:
                taken += 1
                cell = only(Evidence(own=[found]))
                assert json.loads(json.dumps(cell.as_dict()))["shown"] == whole
                assert told(Evidence(own=[found]), [found.scheme])
        holder[key] = kept
    assert refused > taken > 0


def test_the_reference_run_is_whole_or_not_there() -> None:
    shipped = reference()
    assert {each.scheme for each in shipped} <= set(schemes())
    assert not shipped or all(each.data["versions"]["electctl"] for each in shipped)


# Cells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["safe"] * 20, "safe"),
        (["safe", "fenced", "safe"], "fenced"),
        (["fenced", "split-brain", "inconclusive"], "split-brain"),
        (["safe", "inconclusive"], "inconclusive"),
        (["safe", "not_injected"], "not_injected"),
    ],
)
def test_a_break_that_was_seen_stands_and_safe_is_every_round(
    verdicts: list[str], verdict: str
) -> None:
    cell = only(Evidence(own=rounds(*verdicts)))
    assert cell.verdict == cell.shown.verdict == verdict
    assert cell.verdicts == {each: verdicts.count(each) for each in ORDER if each in verdicts}
    assert set(ORDER) == set(get_args(Verdict))


def test_a_round_that_is_played_again_replaces_the_one_of_its_seed() -> None:
    first, *others = rounds("inconclusive", "fenced", "fenced")
    (again,) = rounds("safe")
    cell = only(Evidence(own=[*others, first, again]))
    assert [each.verdict for each in cell.rounds] == ["safe", "fenced", "fenced"]


@pytest.mark.parametrize("changed", [{"ttl": 5}, {"nodes": 3}, {"versions": {"electctl": "2"}}])
def test_only_rounds_that_were_played_alike_are_counted_together(changed: dict[str, Any]) -> None:
    old, new = rounds("split-brain", "fenced")
    new = Result.of(new.data | changed)
    assert only(Evidence(own=[old, new])).rounds == (new,)


def test_own_runs_replace_the_reference_cell_by_cell() -> None:
    shipped = [Result.of(result(fault=fault, verdict="safe")) for fault in ("flush", "restart")]
    cells = Evidence(shipped, rounds("split-brain")).of(["redis"])
    assert [(cell.fault, cell.origin, cell.verdict) for cell in cells] == [
        ("flush", "own", "split-brain"),
        ("restart", "reference", "safe"),
    ]


def test_the_worst_figures_of_all_rounds_are_kept() -> None:
    runs = rounds("fenced", "fenced", "safe")
    shown = only(Evidence(own=runs)).as_dict()
    data = [run.data for run in runs]
    assert shown["overlap"]["effect"] == max(each["overlap"]["effect"] for each in data) > 0
    assert shown["stale"]["fenced"]["tried"] == sum(e["stale"]["fenced"]["tried"] for e in data)
    assert shown["failover"] == [each["failover"] for each in data]
    assert shown["breaks"] == ["exclusion"]


def test_a_native_tool_has_no_checkpoint() -> None:
    told = result(candidate="redis-py-lock")
    del told["stale"]["checkpoint"]
    (found,) = parse([json.dumps(told) + "\n"], "f")
    assert set(only(Evidence(own=[found])).as_dict()["stale"]) == {"unfenced", "fenced"}


def test_every_row_of_the_textbook_points_to_drills_that_there_are() -> None:
    assert set(textbook.SHOWN) == {row[0] for row in textbook.ROWS}
    for shown in (each for row in textbook.SHOWN.values() for each in row):
        assert shown.fault in applicable(shown.scheme)


# In the terminal ---------------------------------------------------------------------------------


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return write(tmp_path / "drills.jsonl", matrix(rounds=2))


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_scheme_without_any_run_says_so(electctl: Electctl) -> None:
    found = electctl.run("compare", "-b", "local", check=0)
    assert "by electctl on local: no run yet" in flat(found.stdout)


def test_verdicts_and_times_stand_under_each_scheme_in_80_columns(
    electctl: Electctl, ran: Path
) -> None:
    done = electctl.run("compare", "-b", "redis", "-b", "etcd", "--results", ran, check=0)
    assert all(len(line) <= 80 or "://" in line for line in done.stdout.splitlines())
    shown = flat(done.stdout)
    whose = "the reference run, and your runs in its place"
    assert f"- by electctl on redis: {whose}, 2026-" in shown
    assert "- split-brain: evict:memory (tokens fall), failover" in shown
    assert "clock:fast (1 fenced, 1 safe)" in shown
    assert "evict:force (checkpoint lost, tokens fall)" in shown
    assert "evict:memory (tokens fall), failover (tokens fall)" in shown
    assert "- by etcdctl-lock on etcd: " in shown
    assert "- not injected: clock:back, clock:fast, clock:forward" in shown
    assert re.search(r"- fail-over: [\d.]+ s in the median, from \d+ ms to [\d.]+ s, in", shown)
    assert re.search(r"- hand-over: \d+ ms in the median", shown)
    assert "- no run: evict:memory, failover" in shown


def test_side_by_side_has_them_too(electctl: Electctl, ran: Path) -> None:
    args = ("compare", "-b", "redis", "-b", "etcd", "--results", ran)
    done = electctl.run(*args, env={"COLUMNS": "160"}, check=0)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("what drills show")]
    assert "by electctl on redis" in line
    assert "by electctl on etcd" in line


def test_own_results_are_read_from_the_directory_for_state(electctl: Electctl) -> None:
    own = Path(electctl.env["XDG_STATE_HOME"]) / "electctl" / "drill"
    own.mkdir(parents=True, mode=0o700)
    write(own / "results.jsonl", [result("zk", "gc", "safe")])
    shown = flat(electctl.run("compare", "-b", "zk", check=0).stdout)
    assert "by electctl on zk: the reference run, and your runs in its place" in shown


def test_json_has_the_cells_and_their_bound(electctl: Electctl, ran: Path) -> None:
    done = electctl.run("compare", "-b", "etcd", "--json", "--results", ran, check=0)
    line = json.loads(done.stdout)
    validate("compare", line)
    cells = {(cell["candidate"], cell["fault"]): cell for cell in line["evidence"]}
    cell = cells["electctl", "pause:tree"]
    assert (cell["verdict"], cell["rounds"], cell["bound"]) == ("fenced", 2, 3500)
    assert cell["shown"] == result("etcd", "pause:tree", "fenced", seed=2, round=2)
    assert ("etcdctl-lock", "pause:tree") in cells


def test_markdown_has_a_table_of_verdicts(electctl: Electctl, ran: Path) -> None:
    shown = electctl.run("compare", "--markdown", "--results", ran, check=0).stdout
    (table,) = [part for part in shown.split("\n\n") if part.startswith("| fault |")]
    heads, _, *rows = [[cell.strip() for cell in row.split("|")] for row in table.splitlines()]
    cells = {row[1]: dict(zip(heads, row, strict=True)) for row in rows}
    assert cells["`failover`"]["redis"] == "split-brain; tokens fall"
    assert cells["`evict:force`"]["redis"] == "safe; checkpoint lost, tokens fall"
    assert cells["`failover`"]["etcd"] == "no run"
    assert cells["`gc`"]["etcd by etcdctl-lock"] == "fenced"
    assert cells["`clock:fast`"]["redis"] == "fenced (1 of 2)"


def test_what_is_not_installed_is_left_out_and_said_so(electctl: Electctl, tmp_path: Path) -> None:
    odd = write(tmp_path / "r.jsonl", [result("redis"), result("redis") | {"scheme": "chubby"}])
    done = electctl.run("compare", "--results", odd, check=0)
    assert "no such scheme is installed: chubby" in done.stderr
    assert "chubby" not in done.stdout


def test_what_a_file_says_of_versions_reaches_no_terminal_as_it_is(
    electctl: Electctl, tmp_path: Path
) -> None:
    versions = {"server": "\x1b[2Jredis", "electctl": "1"}
    odd = result(versions=versions, started="2099-01-31T02:00:04Z")
    done = electctl.run("compare", "--results", write(tmp_path / "r.jsonl", [odd]), check=0)
    assert "\x1b" not in done.stdout
    assert "[2Jredis" in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--results", "bad.jsonl"), "bad.jsonl, line 1: no JSON"),
        (("--html", "no/where.html"), "no/where.html cannot be written"),
        (("--json", "--html", "a.html"), "--json and --html contradict each other"),
    ],
)
def test_what_cannot_be_is_one_line(electctl: Electctl, args: tuple[str, ...], said: str) -> None:
    (electctl.home / "bad.jsonl").write_text("{\n")
    done = electctl.run("compare", *args, cwd=electctl.home, check=2)
    first, hint = done.stderr.splitlines()
    assert said in first
    assert hint.startswith("hint: ")
    assert done.stdout == ""


def test_no_template_is_loaded_before_one_is_needed() -> None:
    code = (
        "import sys, electctl.cli.compare, electctl.compare.evidence, electctl.compare.report\n"
        "sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
