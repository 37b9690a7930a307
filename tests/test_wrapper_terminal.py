"""A campaign on a terminal, started by a real interactive shell: it behaves like any other job."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from electctl.campaign import procfs
from electctl.campaign.process import Process
from electctl.campaign.tree import Tree
from electctl.lab.cluster import Cluster
from tests.processes import Electctl, wait_for
from tests.terminals import PROMPT, SHELL, Screen, screen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a session of its own")

#: Counts signals, and says so. Ends at the first SIGTERM, or after a line on standard input.
COUNT = """
import os, signal, sys
def report(number, frame):
    os.write(1, b"<%d>" % number)
for name in "INT", "QUIT", "WINCH", "TERM", "USR1", "PWR":
    signal.signal(getattr(signal, "SIG" + name), report)
print("pid", os.getpid(), flush=True)
line = sys.stdin.readline()
print("read", line, flush=True)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "count").write_text(COUNT)
    return tmp_path


@pytest.fixture
def shell(electctl: Electctl, programs: Path) -> Iterator[Screen]:
    env = {**electctl.env, "PY": f"{sys.executable} -IS", "DIR": str(programs), "INNER": "inner>\n"}
    with screen(SHELL, env) as made:
        made.expect(PROMPT)
        # Ctrl-C otherwise discards what was written a moment ago, or a moment later.
        made.run("stty -echoctl noflsh", PROMPT)
        yield made
        # The shell has its terminal back, and is not hung.
        made.run("echo al''ive", "^alive$")


@pytest.fixture
def campaign(redis_url: str, election: str) -> str:
    """How a campaign is started; the options and the command follow."""
    return f"electctl campaign {election} -b {redis_url} --ttl 30s"


def leader(election: str) -> int:
    """electctl's process."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(entry.parent.name)
        if b"campaign" in words and election.encode() in words and name(pid) == "electctl":
            return pid
    raise AssertionError("it does not run")


def process(pid: int) -> Process:
    found = procfs.read(pid)
    assert found is not None
    return found


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def pid_of_command(screen: Screen) -> int:
    return int(screen.expect(r"^pid (\d+)$")[1])


def let_it_pass_on(shell: Screen, election: str) -> None:
    """Until all that came before, with a smaller number, has been passed on."""
    os.kill(leader(election), signal.SIGPWR)
    shell.expect(f"<{int(signal.SIGPWR)}>")


def test_the_command_shares_the_terminal_and_the_guardian_stands_aside(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type(f"{campaign} -- sh -c ': </dev/tty && echo pid $$ && exec sleep 60'\n")
    command = process(pid_of_command(shell))
    ours = process(leader(election))
    assert (command.session, command.group) == (ours.session, ours.group)
    assert ours.session == shell.pid
    guardian = process(command.parent)
    assert guardian.session == ours.session
    assert guardian.group not in (ours.group, shell.pid)
    shell.type("\x03")
    shell.run("echo status $?", "^status 130$")


def test_ctrl_c_reaches_the_command_once(shell: Screen, campaign: str, election: str) -> None:
    shell.type(f"{campaign} -- $PY $DIR/count\n")
    pid_of_command(shell)
    shell.type("\x03")
    shell.expect("<2>")
    let_it_pass_on(shell, election)
    # It has not ended of it, so it may still read.
    shell.type("a line\n")
    shell.expect("^read a line$")
    shell.run("echo status $?", "^status 0$")
    assert shell.text.count("<2>") == 1
    assert "<15>" not in shell.text


def test_ctrl_c_ends_a_loop_of_the_shell(shell: Screen, campaign: str) -> None:
    command = "sh -c 'echo pid $$; exec sleep 60'"
    shell.run(f"for i in 1 2 3; do {campaign} -q -- {command}; echo ne''xt; done", "^pid")
    shell.type("\x03")
    shell.expect(PROMPT)
    shell.run("echo status $?", "^status 130$")
    assert "\nnext" not in shell.text


def test_a_loop_goes_on_after_a_command_that_has_handled_it(shell: Screen, campaign: str) -> None:
    """As with an editor: what the command does not die of is no end of the loop."""
    command = "sh -c 'trap \"exit 3\" INT; echo pid $$; while :; do sleep 0.05; done'"
    shell.type(f"for i in 1 2; do {campaign} -q -- {command}; echo ne''xt $?; done\n")
    for _ in range(2):
        pid_of_command(shell)
        shell.type("\x03")
        shell.expect("next 3$")


def test_ctrl_c_while_waiting_ends_a_loop_too(
    shell: Screen, campaign: str, electctl: Electctl, redis_url: str, election: str
) -> None:
    other = electctl.popen("campaign", election, "-b", redis_url, "--id", "other")
    electctl.run("watch", election, "-b", redis_url, "--until-holder", "other", "--for", "20s")
    shell.run(f"for i in 1 2 3; do {campaign} -- true; echo ne''xt; done", "campaigning|waiting")
    shell.expect("other")
    shell.type("\x03")
    shell.expect(PROMPT)
    shell.run("echo status $?", "^status 130$")
    assert "\nnext" not in shell.text
    other.terminate()
    assert other.wait(20) == 0


@pytest.mark.parametrize("command", ["evict", "watch"])
def test_ctrl_c_ends_a_loop_around_other_commands(
    shell: Screen, redis_url: str, redis_cluster: Cluster, election: str, command: str
) -> None:
    redis.Redis.from_url(redis_cluster.url).set(election, "a-foreign-tool", px=60_000)
    shell.type(
        f"for i in 1 2 3; do electctl {command} {election} -b {redis_url}; echo ne''xt; done\n"
    )
    shell.expect("a-foreign-tool")
    shell.type("\x03")
    shell.expect(PROMPT)
    shell.run("echo status $?", "^status 130$")
    assert "\nnext" not in shell.text


def test_ctrl_backslash_is_the_commands(
    shell: Screen, campaign: str, redis_cluster: Cluster, election: str
) -> None:
    shell.type("ulimit -c 0\n")
    shell.run(f"{campaign} -q -- $PY $DIR/count", r"^pid")
    for _ in range(5):
        shell.type("\x1c")
        shell.expect("<3>")
        let_it_pass_on(shell, election)
    shell.type("a line\n")
    shell.expect("^read a line$")
    shell.run("echo status $?", "^status 0$")
    assert shell.text.count("<3>") == 5
    shell.run(f"{campaign} -q -- sh -c 'echo pid $$; exec sleep 60'", r"^pid")
    shell.type("\x1c")
    shell.expect("Quit")
    shell.run("echo status $?", "^status 131$")
    assert not redis.Redis.from_url(redis_cluster.url).exists(election)


def test_a_new_size_reaches_the_command_once(shell: Screen, campaign: str, election: str) -> None:
    shell.run(f"{campaign} -q -- $PY $DIR/count", r"^pid")
    for rows in range(50, 55):
        shell.resize(rows, 100)
        shell.expect("<28>")
        let_it_pass_on(shell, election)
    shell.type("a line\n")
    shell.expect("^read a line$")
    assert shell.text.count("<28>") == 5


def test_what_is_sent_to_electctl_by_kill_is_forwarded(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.run(f"{campaign} -q -- $PY $DIR/count", r"^pid")
    for signum in (signal.SIGUSR1, signal.SIGQUIT, signal.SIGTERM):
        os.kill(leader(election), signum)
        shell.expect(f"<{int(signum)}>")
    shell.type("a line\n")
    shell.expect("^read a line$")
    shell.expect(PROMPT)
    assert [shell.text.count(f"<{n}>") for n in (10, 3, 15)] == [1, 1, 1]


def test_a_command_that_has_left_our_group_hears_of_ctrl_c(shell: Screen, campaign: str) -> None:
    shell.run(f"{campaign} -q -- setsid sh -c 'echo pid $$; exec sleep 60'", r"^pid")
    shell.type("\x03")
    shell.expect(PROMPT)
    shell.run("echo status $?", "^status 130$")


def test_ctrl_z_stops_both_and_fg_continues_both(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type(f"{campaign} -q -- $PY $DIR/count\n")
    command = pid_of_command(shell)
    ours = leader(election)
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    # The shell waits for electctl alone.
    wait_for(lambda: (state(command), state(ours)) == ("T", "T"), what="both are stopped")
    shell.run("echo prom''pt", "^prompt$")
    shell.type("fg\n")
    wait_for(lambda: "T" not in state(command) + state(ours), what="both go on")
    shell.type("a line\n")
    shell.expect("^read a line$")
    shell.run("echo status $?", "^status 0$")


def test_ctrl_z_for_longer_than_the_lease_loses_it(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type(f"{campaign} --ttl 2s -- $PY $DIR/count\n")
    command = pid_of_command(shell)
    ours = leader(election)
    shell.type("\x1a")
    shell.expect("Stopped")
    wait_for(lambda: not os.path.exists(f"/proc/{command}"), what="the guardian kills it")
    assert state(ours) == "T"
    shell.run("fg", "we lost leadership")
    shell.run("echo status $?", "^status 79$")


def test_in_the_background_the_command_reads_nothing(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type(f"{campaign} -q -- $PY $DIR/count &\n")
    command = pid_of_command(shell)
    wait_for(lambda: state(command) == "T", what="it is stopped, as it wants to read")
    shell.run("echo ty''ped", "^typed$")
    wait_for(lambda: state(leader(election)) == "T", what="electctl too, for the shell to see")
    # The kernel's word of it may reach the shell a little later.
    shell.run("until [[ $(jobs) == *St''opped* ]]; do sleep 0.02; done; jobs", "Stopped")
    shell.type("fg\n")
    wait_for(lambda: state(command) != "T", what="it goes on")
    shell.type("for it\n")
    shell.expect("^read for it$")
    shell.expect(PROMPT)


def test_messages_do_not_stop_a_campaign_in_the_background(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type("stty tostop\n")
    shell.run(f"{campaign} -v --ttl 2s -- sleep 60 &", "renewed|renewal")
    assert state(leader(election)) in ("S", "R")
    shell.type("kill %1; wait; stty -tostop\n")
    shell.expect(PROMPT)


def test_an_interactive_shell_has_job_control(shell: Screen, campaign: str, election: str) -> None:
    inner = f"PS1=$INNER {campaign} -q -- bash --norc --noprofile --noediting -i"
    shell.type(inner + "\n")
    shell.expect("^inner>$")
    itself = shell.foreground
    assert itself != process(leader(election)).group
    shell.type("sleep 60\n")
    wait_for(lambda: name(shell.foreground) == "sleep")
    shell.type("\x1a")
    shell.expect("Stopped")
    wait_for(lambda: shell.foreground == itself)
    shell.type("fg\n")
    wait_for(lambda: shell.foreground != itself)
    shell.type("\x03")
    shell.run("echo in''ner $?", "^inner 130$")
    assert state(leader(election)) in ("S", "R")
    assert "job control" not in shell.text
    shell.type("exit 4\n")
    shell.run("echo status $?", "^status 4$")


@pytest.mark.parametrize("by", ["the command's end", "eviction"])
def test_the_terminal_is_given_back_by_a_command_that_was_killed(
    shell: Screen, campaign: str, electctl: Electctl, redis_url: str, election: str, by: str
) -> None:
    """A script has no job control: nobody else would take the terminal back for it."""
    inner = f"PS1=\\$INNER {campaign} -q --grace 300ms -- bash --norc --noprofile --noediting -i"
    shell.type(f'sh -c "{inner}; echo script \\$?; read x; echo got \\$x"\n')
    shell.expect("^inner>$")
    shell.type("stty -echo; echo pid $$\n")
    command = pid_of_command(shell)
    shell.expect("^inner>$")
    assert not shell.echoes
    if by == "eviction":
        electctl.run("evict", election, "-b", redis_url, "--wait", "20s", check=0)
        shell.expect("^script 79$")
    else:
        os.kill(command, signal.SIGKILL)
        shell.expect("^script 137$")
    assert shell.echoes
    shell.type("a line\n")
    shell.expect("^got a line$")


def test_modes_that_a_command_leaves_at_its_own_end_are_its_own(
    shell: Screen, campaign: str
) -> None:
    shell.run(f"{campaign} -q -- stty -echo; echo do''ne", "^done$")
    assert not shell.echoes
    shell.type("stty echo\n")


def test_ctrl_z_where_nobody_could_continue_it_is_ignored(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    """As under script(1), ssh -t, docker run -t: there is no shell to come back to."""
    argv = ["electctl", "campaign", election, "-b", redis_url, "-q", "--", "sh", "-c"]
    with screen([*argv, "echo pid $$; exec cat"], electctl.env) as alone:
        command = pid_of_command(alone)
        alone.type("\x1a")
        alone.type("hello\n")
        alone.expect("hello\nhello$")
        assert "T" not in state(command) + state(alone.pid)
        alone.type("\x04")
        wait_for(lambda: state(alone.pid) == "Z")


def test_a_killed_electctl_takes_the_command_along(
    shell: Screen, campaign: str, election: str
) -> None:
    shell.type(f"{campaign} -q -- sh -c 'echo pid $$; (setsid sleep 61 &) ; exec sleep 60'\n")
    command = pid_of_command(shell)
    guardian = process(command).parent
    wait_for(lambda: len(Tree(guardian).look()) == 2)
    tree_of_it = [p.pid for p in Tree(guardian).look()]
    os.kill(leader(election), signal.SIGKILL)
    shell.expect("Killed")
    for pid in [*tree_of_it, guardian]:
        wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]


def test_a_killed_guardian_takes_the_command_along_and_spares_the_shells_own(
    shell: Screen, campaign: str
) -> None:
    shell.type(f"sleep 62 & {campaign} -- sh -c 'echo pid $$; (sleep 61 &); exec sleep 60'\n")
    command = pid_of_command(shell)
    guardian = process(command).parent
    wait_for(lambda: len(Tree(guardian).look()) == 2)
    tree_of_it = [p.pid for p in Tree(guardian).look()]
    os.kill(guardian, signal.SIGKILL)
    shell.expect("guardian process died")
    shell.expect(PROMPT)
    for pid in tree_of_it:
        assert not os.path.exists(f"/proc/{pid}")
    shell.run("echo status $?", "^status 79$")
    shell.run("jobs", "Running.*sleep 62")
    shell.type("kill %1\n")
