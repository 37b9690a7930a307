"""Logs of operations: what is read, what is refused, and the verdicts that are known."""

from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electctl.errors import UsageError
from electctl.verify.linear import timeline
from electctl.verify.linear.files import KINDS, judge_file
from electctl.verify.linear.history import Operation
from electctl.verify.linear.judge import explain, judge
from electctl.verify.linear.logs import read_map, read_register
from electctl.verify.linear.models import MAP, REGISTER
from electctl.verify.linear.search import Limits
from tests import operations as made
from tests.campaigns import validate
from tests.processes import Electctl

pytestmark = pytest.mark.warm

#: Histories with known verdicts, which are not part of the project.
KNOWN = Path(
    os.environ.get("ELECTCTL_HISTORIES")
    or Path(__file__).parents[2].joinpath("shared", "histories")
)
VERDICTS = KNOWN / "verdicts.tsv"


def _known() -> list[tuple[str, str]]:
    if not VERDICTS.exists():
        return []
    with VERDICTS.open(newline="") as stream:
        return [(row[0], row[1]) for row in csv.reader(stream, delimiter="\t")]


@pytest.mark.skipif(
    not VERDICTS.exists(), reason="no histories with known verdicts: ELECTCTL_HISTORIES names them"
)
def test_the_verdicts_that_are_known() -> None:
    known = _known()
    assert known
    for name, verdict in known:
        kind = KINDS["map" if name.startswith("kv") else "register"]
        # A few hundred configurations each are enough: far from any limit.
        found = judge_file(KNOWN / name, kind, Limits(memory=2_000_000))
        assert found.verdict.replace("_", " ") == verdict, name
        assert (found.violation is None) == (verdict == "linearizable")
        assert found.violation is None or found.violation.shortest


REGISTER_LOG = """\
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t3
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
2\t:invoke\t:cas\t[3 -1]

3\t:invoke\t:cas\t[4 0]
INFO  jepsen.util - 3\t:fail\t:cas\t[4 0]
4\t:invoke\t:read\tnil
4\t:fail\t:read\t:timed-out
5\t:invoke\t:cas\t[5 5]
5\t:fail\t:cas\t[5 5]\t:connection-refused
2\t:info\t:cas\t:timed-out
2\t:invoke\t:read\tnil
2\t:ok\t:read\t-1
"""


def test_a_log_of_a_register() -> None:
    log = read_register(REGISTER_LOG.splitlines(keepends=True), "log")
    assert log.lines == 15
    assert log.histories == {
        "": [
            Operation("read", 1, 3, None, None, "0"),
            Operation("failed cas", 7, 8, (4, 0), process="3"),
            Operation("cas", 5, None, (3, -1), process="2"),
            Operation("read", 14, 15, None, -1, "2"),
            Operation("write", 2, None, 3, process="1"),
        ]
    }


MAP_LOG = r"""
{:process 0, :type :invoke, :f :append, :key "a", :value "x \"1\" \\ y"}
{:process 1, :type :invoke, :f :get, :key "b", :value nil}
{:process 1, :type :ok, :f :get, :key "b", :value ""}
{:process :nemesis, :type :info, :f :start, :key "", :value nil}
{:type :ok :process 0 :f :append :time 12 :index 3 :key "a" :value "x \"1\" \\ y"}
{:process 1, :type :invoke, :f :get, :key "c", :value nil}
{:process 1, :type :ok, :f :get, :key "c", :value nil}
{:process 2, :type :invoke, :f :put, :key "a", :value "p"}
{:process 2, :type :info, :f :put, :key "a", :value "p", :error :timeout}
{:process 3, :type :invoke, :f :put, :key "a", :value ":get"}
{:process 3, :type :fail, :f :put, :key "a", :value ":get"}
{:process 0, :type :invoke, :f :append, :key "a", :value "z"}
"""


def test_a_log_of_a_map() -> None:
    log = read_map(MAP_LOG.splitlines(keepends=True), "log")
    assert log.histories == {
        "a": [
            Operation("append", 2, 6, 'x "1" \\ y', process="0"),
            Operation("put", 9, None, "p", process="2"),
            Operation("append", 13, None, "z", process="0"),
        ],
        "b": [Operation("get", 3, 4, None, "", "1")],
        "c": [Operation("get", 7, 8, None, "", "1")],
    }
    assert log.operations == 5


WRONG_REGISTER = {
    "0\t:invoke\t:read": "it must be a process, :invoke and the like, an operation",
    "0 :invoke :read nil": "by tabs",
    "x\t:invoke\t:read\tnil": "it must be a process",
    "0\t:began\t:read\tnil": "':began' is none of :invoke, :ok, :fail, :info",
    "0\t:invoke\t:swap\tnil": "':swap' is none of :read, :write, :cas",
    "0\t:invoke\t:read\t3": "'3' is no value for :invoke of :read",
    "0\t:invoke\t:write\tnil": "'nil' is no value for :invoke of :write",
    "0\t:invoke\t:write\t[1 2]": "is no value for",
    "0\t:invoke\t:write\t1.5": "is no value for",
    "0\t:invoke\t:cas\t3": "is no value for",
    "0\t:invoke\t:cas\t[3]": "is no value for",
    "0\t:ok\t:read\t3": "process 0 has called nothing, and has an answer",
    "9\t:ok\t:read\t[1 2]": "is no value for",
    "9\t:ok\t:write\t3": "process 9 called something else in line 1",
    "9\t:invoke\t:read\tnil": "process 9 has had no answer since line 1, and calls again",
    "8\t:ok\t:write\t5": "the answer is about another value than the call in line 2",
    "8\t:ok\t:write\t4\t:late": "is no value for",
}
WRONG_MAP = {
    "9": "it must be one map in braces",
    '{:process 0, :type :invoke, :f :get, :key "a"}': ":value is missing",
    '{:process 0, :type :invoke, :f :get, :key "a", :value}': "a value is missing",
    '{:process 0, :type :invoke, :f :get, :key "a", :value [1]}': "'[1]' is neither a word",
    '{:process 0, :type :invoke, :f :get, :key "a", :value "}': "is not understood",
    '{:process 0, :type :invoke, :f :put, :key "a", :value "\\q"}': "the escape '\\\\q' is not",
    '{:process x, :type :invoke, :f :get, :key "a", :value nil}': "'x' is neither a word",
    '{:process "0", :type :invoke, :f :get, :key "a", :value nil}': ":process must be a number",
    "{:process 0, :type :invoke, :f :get, :key :a, :value nil}": ":key must be a text",
    "{:process 0, :type :invoke, :f :get, :key 1, :value nil}": ":key must be a text",
    '{:process 0, :type :invoke, :f :cas, :key "a", :value nil}': "':cas' is none of :get, :put",
    '{:process 0, :type :start, :f :get, :key "a", :value nil}': "':start' is none of :invoke",
    '{:process 0, :type :invoke, :f :get, :key "a", :value "v"}': "that is called must be nil",
    '{:process 0, :type :invoke, :f :put, :key "a", :value nil}': ":value must be a text",
    '{:process 0, :type :invoke, :f :put, :key "a", :value :v}': ":value must be a text",
    '{:process 0, :process 1, :f :put, :key "a", :value :v}': ":process stands there twice",
    '{:process 0, :type :invoke, :f :get, :key "a", :value nil, :x 1}': "':x' is no field",
    '{":process" 0, :type :invoke, :f :get, :key "a", :value nil}': "':process' is no field",
    '{:process 9, :type :ok, :f :get, :key "b", :value ""}': "called something else in line 1",
    '{:process 9, :type :ok, :f :put, :key "a", :value "w"}': "called something else in line 1",
    '{:process 8, :type :ok, :f :put, :key "a", :value "w"}': "is about another value",
}


@pytest.mark.parametrize("line", WRONG_REGISTER)
def test_a_wrong_line_of_a_register_is_named(line: str) -> None:
    before = ["9\t:invoke\t:read\tnil", "8\t:invoke\t:write\t4"]
    with pytest.raises(UsageError) as raised:
        read_register([*before, line], "some.log")
    assert raised.value.message.startswith("some.log:3: ")
    assert WRONG_REGISTER[line] in raised.value.message


@pytest.mark.parametrize("line", WRONG_MAP)
def test_a_wrong_line_of_a_map_is_named(line: str) -> None:
    before = [
        '{:process 9, :type :invoke, :f :get, :key "a", :value nil}',
        '{:process 8, :type :invoke, :f :put, :key "a", :value "v"}',
    ]
    with pytest.raises(UsageError) as raised:
        read_map([*before, line], "some.log")
    assert raised.value.message.startswith("some.log:3: ")
    assert WRONG_MAP[line] in raised.value.message


_PIECES = st.sampled_from(
    ["0", "\t", ":invoke", ":ok", ":read", ":write", "nil", "[1 2]", "{", "}", '"', "\\", ":f ",
     ":get", ":process 0", ":type :ok", ":key", ":value", ", ", " - ", "INFO ", "\x00", "[", "-"]
)  # fmt: skip


@settings(deadline=None, max_examples=500, derandomize=True, database=None)
@given(st.lists(st.lists(_PIECES | st.text(max_size=3), max_size=12).map("".join), max_size=4))
def test_whatever_stands_there_it_is_read_or_refused(lines: list[str]) -> None:
    for read in (read_register, read_map):
        with suppress(UsageError):
            read(lines, "log")


STALE = """\
0\t:invoke\t:write\t1
0\t:ok\t:write\t1
1\t:invoke\t:write\t2
2\t:invoke\t:read\tnil
2\t:ok\t:read\t2
3\t:invoke\t:cas\t[1 3]
4\t:invoke\t:read\tnil
4\t:ok\t:read\t1
1\t:ok\t:write\t2
"""

# Key by key ---------------------------------------------------------------------------------------


def _on(key: str, process: int, kind: str, value: str, answer: str | None = None) -> str:
    call = "nil" if kind == "get" else f'"{value}"'
    said = value if answer is None else answer
    head = f'{{:process {process}, :type :%s, :f :{kind}, :key "{key}", :value %s}}\n'
    return head % ("invoke", call) + head % ("ok", f'"{said}"')


def test_the_violation_that_shows_first_is_explained() -> None:
    text = (
        _on("a", 0, "put", "1")
        + _on("b", 0, "put", "1")
        + _on("good", 0, "get", "")
        + _on("b", 1, "get", "2")
        + _on("a", 1, "get", "2")
    )
    found = judge(read_map(text.splitlines(), "log"), MAP, Limits())
    assert (found.verdict, found.violated) == ("not_linearizable", ("a", "b"))
    assert found.violation is not None
    assert (found.violation.key, found.violation.until) == ("b", 8)
    assert found.violation.state == "1"


def test_a_key_without_a_verdict_leaves_the_others_theirs() -> None:
    appends = "".join(
        made.map_log([Operation("append", 0, 1, "x" * 20_000)]).replace(" 0,", f" {n},")
        for n in range(20)
    )
    log = read_map(appends.splitlines(), "log")
    log.histories["k"].append(Operation("get", 100, 101, None, "x" * 400_000))
    small = Limits(memory=100_000)
    found = judge(log, MAP, small)
    assert (found.verdict, found.limit, found.undecided) == ("inconclusive", "memory", ("k",))
    log.histories["bad"] = [Operation("get", 1, 2, None, "never")]
    found = judge(log, MAP, small)
    assert (found.verdict, found.violated, found.undecided) == (
        "not_linearizable",
        ("bad",),
        ("k",),
    )


def test_where_a_limit_ends_the_explanation_it_says_so() -> None:
    log = read_register(STALE.splitlines(), "log")
    assert explain("", log.histories[""], 8, REGISTER, Limits()).shortest
    violation = explain("", log.histories[""], 8, REGISTER, Limits(memory=1))
    assert not violation.shortest
    assert violation.until == 8


# The command line ---------------------------------------------------------------------------------


FINE = STALE.replace("4\t:ok\t:read\t1", "4\t:ok\t:read\t2")
DRAWN = """\
stale.log: not linearizable (5 operations): read → 1 of process 4 (lines 7-8) fits into no order \
of the first 8 lines

the longest order that was found:
  lines  process  operation  it holds
  1-2    0        write 1    1
  3-     1        write 2    2
  4-5    2        read → 2   2
  7-8    4        read → 1   cannot follow

  0  write 1    =========
  1  write 2                     =============================================>
  2  read → 2                             =========
  3  cas 1 → 3                                             ------------------->
  4  read → 1                                                       ##########
  line          1                                                            8
  # cannot be put in order; = is in the order above; - is not in it; > had no answer yet
"""


@pytest.fixture
def logs(electctl: Electctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some, where the commands run."""
    monkeypatch.chdir(electctl.home)
    Path("stale.log").write_text(STALE)
    Path("fine.log").write_text(FINE)


@pytest.mark.usefixtures("logs")
def test_a_linearizable_log(electctl: Electctl) -> None:
    done = electctl.run("verify", "--model", "register", "fine.log", check=0)
    assert (done.stdout, done.stderr) == ("fine.log: linearizable (5 operations)\n", "")


@pytest.mark.usefixtures("logs")
def test_a_stale_read_is_drawn(electctl: Electctl) -> None:
    done = electctl.run("verify", "--model", "register", "stale.log", "fine.log", check=1)
    assert done.stdout == DRAWN + "fine.log: linearizable (5 operations)\n"
    assert done.stderr == (
        "electctl: stale.log: not linearizable: read → 1 of process 4 (lines 7-8) fits into no "
        "order of the first 8 lines\nhint: electctl explain linearizable\n"
    )
    done = electctl.run("verify", "-q", "--model", "register", "stale.log", check=1)
    assert done.stdout == ""


@pytest.mark.usefixtures("logs")
def test_as_json(electctl: Electctl) -> None:
    done = electctl.run("verify", "--json", "--model", "register", "fine.log", "stale.log", check=1)
    fine, stale = map(json.loads, done.stdout.splitlines())
    for obj in (fine, stale):
        validate("verify-model", obj)
    assert (fine["verdict"], fine["violation"]) == ("linearizable", None)
    violation = stale["violation"]
    assert (stale["verdict"], violation["until_line"]) == ("not_linearizable", 8)
    assert violation["operation"] == {
        "process": "4",
        "kind": "read",
        "given": None,
        "answer": 1,
        "called": 7,
        "answered": 8,
    }
    assert [one["state"] for one in violation["order"]] == [1, 2, 2]
    assert [one["given"] for one in violation["left"]] == [[1, 3]]


@pytest.mark.usefixtures("logs")
def test_a_map_on_the_command_line(electctl: Electctl) -> None:
    text = _on("k\\n", 0, "append", "a") + _on("k\\n", 1, "get", "b") + _on("j", 0, "get", "")
    Path("kv.log").write_text(text)
    done = electctl.run("verify", "--model", "map", "kv.log", check=1)
    assert done.stdout.startswith(
        'kv.log: not linearizable (3 operations, 2 keys): get → "b" of process 1 on'
    )
    assert r'on key "k\n" (lines 3-4)' in done.stdout
    done = electctl.run("verify", "--json", "--model", "map", "kv.log", check=1)
    validate("verify-model", json.loads(done.stdout))


@pytest.mark.usefixtures("logs")
def test_at_a_limit_the_answer_is_3(electctl: Electctl) -> None:
    """In how many orders 24 writes at once can be read one by one: too many to look at."""
    log = [f"{n}\t:invoke\t:write\t{n}" for n in range(24)]
    log += [f"{n}\t:ok\t:write\t{n}" for n in range(24)]
    for n in range(24):
        log += [f"{n}\t:invoke\t:read\tnil", f"{n}\t:ok\t:read\t{n}"]
    Path("hard.log").write_text("\n".join(log))
    base = ("verify", "--model", "register", "hard.log", "fine.log")
    done = electctl.run(*base, "--max-time", "50ms", check=3)
    assert "hard.log: inconclusive (48 operations)\nfine.log: linearizable" in done.stdout
    assert "hard.log: no verdict within 0.05 s" in done.stderr
    done = electctl.run(*base, "--max-memory", "1", "--json", check=3)
    assert "hard.log: no verdict within 1 MB" in done.stderr
    hard = json.loads(done.stdout.splitlines()[0])
    validate("verify-model", hard)
    assert (hard["verdict"], hard["limit"], hard["undecided"]) == ("inconclusive", "memory", [""])
    done = electctl.run(*base, "stale.log", "--max-memory", "1", check=1)
    assert "stale.log: not linearizable" in done.stderr


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model", "queue", "fine.log"), "--model: 'queue' is none of register, map"),
        (("--max-time", "5s", "fine.log"), "--max-time and --max-memory are for --model"),
        (("--model", "map", "fine.log"), "fine.log:1: it must be one map in braces"),
        (("--model", "register", "none.log"), "none.log cannot be read: No such file"),
        (("--model", "register", "."), ". is not a regular file"),
        (("--model", "register", "empty.log"), "empty.log: there is no operation in it"),
        (("--model", "register", "bytes.log"), "bytes.log:2: it is not UTF-8"),
        (("--model", "register", "long.log"), "long.log:1: the line is longer than"),
        (("--model", "register", "--max-memory", "0", "fine.log"), "--max-memory must be 1"),
    ],
)
def test_what_cannot_be_judged(electctl: Electctl, args: tuple[str, ...], said: str) -> None:
    Path("empty.log").write_text("\n")
    Path("bytes.log").write_bytes(b"0\t:invoke\t:read\tnil\n\xff\n")
    Path("long.log").write_text("x" * 2_000_000)
    done = electctl.run("verify", *args, check=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 2


def test_long_values_and_orders_are_cut() -> None:
    history = [Operation("append", 2 * n, 2 * n + 1, f"[{n}]", process="0") for n in range(40)]
    history.append(Operation("get", 100, 101, None, "\x1b[1m", "1"))
    log = read_map(made.map_log(history).replace("\x1b", "\\t").splitlines(), "log")
    found = judge(log, MAP, Limits())
    assert found.violation is not None
    text = timeline.explanation(found.violation, 80)
    assert "its last 12 of 40" in text
    assert max(map(len, text.splitlines())) < 110
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
