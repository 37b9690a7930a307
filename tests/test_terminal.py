"""``electctl watch`` at a real terminal, under a real shell: what it takes it gives back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from electctl.core.elector import connect
from tests.processes import Electctl, wait_for
from tests.terminal import ENTER, LEAVE, PROMPT, Terminal

STOPPED = re.compile(r"\[1\]\+  Stopped")

pytestmark = pytest.mark.quiet


@pytest.fixture
def terminal(electctl: Electctl) -> Iterator[Terminal]:
    with Terminal(electctl.env, str(electctl.home)) as terminal:
        yield terminal


@pytest.fixture
def watching(terminal: Terminal, redis_url: str, election: str) -> Terminal:
    """A watch that has drawn its table, after which ``stty -g`` was ``before``."""
    terminal.run("stty -g >before")
    terminal.keys(f"electctl watch {election} -b {redis_url}\n")
    terminal.wait(ENTER)
    terminal.wait("(nobody)")
    return terminal


def pid_of_watch(election: str) -> int:
    found = subprocess.run(["pgrep", "-f", f"watch {election}"], capture_output=True, check=True)
    return int(found.stdout.split()[0])


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def given_back(terminal: Terminal) -> None:
    """Screen, cursor and modes are what they were before the watch; stands at the prompt."""
    assert not terminal.on_other_screen
    assert not terminal.hides_cursor
    terminal.run("stty -g >after")
    assert "same modes" in terminal.run("cmp before after && echo same modes")


def by_signal(name: str) -> Callable[[Terminal, str], None]:
    def end(terminal: Terminal, election: str) -> None:
        subprocess.run(["kill", f"-{name}", str(pid_of_watch(election))], check=True)

    return end


def by_key(key: str) -> Callable[[Terminal, str], None]:
    return lambda terminal, election: terminal.keys(key)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(by_key("q"), 0, id="q"),
        pytest.param(by_key("\x03"), 130, id="Ctrl-C"),
        pytest.param(by_key("\x1c"), 131, id="Ctrl-backslash"),
        pytest.param(by_signal("TERM"), 143, id="TERM"),
        pytest.param(by_signal("HUP"), 129, id="HUP"),
        pytest.param(by_signal("INT"), 130, id="INT"),
    ],
)
def test_every_end_gives_the_terminal_back(
    watching: Terminal, election: str, end: Callable[[Terminal, str], None], code: int
) -> None:
    end(watching, election)
    last = watching.wait(LEAVE) + watching.wait(PROMPT)
    assert "Traceback" not in last
    # The last table is left where the command was typed.
    assert "(nobody)" in last.rpartition(LEAVE)[2]
    given_back_after = watching.run("echo code $?")
    assert f"code {code}" in given_back_after
    given_back(watching)


def test_what_is_typed_neither_shows_nor_reaches_the_shell(watching: Terminal) -> None:
    watching.keys("touch typed\ntouch typed\n")
    watching.keys("\x03")
    assert "touch" not in watching.wait(PROMPT)
    assert "typed" not in watching.run("ls")
    given_back(watching)


def test_ctrl_z_and_fg(watching: Terminal, redis_url: str, election: str) -> None:
    watching.keys("\x1a")
    assert LEAVE in watching.wait(PROMPT)
    given_back(watching)
    assert STOPPED.search(watching.run("jobs"))
    with connect(redis_url) as elector, elector.campaign(election, "worker-1", ttl=10, wait=10):
        watching.keys("fg\n")
        watching.wait(ENTER)
        watching.wait("worker-1")
    watching.wait("(nobody)")
    watching.keys("hidden\x1a")  # the terminal was taken again, echo included
    assert "hidden" not in watching.wait(PROMPT)
    watching.keys("fg\n")
    watching.wait(ENTER)
    watching.keys("q")
    watching.wait(PROMPT)
    given_back(watching)


def test_bg_waits_for_the_terminal_and_can_be_killed(watching: Terminal, election: str) -> None:
    watching.keys("\x1a")
    watching.wait(PROMPT)
    pid = pid_of_watch(election)
    watching.run("bg")
    wait_for(lambda: stopped(pid), what="it stops, because it may not draw")
    shown = watching.run("jobs")
    assert ENTER not in shown
    given_back(watching)
    watching.run("kill %1")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="it ends")
    watching.keys("true\n")  # before the next prompt the shell tells of jobs that have ended
    watching.wait("Exit 143")
    watching.wait(PROMPT)
    given_back(watching)


def test_stopped_by_others(watching: Terminal, election: str) -> None:
    """SIGSTOP cannot be seen. What the shell has done to the terminal meanwhile is undone."""
    pid = pid_of_watch(election)
    subprocess.run(["kill", "-STOP", str(pid)], check=True)
    watching.wait(PROMPT)
    watching.keys("fg\n")
    watching.wait(LEAVE)
    watching.wait(ENTER)
    watching.wait("(nobody)")
    watching.keys("q")
    watching.wait(PROMPT)
    given_back(watching)


def test_started_in_the_background_it_writes_lines(
    terminal: Terminal, redis_url: str, election: str
) -> None:
    terminal.run("stty -g >before")
    terminal.keys(f"electctl watch {election} -b {redis_url} &\n")
    terminal.wait(f"{election}: nobody leads")
    assert ENTER not in terminal.shown
    terminal.run("kill %1; wait")
    given_back(terminal)


def test_ctrl_c_ends_a_loop_around_it(terminal: Terminal, redis_url: str, election: str) -> None:
    terminal.run("stty -g >before")
    terminal.keys(f"while :; do electctl watch {election} -b {redis_url}; done\n")
    terminal.wait("(nobody)")
    terminal.keys("\x03")
    terminal.wait(PROMPT)
    given_back(terminal)


def test_a_window_that_is_made_smaller(watching: Terminal) -> None:
    assert "SEEN FOR" in watching.shown
    watching.resize(24, 40)
    watching.wait("\x1b[H")
    assert "SEEN FOR" not in watching.wait("(nobody)")
    watching.keys("q")
    watching.wait(PROMPT)
    given_back(watching)


def test_an_error_in_the_midst_of_it(terminal: Terminal, redis_url: str, election: str) -> None:
    """A record that cannot grow: the file may have one block, and a few changes fill it."""
    terminal.run("stty -g >before")
    terminal.keys(
        f"(ulimit -f 1; exec electctl watch {election} -b {redis_url} --record r.jsonl)\n"
    )
    terminal.wait("(nobody)")
    with connect(redis_url) as elector:
        for number in range(4):
            with elector.campaign(election, f"worker-{number}", ttl=10, wait=10):
                pass
    shown = terminal.wait(PROMPT)
    assert "electctl: no space left" in shown.rpartition(LEAVE)[2]
    assert "code 74" in terminal.run("echo code $?")
    given_back(terminal)


def test_the_window_is_closed(electctl: Electctl, redis_url: str, election: str) -> None:
    argv = ("electctl", "watch", election, "-b", redis_url)
    with Terminal(electctl.env, str(electctl.home), argv) as terminal:
        terminal.wait("(nobody)")
        terminal.hang_up()
        assert terminal.process.wait(10) == 129
