"""Which descriptors a command gets, as under env, timeout and flock: what electctl was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Electctl, wait_for

#: Says which descriptors it has, by number, and what each is.
LIST = (
    "import json, os, sys\n"
    "def at(fd):\n"
    "    try: return os.readlink(f'/proc/self/fd/{fd}')\n"
    "    except OSError: return None\n"
    "print(json.dumps({fd: at(fd) for fd in range(256) if at(fd)}))\n"
)
COMMAND = (sys.executable, "-ISc", LIST)


def listed(text: str) -> dict[int, str]:
    return {int(fd): what for fd, what in json.loads(text).items()}


def test_the_command_gets_what_electctl_was_given_and_nothing_of_ours(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    process = electctl.popen(
        *("campaign", election, "-b", redis_url, "--events", str(tmp_path / "events")),
        *("--", *COMMAND),
        pass_fds=(reading, writing, file),
    )
    for fd in (reading, writing, file):
        os.close(fd)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    fds = listed(out)
    assert fds.keys() == {0, 1, 2, reading, writing, file}
    assert fds[file] == str(tmp_path / "file")


def test_the_hook_on_elected_gets_them_too_and_the_one_on_lost_does_not(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    (tmp_path / "list").write_text(LIST)
    hook = f"{sys.executable} -IS {tmp_path}/list >{tmp_path}"
    reading, writing = os.pipe()
    process = electctl.popen(
        *("campaign", election, "-b", redis_url, "--on-elected", f"{hook}/elected"),
        *("--on-lost", f"{hook}/lost", "--", "sh", "-c", "echo ready; exec sleep 60"),
        pass_fds=(writing,),
    )
    os.close(writing)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert electctl.run("evict", election, "-b", redis_url, "--wait", "20s").returncode == 0
    assert process.wait(30) == 79
    assert writing in listed((tmp_path / "elected").read_text())
    assert listed((tmp_path / "lost").read_text()).keys() == {0, 1, 2}
    # Nobody has it any more.
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize("how", ["fd:{}", "/dev/fd/{}", "/proc/self/fd/{}"])
def test_the_descriptor_of_events_is_ours_alone(
    electctl: Electctl, redis_url: str, election: str, how: str
) -> None:
    reading, writing = os.pipe()
    process = electctl.popen(
        *("campaign", election, "-b", redis_url, "--events", how.format(writing)),
        *("--", *COMMAND),
        pass_fds=(writing,),
    )
    os.close(writing)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert listed(out).keys() == {0, 1, 2}
    with os.fdopen(reading) as events:
        assert json.loads(events.readlines()[-1])["event"] == "finished"


def test_the_descriptor_of_the_result_is_ours_alone(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    reading, writing = os.pipe()
    process = electctl.popen(
        *("campaign", election, "-b", redis_url, "--result", f"/dev/fd/{writing}"),
        *("--", *COMMAND),
        pass_fds=(writing,),
    )
    os.close(writing)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert listed(out).keys() == {0, 1, 2}
    with os.fdopen(reading) as result:
        assert json.load(result)["outcome"] == "completed"


def test_socket_activation(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path
) -> None:
    """As systemd does it: the sockets from 3 on, and the process that they are for."""
    (tmp_path / "service").write_text(
        'test "$LISTEN_PID" = $$ && echo "ours $LISTEN_FDS ${LISTEN_PIDFDID-none}"\n'
        "test -e /proc/$$/fd/3 && test ! -e /proc/$$/fd/4 && echo there\n"
    )
    start = 'exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_PIDFDID=7; exec "$@"'
    argv = ["electctl", "campaign", election, "-b", redis_url, "--", "bash", f"{tmp_path}/service"]
    done = subprocess.run(
        ["sh", "-c", start, "sh", *argv], env=electctl.env, capture_output=True, text=True
    )
    assert done.stdout == "ours 1 none\nthere\n", done.stderr


def test_sockets_for_another_process_stay_so(
    electctl: Electctl, redis_url: str, election: str
) -> None:
    done = electctl.run(
        *("campaign", election, "-b", redis_url, "--", "sh", "-c", "echo $LISTEN_PID"),
        env={"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        check=0,
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_the_null_device(
    electctl: Electctl, redis_url: str, election: str, tmp_path: Path, closed: str
) -> None:
    """None of ours may get their numbers: the command would read from the store's connection."""
    program = LIST.replace("print(", f"open({str(tmp_path / 'fds')!r}, 'w').write(")
    start = f'exec "$@" {closed}'
    argv = [
        "electctl",
        "campaign",
        election,
        "-b",
        redis_url,
        "--",
        sys.executable,
        "-ISc",
        program,
    ]
    subprocess.run(["sh", "-c", start, "sh", *argv], env=electctl.env, check=True, timeout=30)
    fds = listed((tmp_path / "fds").read_text())
    # One more, above, is the file that it is written to.
    null = [fd for fd in range(3) if fds[fd] == os.devnull]
    assert len(null) >= closed.count("-")
    assert sorted(fds)[:3] == [0, 1, 2]
    assert len(fds) == 4


class TestPipesEnd:
    """A reader sees the end when the campaign is over, also if it has started local:'s server."""

    def shell(self, electctl: Electctl, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            env=electctl.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        electctl.run("raft", "stop", check=0)
        return done.stdout

    def test_of_a_substitution(self, electctl: Electctl) -> None:
        said = self.shell(electctl, 'x=$(electctl campaign j -- echo hi 2>&1); echo "$x"')
        assert "started the embedded server" in said
        assert "\nhi\n" in said

    def test_of_a_pipe(self, electctl: Electctl) -> None:
        assert self.shell(electctl, "electctl campaign j -q -- echo hi | cat") == "hi\n"

    def test_of_a_substituted_file(self, electctl: Electctl) -> None:
        line = "cat <(electctl campaign j -q -- echo hi) <(echo more)"
        assert self.shell(electctl, line) == "hi\nmore\n"

    def test_of_a_descriptor_that_is_given(self, electctl: Electctl) -> None:
        line = "exec 4>&1; (electctl campaign j -q -- sh -c 'echo hi >&3' 3>&1 >&4 4>&-) | cat"
        assert self.shell(electctl, line) == "hi\n"

    def test_when_electctl_is_killed(
        self, electctl: Electctl, redis_url: str, election: str
    ) -> None:
        """Then the guardian is the last to have it."""
        reading, writing = os.pipe()
        process = electctl.popen(
            *("campaign", election, "-b", redis_url, "--", "sh", "-c", "echo ready; exec sleep 60"),
            pass_fds=(writing,),
        )
        os.close(writing)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert os.read(reading, 1) == b""
        os.close(reading)
        wait_for(lambda: process.poll() is not None)
