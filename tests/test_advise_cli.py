"""``electctl advise`` from the outside: ways in and out, checks for CI, budget, dialogue."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from electctl.advise import budget
from electctl.cli.app import COMMANDS, invoke
from electctl.core import lease
from electctl.core.registry import plugin, schemes
from electctl.drill.catalogue import applicable
from electctl.faults.library import find
from tests.campaigns import validate
from tests.processes import Electctl, wait_for

pytestmark = pytest.mark.warm

NIGHTLY = {"audit": "no", "actions": "idempotent", "stakes": "low", "partitions": "rare"}
PAYMENTS = {
    "audit": "yes",
    "actions": "irreversible",
    "stakes": "high",
    "partitions": "rare",
    "resource": "checks",
}
REDIS = "redis://:s3cret@127.0.0.1:1/0"
ETCD = "etcd://127.0.0.1:1"
#: Commands of the contract that come later.
PLANNED = {"drill", "bench", "simulate", "doctor"}
CONFIG = f"""
answers: {{partitions: rare, audit: no}}
backend: {REDIS}
elections:
  nightly:
    answers: {{actions: idempotent, stakes: low}}
  payments:
    backend: [{ETCD}, '{REDIS}']
    answers:
      audit: yes
      actions: irreversible
      stakes: high
      resource: unknown
"""


def given(answers: dict[str, str]) -> list[str]:
    return [word for key, value in answers.items() for word in ("--set", f"{key}={value}")]


def objects(text: str, schema: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for obj in found:
        validate(schema, obj)
    return found


# Ways in -----------------------------------------------------------------------------------------


def test_answers_from_a_file_stdin_and_the_command_line(electctl: Electctl) -> None:
    (electctl.home / "a.yaml").write_text("audit: false\nactions: idempotent\n")
    mixed = ["--answers", "a.yaml", "--set", "stakes=high", *given({"partitions": "rare"})]
    done = electctl.run("advise", "--json", *mixed, "--set", "stakes=low", check=0)
    (verdict,) = objects(done.stdout, "advise")
    assert {key: verdict["answers"][key]["value"] for key in NIGHTLY} == NIGHTLY
    assert verdict["class"] == "lock"
    assert done.stderr == ""
    stdin = json.dumps(NIGHTLY, indent="\t")
    piped = electctl.run("advise", "--json", "--answers", "-", input=stdin, check=0)
    assert piped.stdout == done.stdout


def test_what_is_missing_is_named(electctl: Electctl) -> None:
    done = electctl.run("advise", "--set", "audit=yes", check=2)
    assert done.stdout == ""
    assert "answers are missing: actions, stakes, partitions, resource" in done.stderr
    assert "hint: --set actions=idempotent|reversible|irreversible, or actions=un" in done.stderr


def test_unknown_is_an_answer_and_said(electctl: Electctl) -> None:
    answers = given({**NIGHTLY, "partitions": "unknown"})
    text = electctl.run("advise", *answers, check=0).stdout
    assert "Not known, so counted as the safe side: partitions." in text
    (verdict,) = objects(electctl.run("advise", *answers, "--json", check=0).stdout, "advise")
    assert verdict["class"] == "consensus"
    assert verdict["answers"]["partitions"]["state"] == "unknown"


def test_a_tree_of_ones_own(electctl: Electctl) -> None:
    page = (Path(__file__).parent.parent / "docs" / "advise.md").read_text()
    (electctl.home / "own.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    done = electctl.run("advise", "--tree", "own.yaml", "--set", "money=yes", "--json", check=0)
    (verdict,) = objects(done.stdout, "advise")
    assert (verdict["tree"], verdict["class"]) == ("own.yaml", "consensus")
    assert verdict["path"][0]["because"] == "Rule 4 of our handbook."


def test_a_backend_of_a_third_party_takes_part_by_itself(
    electctl: Electctl, tmp_path: Path
) -> None:
    """As pip would install it: a package on the path, and its entry point."""
    dist = tmp_path / "electctl_file-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: electctl-file\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[electctl.backends]\nfile = electctl_file:PLUGIN\n")
    package = Path(__file__).parent / "example_backend"
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{package}"}
    done = electctl.run("advise", "--json", *given(NIGHTLY), env=env, check=0)
    (verdict,) = objects(done.stdout, "advise")
    (file,) = [one for one in verdict["refused"] if one["schemes"] == ["file"]]
    assert [(lack["trait"], lack["actual"]) for lack in file["lacks"]] == [("reach", "host")]
    here = ["--set", "hosts=one", "--check", "file:///tmp/x"]
    electctl.run("advise", *given(NIGHTLY), *here, env=env, check=0)


# Ways out ----------------------------------------------------------------------------------------


def test_text_and_markdown_say_the_same(electctl: Electctl) -> None:
    answers = given({**PAYMENTS, "existing": "redis", "actions": "idempotent"})
    text = electctl.run("advise", *answers, check=0).stdout
    text = re.sub(r"\n {4}", " ", text)  # as if the terminal were endless
    markdown = electctl.run("advise", *answers, "--markdown", check=0).stdout
    assert markdown.startswith("## Leader election: consensus-backed\n")
    for title in ("Verdict", "Conflicts", "Because", "Needed", "Refused", "Given up", "Fencing"):
        assert title.upper() in text.splitlines()
        assert f"### {title}" in markdown.splitlines()
    assert "- [1] An audit or a regulation demands provable single leadership (aud" in markdown
    assert "exclusion is lease; needed: a majority agrees" in text
    assert "Redis is there already, yet" in text
    for line in (line for line in markdown.splitlines() if line.startswith("- ")):
        assert line[2:] in text
    blocks = [block.partition("```")[0] for block in markdown.split("```sh\n")[1:]]
    tried, drilled = (block.splitlines() for block in blocks)
    assert tried[0].startswith("electctl lab up ")
    assert drilled[0].startswith("electctl drill run etcd --fault ")
    assert markdown.endswith(blocks[-1] + "```\n"), "the drills come last"
    for command in (*tried, *drilled):
        words = shlex.split(re.sub(r'eval "\$\((.*)\)"', r"\1", command))[1:]
        assert words[0] in COMMANDS
        depth = 2 if words[0] in ("lab", "drill") else 1
        assert invoke([*words[:depth], "--help", *words[depth:]]) == 0


def test_the_drills_are_those_that_the_choice_needs(electctl: Electctl) -> None:
    """Each is of the scheme that is recommended, and of a fault that applies to it."""
    for answers in (NIGHTLY, PAYMENTS, {**NIGHTLY, "existing": "redis"}):
        done = electctl.run("advise", *given(answers), "--json", check=0).stdout
        (verdict,) = objects(done, "advise")
        scheme = verdict["recommended"]
        for drill in verdict["drills"]:
            assert drill.startswith(f"electctl drill run {scheme} --fault ")
            assert find(drill.rpartition(" ")[2]).name in applicable(scheme)
        assert verdict["drills"] or scheme == "local", "the embedded store has no lab"


def test_no_output_names_a_command_that_does_not_exist(electctl: Electctl) -> None:
    unknown = given(dict.fromkeys(PAYMENTS, "unknown"))
    slow = given({**NIGHTLY, "priority": "speed"})
    for args in (unknown, slow, [*unknown, "--markdown"], [*slow, "--json"], ["--show"]):
        text = electctl.run("advise", *args, check=0).stdout
        assert not set(re.findall(r"electctl\s+([a-z]+)", text)) & PLANNED - set(COMMANDS)


def test_the_tree_drawn(electctl: Electctl) -> None:
    bare = electctl.run("advise", "--show", check=0).stdout
    assert "===>" not in bare
    answers = given({**NIGHTLY, "audit": "yes"})
    text = electctl.run("advise", "--show", *answers, env={"COLUMNS": "80"}, check=0).stdout
    assert "+===> [1] audit=yes" in text
    assert "+---- [2] actions=irreversible" in text
    assert "(overruled)" in text
    assert "audit: no | [yes]" in text
    assert max(map(len, text.splitlines())) <= 80
    (tree,) = objects(electctl.run("advise", "--show", "--json", check=0).stdout, "advise-tree")
    assert {rule["fired"] for rule in tree["rules"]} == {None}
    shown = electctl.run("advise", "--show", "--json", *given(NIGHTLY), check=0).stdout
    (tree,) = objects(shown, "advise-tree")
    assert [rule["rule"] for rule in tree["rules"] if rule["fired"]] == ["enough", "several-hosts"]


# Checks ------------------------------------------------------------------------------------------


def test_a_url_is_judged(electctl: Electctl) -> None:
    weak = electctl.run("advise", *given(PAYMENTS), "--check", REDIS, check=1)
    assert "redis://:***@127.0.0.1:1/0: too weak" in weak.stdout
    assert "token_sound is no; needed: a fencing token" in weak.stdout
    assert "(rule 1, audited: audit=yes)" in " ".join(weak.stdout.split())
    electctl.run("advise", *given(PAYMENTS), "--check", ETCD, check=0)
    electctl.run("advise", *given(NIGHTLY), "--check", REDIS, check=0)
    done = electctl.run("advise", *given(PAYMENTS), "--check", REDIS, "--json", check=1)
    (judged,) = objects(done.stdout, "advise-check")
    assert (judged["fit"], judged["election"]) == (False, None)
    assert [lack["trait"] for lack in judged["lacks"]] == ["exclusion", "token_sound"]
    assert "s3cret" not in done.stdout + weak.stdout


def test_the_elections_of_a_config_file_are_judged(electctl: Electctl) -> None:
    path = electctl.home / "electctl.yaml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    elsewhere = {"ELECTCTL_BACKEND": ETCD}
    good = electctl.run("advise", "--check", "nightly", env=elsewhere, check=0)
    assert good.stdout == (
        "nightly on redis://:***@127.0.0.1:1/0: strong enough (lock-based is needed)\n"
    )
    electctl.run(
        "advise",
        "--check",
        "nightly",
        "--set",
        "stakes=high",
        *given({"resource": "checks"}),
        check=1,
    )
    done = electctl.run("advise", "--check-all", "--json", check=1)
    judged = objects(done.stdout, "advise-check")
    assert [(one["election"], one["scheme"], one["fit"]) for one in judged] == [
        ("nightly", "redis", True),
        ("payments", "etcd", True),
        ("payments", "redis", False),
    ]
    assert judged[1]["answers"]["partitions"] == {"value": "rare", "state": "given", "asked": True}
    assert judged[1]["answers"]["resource"]["state"] == "unknown"
    assert "s3cret" not in done.stdout + good.stdout

    path.write_text(f"backend: {ETCD}\nelections:\n  a:\n    answers: {NIGHTLY}\n  b:\n")
    done = electctl.run("advise", "--check-all", check=0)
    assert done.stdout == f"a on {ETCD}: strong enough (lock-based is needed)\n"
    assert done.stderr == "electctl: 'b' has no answers, so it is not judged\n"


# The budget --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "timing",
    [
        ["--ttl", "100ms"],
        ["--ttl", "10s", "--grace", "9.6s"],
        ["--ttl", "0s"],
    ],
    ids=" ".join,
)
def test_unsafe_timing_is_refused_in_the_words_of_campaign(
    electctl: Electctl, timing: list[str]
) -> None:
    said = electctl.run("campaign", "a", "-b", REDIS, *timing, "--", "true", check=78)
    told = electctl.run("advise", "--budget", "-b", REDIS, *timing, check=78)
    assert told.stderr == said.stderr
    assert told.stdout == ""


def test_the_budget_of_several_backends(electctl: Electctl) -> None:
    args = ["advise", "--budget", "-b", REDIS, "-b", "zk", "--ttl", "6s", "--grace", "1s"]
    text = electctl.run(*args, check=0).stdout
    assert "redis://:***@127.0.0.1:1/0 with ttl 6 s and grace 1 s: safe." in text
    assert "4.79 s   TERM" in text
    redis, zk = objects(electctl.run(*args, "--json", check=0).stdout, "advise-budget")
    assert redis["backend"] == "redis://:***@127.0.0.1:1/0"
    assert zk["backend"] == "zk://"
    assert redis["kill"] == pytest.approx(6 - 0.11 - 0.1)
    assert zk["renew_interval"] < redis["renew_interval"]


def test_the_config_files_timing_counts(electctl: Electctl) -> None:
    (electctl.home / "electctl.yaml").write_text(f"backend: {ETCD}\nttl: 20s\n")
    (found,) = objects(
        electctl.run("advise", "--budget", "--json", check=0).stdout, "advise-budget"
    )
    assert (found["backend"], found["ttl"]) == (ETCD, 20)


@pytest.mark.parametrize("scheme", schemes())
@pytest.mark.parametrize("ttl", [None, 4.0, 60.0])
def test_the_budget_is_what_the_lease_does(scheme: str, ttl: float | None) -> None:
    """The machine of a campaign, left without an answer, does each thing when the budget says."""
    traits = plugin(scheme).traits_of(scheme)
    planned = budget.plan(traits, ttl)
    timing = planned.timing
    held = lease.Lease(timing, since=0.0, ttl=timing.ttl)
    # A proof that lies some renewals back was sent by as many: the next goes out after those.
    lag = timing.proof_lag * timing.renew_interval
    seen: dict[str, float] = {}
    held.start(0.0)
    while (now := held.wake_at()) is not None:
        for told in held.handle(lease.Tick(), now):
            seen.setdefault(type(told).__name__, now)
    assert seen["SendRenewal"] + lag == pytest.approx(planned.renew)
    assert seen["StepDown"] == pytest.approx(planned.term)
    assert held.kill_at == pytest.approx(planned.kill)
    assert seen["Ended"] == pytest.approx(planned.valid_until)
    assert planned.detect == pytest.approx(planned.renew + timing.request_timeout)
    assert planned.detect + planned.spare == pytest.approx(planned.term)
    assert planned.kill < planned.valid_until < planned.expiry <= planned.takeover
    assert planned.failover >= planned.expiry


# What is loaded ----------------------------------------------------------------------------------


def _loaded(*args: str) -> set[str]:
    code = f"""
import sys
from electctl.__main__ import run
assert run({list(args)!r}) == 0
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_only_advise_loads_advise_and_only_a_terminal_rich() -> None:
    assert not {name for name in _loaded("backends") if name.startswith("electctl.advise")}
    loaded = _loaded("advise", *given(NIGHTLY))
    assert "electctl.advise.evaluator" in loaded
    assert not loaded & {
        "rich",
        "redis",
        "etcd3",
        "kazoo",
        "electctl.core.lease",
        "electctl.core.elector",
    }


# On a terminal -----------------------------------------------------------------------------------


class Terminal:
    """What a person sees and types."""

    def __init__(self, process: subprocess.Popen[str], main: int) -> None:
        self.process = process
        self._main = main
        self._raw = b""

    @property
    def seen(self) -> str:
        return self._raw.decode(errors="replace")  # the last character may be cut in two

    def _read(self) -> str:
        with suppress(OSError):  # EIO is how Linux says that the other side has closed
            while select.select([self._main], [], [], 0)[0]:
                self._raw += os.read(self._main, 4096)
        return self.seen

    def type(self, text: str, until: str) -> str:
        """Type it, and return what was shown since, up to and including ``until``."""
        before = len(self._read())
        os.write(self._main, text.encode())
        wait_for(lambda: until in self._read()[before:], what=f"{until!r} after {text!r}")
        return self.seen[before:]

    def end(self) -> int:
        wait_for(lambda: self._read() is not None and self.process.poll() is not None)
        self._read()
        return self.process.returncode


@contextmanager
def terminal(electctl: Electctl, *args: str, **env: str) -> Iterator[Terminal]:
    """``electctl`` with a terminal of its own, that Ctrl-C reaches."""
    main, side = pty.openpty()
    process = electctl.popen(
        *args,
        env={"TERM": "xterm", "COLUMNS": "100", "LINES": "40", **env},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(side)
    try:
        yield Terminal(process, main)
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_the_whole_dialogue(electctl: Electctl) -> None:
    with terminal(electctl, "advise", NO_COLOR="1") as person:
        first = person.type("", "audit [unknown]: ")
        assert "1. Must you be able to prove that exactly one leader acted" in first
        assert "A lease proves who held it, never who acted." in first
        assert "3) unknown         counts as yes" in first
        assert "Answer yes if an auditor" in person.type("?\n", "audit [unknown]: ")
        assert "This is the first question." in person.type("b\n", "audit [unknown]: ")
        assert "did you mean yes?" in person.type("yess\n", "audit [unknown]: ")
        assert "it is one of no, yes, unknown" in person.type("9\n", "audit [unknown]: ")
        person.type("2\n", "actions [unknown]: ")
        again = person.type("back\n", "audit [unknown]: ")
        assert "1. Must you be able to prove" in again
        person.type("no\n", "actions [unknown]: ")
        person.type("IDEM\n", "stakes [unknown]: ")
        person.type("1\n", "building [no]: ")
        person.type("\n", "partitions [unknown]: ")
        person.type("rare\n", "existing [none]: ")  # no question about the resource
        person.type("\n", "hosts [several]: ")
        person.type("\n", "priority [safety]: ")
        person.type("speed\n", "resume [no]: ")
        person.type("\n", "order [any]: ")
        person.type("\n", "handover [any]: ")
        panel = person.type("\n", "╯")
        assert person.end() == 0
    assert "lock-based: A lock with a time limit is enough." in panel
    assert "audit=no" in panel
    assert "handover=any: some seconds do not matter" in panel
    assert "\x1b[3" not in panel, "no colour"


def test_only_what_is_missing_is_asked_and_stdout_stays_data(electctl: Electctl) -> None:
    answers = given({k: v for k, v in NIGHTLY.items() if k != "partitions"})
    rest = ["building=no", "existing=none", "hosts=one", "priority=speed", "resume=no"]
    rest = [f"--set={pair}" for pair in (*rest, "order=any", "handover=any")]
    main, side = pty.openpty()
    process = electctl.popen("advise", "--json", *answers, *rest, stdin=side, stderr=side)
    os.close(side)
    person = Terminal(process, main)
    person.type("", "partitions [unknown]: ")
    os.write(main, b"common\n")
    stdout, _ = process.communicate(timeout=20)
    os.close(main)
    (verdict,) = objects(stdout, "advise")
    assert (process.returncode, verdict["class"]) == (0, "consensus")


def test_ctrl_c_in_the_dialogue_is_130_and_clean(electctl: Electctl) -> None:
    with terminal(electctl, "advise") as person:
        person.type("", "audit [unknown]: ")
        person.type("yes\n", "actions [unknown]: ")
        os.write(person._main, b"\x03")
        assert person.end() == 130
        assert "Traceback" not in person.seen
        assert person.seen.endswith("\n")


def test_the_end_of_the_input_names_what_is_missing(electctl: Electctl) -> None:
    with terminal(electctl, "advise") as person:
        person.type("", "audit [unknown]: ")
        os.write(person._main, b"\x04")
        assert person.end() == 2
        assert "answers are missing: audit, actions" in person.seen


def test_a_panel_on_a_terminal_and_plain_text_on_a_dumb_one(electctl: Electctl) -> None:
    with terminal(electctl, "advise", *given(NIGHTLY)) as person:
        assert person.end() == 0
    assert "╭" in person.seen
    assert "\x1b[" in person.seen
    with terminal(electctl, "advise", *given(NIGHTLY), TERM="dumb") as person:
        assert person.end() == 0
    assert person.seen.startswith("VERDICT\r\n")
    assert "\x1b" not in person.seen
