"""``electctl lab`` as a user runs it: servers that outlive the command, and what ends them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from electctl.cli import lab
from electctl.errors import UsageError
from electctl.lab import control
from electctl.lab.server import process
from electctl.lab.state import LabDir
from tests.processes import DEADLINE, Electctl, wait_for

pytestmark = pytest.mark.server

SCHEMAS = files("electctl") / "schemas"


def validated(line: str, schema: str = "lab") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    return found


def labs(electctl: Electctl) -> dict[str, dict[str, Any]]:
    """What ``lab status --json`` says, by name."""
    lines = electctl.run("lab", "status", "--json", check=0).stdout.splitlines()
    return {found["name"]: found for found in map(validated, lines)}


def address(url: str) -> tuple[str, int]:
    host, port = url.split("://")[1].split("/")[0].split(":")
    return host, int(port)


def redis(where: tuple[str, int], command: str) -> str:
    """One command to a Redis server, and the first line of what it answers."""
    with socket.create_connection(where, DEADLINE) as sock:
        sock.settimeout(DEADLINE)
        sock.sendall(command.encode() + b"\r\n")
        with sock.makefile() as lines:
            return lines.readline().strip()


def gone(pid: int) -> bool:
    found = process(pid)
    return found is None or found.state == "Z"


def lab_home(electctl: Electctl) -> Path:
    return electctl.home / "state" / "electctl" / "lab"


def keeper_of(server: int) -> int:
    found = process(server)
    assert found is not None
    return found.parent


@pytest.fixture
def slow_redis(electctl: Electctl) -> Iterator[Callable[[], list[int]]]:
    """A redis-server in PATH that starts and never answers; gives the pids that it had so far."""
    folder = electctl.home / "bin"
    folder.mkdir()
    pids = folder / "pids"
    program = folder / "redis-server"
    program.write_text(f'#!/bin/sh\necho "not today"\necho $$ >> {pids}\nexec sleep 600\n')
    program.chmod(0o755)
    electctl.env["PATH"] = f"{folder}{os.pathsep}{electctl.env['PATH']}"

    def started() -> list[int]:
        return [int(line) for line in pids.read_text().split()] if pids.exists() else []

    yield started
    assert all(map(gone, started()))


def test_up_prints_the_url_and_leaves_real_servers_running(electctl: Electctl) -> None:
    done = electctl.run("lab", "up", "redis", check=0)
    assert done.stdout.count("\n") == 1
    url = done.stdout.strip()
    assert "electctl lab down redis" in done.stderr
    assert 'eval "$(electctl lab env redis)"' in done.stderr
    assert redis(address(url), "PING") == "+PONG"
    mode = stat.S_IMODE((lab_home(electctl) / "redis").stat().st_mode)
    assert mode == 0o700


def test_up_again_finds_it_up(electctl: Electctl) -> None:
    first = electctl.run("lab", "up", "redis", check=0)
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    again = electctl.run("lab", "up", "redis", check=0)
    assert again.stdout == first.stdout
    assert "is up already" in again.stderr
    assert labs(electctl)["redis"]["servers"][0]["pid"] == pid


def test_up_with_other_wishes_is_refused(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    refused = electctl.run("lab", "up", "redis", "--proxy", check=2)
    assert "proxies True was asked for, it has False" in refused.stderr
    assert "hint: choose another --name" in refused.stderr


def test_two_ups_at_once_make_one_lab(electctl: Electctl) -> None:
    started = [electctl.popen("lab", "up", "redis") for _ in range(3)]
    ended = [process.communicate(timeout=DEADLINE) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert len({stdout for stdout, _ in ended}) == 1
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    folder = lab_home(electctl) / "redis" / "data" / "redis"
    there = [
        int(one.parent.name) for one in Path("/proc").glob("[0-9]*/cwd") if one_cwd(one) == folder
    ]
    assert there == [pid]


def one_cwd(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None


def test_down_ends_the_servers_and_removes_all(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    keeper = keeper_of(pid)
    done = electctl.run("lab", "down", check=0)
    assert "lab redis is down" in done.stderr
    assert gone(pid)
    wait_for(lambda: gone(keeper))
    assert list(lab_home(electctl).iterdir()) == []


def test_down_all_ends_all(electctl: Electctl) -> None:
    names = ["one", "two.b", "three+c"]
    for name in names:
        electctl.run("lab", "up", "redis", "--name", name, check=0)
    there = labs(electctl)
    assert set(there) == set(names)
    assert len({found["url"] for found in there.values()}) == 3
    several = electctl.run("lab", "down", check=2)
    assert "one, three+c, two.b" in several.stderr
    lines = electctl.run("lab", "down", "--all", "--json", check=0).stdout.splitlines()
    assert [validated(line)["state"] for line in lines] == ["removed"] * 3
    assert all(gone(found["servers"][0]["pid"]) for found in there.values())
    assert labs(electctl) == {}
    electctl.run("lab", "down", "--all", check=0)


def test_kept_data_and_the_url_are_there_again(electctl: Electctl) -> None:
    url = electctl.run("lab", "up", "redis", check=0).stdout.strip()
    assert redis(address(url), "SET kept yes") == "+OK"
    down = electctl.run("lab", "down", "redis", "--keep-data", "--json", check=0)
    assert validated(down.stdout)["state"] == "stopped"
    assert labs(electctl)["redis"]["state"] == "stopped"
    other = electctl.run("lab", "up", "rediss", "--name", "redis", check=2)
    assert "scheme rediss was asked for, it has redis" in other.stderr
    assert electctl.run("lab", "up", "redis", check=0).stdout.strip() == url
    assert redis(address(url), "EXISTS kept") == ":1"


def test_status_tells_which_server_answers(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    server = labs(electctl)["redis"]["servers"][0]
    assert (server["alive"], server["paused"], server["answering"]) == (True, False, True)
    os.kill(server["pid"], signal.SIGSTOP)
    server = labs(electctl)["redis"]["servers"][0]
    assert (server["alive"], server["paused"], server["answering"]) == (True, True, False)
    os.kill(server["pid"], signal.SIGKILL)
    wait_for(lambda: not labs(electctl)["redis"]["servers"][0]["alive"])
    shown = electctl.run("lab", "status", "redis", check=0).stdout
    assert "no process  silent: it was killed by signal 9" in shown


def test_env_is_for_eval(electctl: Electctl) -> None:
    url = electctl.run("lab", "up", "redis", check=0).stdout.strip()
    script = 'eval "$(electctl lab env)"; printf %s "$ELECTCTL_BACKEND"'
    done = subprocess.run(["sh", "-c", script], env=electctl.env, capture_output=True, text=True)
    assert done.stdout == url
    line = electctl.run("lab", "env", "redis", "--json", check=0).stdout
    assert validated(line, "lab-env") == {"ELECTCTL_BACKEND": url}
    electctl.run("lab", "down", "--keep-data", check=0)
    stopped = electctl.run("lab", "env", check=2)
    assert "lab redis is not up, it is stopped" in stopped.stderr


def test_a_password_of_another_backend_is_not_tried_on_the_lab(electctl: Electctl) -> None:
    electctl.env["ELECTCTL_PASSWORD"] = "for something else"
    url = electctl.run("lab", "up", "redis", check=0).stdout.strip()
    assert labs(electctl)["redis"]["url"] == url


def test_the_examples_of_the_help_work_in_this_order(electctl: Electctl) -> None:
    examples = "".join([lab.UP, lab.STATUS, lab.ENV, lab.LINK, lab.DOWN])
    script = "set -e\n" + examples
    done = subprocess.run(["sh", "-c", script], env=electctl.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert labs(electctl) == {}


def test_links_are_broken_and_healed(electctl: Electctl) -> None:
    line = electctl.run("lab", "up", "redis", "--proxy", "--json", check=0).stdout
    found = validated(line)
    proxy = address(found["url"])
    server = found["servers"][0]
    assert server["address"] != f"{proxy[0]}:{proxy[1]}"
    assert redis(proxy, "PING") == "+PONG"

    electctl.run("lab", "link", "redis", "cut", check=0)
    with pytest.raises(ConnectionRefusedError):
        redis(proxy, "PING")
    assert redis(address(f"redis://{server['address']}/"), "PING") == "+PONG"

    electctl.run("lab", "link", "redis", "swallow", "--server", "redis", check=0)
    with socket.create_connection(proxy, DEADLINE) as sock:
        sock.sendall(b"SET lost yes\r\n")
        wait_for(lambda: link_of(electctl)["requests"]["swallowed"] == 14)
        electctl.run("lab", "link", "redis", "heal", check=0)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert redis(proxy, "EXISTS lost") == ":0"

    electctl.run("lab", "link", "redis", "hold", "--direction", "requests", check=0)
    with socket.create_connection(proxy, DEADLINE) as sock:
        sock.sendall(b"SET late yes\r\n")
        wait_for(lambda: link_of(electctl)["requests"]["held"] == 14)
    assert redis(address(f"redis://{server['address']}/"), "EXISTS late") == ":0"
    electctl.run("lab", "link", "redis", "heal", check=0)
    wait_for(lambda: redis(proxy, "EXISTS late") == ":1")

    done = electctl.run("lab", "link", "redis", "delay", "1ms", "--json", check=0)
    assert validated(done.stdout)["servers"][0]["proxy"]["mode"] == "delay"
    assert "127.0.0.1" in electctl.run("lab", "status", check=0).stdout


def link_of(electctl: Electctl) -> dict[str, Any]:
    found: dict[str, Any] = labs(electctl)["redis"]["servers"][0]["proxy"]
    return found


def test_an_up_that_is_killed_leaves_nothing_behind(
    electctl: Electctl, slow_redis: Callable[[], list[int]]
) -> None:
    up = electctl.popen("lab", "up", "redis")
    wait_for(slow_redis)
    assert labs(electctl)["redis"]["state"] == "starting"
    up.kill()
    wait_for(lambda: all(map(gone, slow_redis())))
    wait_for(lambda: list(lab_home(electctl).iterdir()) == [])


def test_an_up_that_is_interrupted_says_so_and_cleans_up_first(
    electctl: Electctl, slow_redis: Callable[[], list[int]]
) -> None:
    up = electctl.popen("lab", "up", "redis")
    assert up.stderr is not None
    assert up.stderr.readline() == "electctl: still starting redis (2 s)\n"
    up.send_signal(signal.SIGINT)
    stdout, stderr = up.communicate(timeout=DEADLINE)
    assert (up.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert all(map(gone, slow_redis()))
    assert list(lab_home(electctl).iterdir()) == []


def test_a_server_that_ends_at_once_shows_its_last_words(
    electctl: Electctl, slow_redis: Callable[[], list[int]]
) -> None:
    (electctl.home / "bin" / "redis-server").write_text(
        "#!/bin/sh\necho one thing\necho another thing\nexit 3\n"
    )
    done = electctl.run("lab", "up", "redis", check=69)
    assert "electctl: log: one thing\nelectctl: log: another thing\n" in done.stderr
    assert "did not start: it ended with code 3; it last said: another thing" in done.stderr
    assert "hint: the last lines of its log are above" in done.stderr
    assert list(lab_home(electctl).iterdir()) == []


def test_a_missing_program_names_its_package(electctl: Electctl) -> None:
    done = electctl.run("lab", "up", "redis", env={"PATH": ""}, check=69)
    assert done.stdout == ""
    assert done.stderr == (
        "electctl: the program redis-server is not installed\nhint: apt-get install redis-server\n"
    )
    assert list(lab_home(electctl).iterdir()) == []


def test_servers_die_with_their_keeper_and_start_again_on_their_data(electctl: Electctl) -> None:
    url = electctl.run("lab", "up", "redis", check=0).stdout.strip()
    redis(address(url), "SET survives yes")
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    os.kill(keeper_of(pid), signal.SIGKILL)
    wait_for(lambda: gone(pid))
    wait_for(lambda: labs(electctl)["redis"]["state"] == "stopped")
    assert electctl.run("lab", "up", "redis", check=0).stdout.strip() == url
    assert redis(address(url), "EXISTS survives") == ":1"


def test_a_keeper_told_to_end_stops_its_servers_and_keeps_their_data(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    os.kill(keeper_of(pid), signal.SIGTERM)
    wait_for(lambda: gone(pid))
    wait_for(lambda: labs(electctl)["redis"]["state"] == "stopped")


def test_a_lab_whose_directory_is_removed_ends(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    keeper = keeper_of(pid)
    (lab_home(electctl) / "redis").rename(electctl.home / "elsewhere")
    wait_for(lambda: gone(pid) and gone(keeper))


@pytest.mark.slow
def test_a_keeper_that_hangs_is_seen_and_taken_down(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    pid = labs(electctl)["redis"]["servers"][0]["pid"]
    os.kill(keeper_of(pid), signal.SIGSTOP)
    assert labs(electctl)["redis"]["state"] == "silent"
    again = electctl.run("lab", "up", "redis", check=69)
    assert "its keeper does not answer" in again.stderr
    down = electctl.run("lab", "down", "redis", check=0)
    assert "killing it and its servers" in down.stderr
    wait_for(lambda: gone(pid))
    assert list(lab_home(electctl).iterdir()) == []


def test_state_is_where_the_variable_says(electctl: Electctl, tmp_path: Path) -> None:
    # A directory far deeper than the path of a socket may be.
    electctl.env["ELECTCTL_STATE"] = str(tmp_path / ("deep" * 20) / ("deeper" * 20))
    electctl.run("lab", "up", "redis", check=0)
    assert Path(electctl.env["ELECTCTL_STATE"], "lab", "redis", "lab.json").exists()
    assert labs(electctl)["redis"]["state"] == "up"
    electctl.run("lab", "down", check=0)


def test_a_state_directory_that_cannot_be_one_is_a_bad_configuration(electctl: Electctl) -> None:
    electctl.env["ELECTCTL_STATE"] = "/dev/null/state"
    done = electctl.run("lab", "up", "redis", check=78)
    assert done.stderr.splitlines() == [
        "electctl: /dev/null/state/lab/redis cannot be used for a lab: Not a directory",
        "hint: ELECTCTL_STATE names another directory for state",
    ]
    assert "there is no lab" in electctl.run("lab", "status", check=0).stderr


@pytest.mark.parametrize(
    "question", [{}, {"do": "dance"}, {"do": "link"}, {"do": "link", "mode": "delay"}]
)
def test_a_keeper_outlives_a_question_that_it_does_not_understand(
    electctl: Electctl, monkeypatch: pytest.MonkeyPatch, question: dict[str, str]
) -> None:
    electctl.run("lab", "up", "redis", "--proxy", check=0)
    monkeypatch.setenv("XDG_STATE_HOME", electctl.env["XDG_STATE_HOME"])
    with pytest.raises(UsageError, match="does not understand"):
        control.ask(LabDir.named("redis"), question)
    assert labs(electctl)["redis"]["state"] == "up"


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["up", "redsi"], "no backend is installed for redsi://", "did you mean redis://?"),
        (["up", "redis", "--nodes", "4"], "4 is not a number of nodes", "one of 1"),
        (["up", "redis", "--name", "../x"], "'../x' cannot be the name of a lab", "letters"),
        (["up", "redis+sentinel", "--proxy"], "servers behind no proxy", "leave --proxy out"),
        (["down"], "there is no lab", "electctl lab up redis"),
        (["down", "redis"], "there is no lab redis", "electctl lab status"),
        (["down", "redis", "--all"], "--all and a name", "leave one of them out"),
        (["status", "redis"], "there is no lab redis", "electctl lab status"),
        (["env"], "there is no lab", "electctl lab up redis"),
        (["link", "redis", "cut"], "there is no lab redis", "electctl lab status"),
        (["link", "redis", "swalow"], "a link has no mode 'swalow'", "did you mean swallow?"),
        (["link", "redis", "delay"], "delay needs a time", "delay 200ms"),
        (["link", "redis", "cut", "1s"], "cut takes no time", "delay 200ms"),
        (["link", "redis", "delay", "soon"], "'soon' is not a duration", "500ms"),
        (["link", "redis", "hold", "--direction", "up"], "'up' is not a direction", "requests"),
        (["link", "redis", "cut", "--direction", "replies"], "cut has no direction", "leave"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    electctl: Electctl, args: list[str], message: str, hint: str
) -> None:
    done = electctl.run("lab", *args, check=2)
    said, hinted = done.stderr.splitlines()
    assert said.startswith("electctl: ")
    assert message in said
    assert hinted.startswith("hint: ")
    assert hint in hinted


def test_a_link_of_a_lab_without_proxies_or_of_no_such_server(electctl: Electctl) -> None:
    electctl.run("lab", "up", "redis", check=0)
    refused = electctl.run("lab", "link", "redis", "cut", check=2)
    assert "has no proxies" in refused.stderr
    electctl.run("lab", "up", "redis", "--name", "other", "--proxy", check=0)
    refused = electctl.run("lab", "link", "other", "cut", "--server", "rediss", check=2)
    assert "has no link to 'rediss'" in refused.stderr
    assert "did you mean redis?" in refused.stderr
    nearest = electctl.run("lab", "status", "othr", check=2)
    assert "did you mean other?" in nearest.stderr
