"""Credentials that are renewed: passwords and tokens, from files and from commands.

What this does not show: a store that takes tokens (no scheme does yet). Passwords by file and by
command on real servers: tests/test_renewed.py.
"""

from __future__ import annotations

import os
import shlex
import threading
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from electctl.base import asked
from electctl.base.asked import Asked
from electctl.base.clock import now
from electctl.contract.credentials import Credential, nobody
from electctl.contract.url import BackendURL
from electctl.core.registry import open_backend
from electctl.errors import ConfigError, UsageError
from tests.processes import wait_for


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELECTCTL_PASSWORD", raising=False)
    monkeypatch.setattr(asked, "KEEP", 0.0)


def sh(line: str, *, limit: float = 10.0) -> Asked:
    return Asked(["sh", "-c", line], "the command", limit=limit)


def url(option: str, value: str, user: str = "") -> BackendURL:
    return BackendURL.parse(f"x://{user}h?{option}={quote(value, safe='')}")


# Kinds -------------------------------------------------------------------------------------------


def test_a_password_of_the_url_and_none_at_all() -> None:
    assert BackendURL.parse("x://u:p@h").credentials().get() == Credential("password", "u", "p")
    assert BackendURL.parse("x://h").credentials().get() == nobody().get()
    assert not BackendURL.parse("x://u@h").has_secret


@pytest.mark.parametrize("kind", ["password", "token"])
def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "secret"
    file.write_text("first\n")
    parsed = url(f"{kind}_file", str(file), "u@" if kind == "password" else "")
    assert parsed.has_secret
    credentials = parsed.credentials()
    user = "u" if kind == "password" else None
    assert credentials.get() == Credential(credentials.kind, user, "first")
    assert credentials.kind == kind
    file.write_text("second, and longer\n")
    assert credentials.get().secret == "second, and longer"
    file.write_text("")
    assert credentials.get().secret == "second, and longer", "a half-written file is none"
    file.unlink()
    assert credentials.get().secret == "second, and longer"


@pytest.mark.parametrize("kind", ["password", "token"])
def test_a_command_is_run_again(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "it's secret"
    file.write_text("first\n")
    parsed = url(f"{kind}_command", f"cat {shlex.quote(str(file))}")
    assert parsed.has_secret
    credentials = parsed.credentials()
    assert (credentials.kind, credentials.get().secret) == (kind, "first")
    file.write_text("second\n")
    assert credentials.get().secret == "second"
    file.unlink()
    assert credentials.get().secret == "second", "while it fails what was known stays"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    parsed = url("token_file", str(file))
    assert "s3cret" not in repr(parsed.credentials().get())
    assert "s3cret" not in f"{parsed!r} {parsed} {parsed.without_password()}"


@pytest.mark.parametrize(
    "text",
    [
        "x://u:p@h?password_command=true",
        "x://u@h?password_file=/dev/null&password_command=true",
        "x://h?token_file=/dev/null&token_command=true",
        "x://u@h?password_command=true&token_command=true",
        "x://u@h?password_command=",
        "x://u@h?password_command='",
        "x://h?token_command=%20",
    ],
)
def test_two_sources_and_no_command_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        BackendURL.parse(text).credentials()


def test_a_scheme_without_tokens_takes_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option 'token_command'"):
        open_backend("redis://h?token_command=true")


# Commands ----------------------------------------------------------------------------------------


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = sh(f"sleep 600 & echo $! > {pids}; echo $$ >> {pids}; wait", limit=0.5)
    began = now()
    with pytest.raises(ConfigError, match=r"did not end within 0\.5 s"):
        command.get()
    assert now() - began >= 0.5
    for pid in map(int, pids.read_text().split()):
        wait_for(partial(gone, pid), what=f"{pid} is gone")


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_one_that_leaves_a_process_behind_is_not_waited_for() -> None:
    """Its standard output stays open as long as that runs."""
    assert sh("sleep 2 & echo secret", limit=60).get() == "secret"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("exit 3", "ended with exit code 3"),
        ("echo secret; exit 3", "ended with exit code 3"),
        ("true", "printed nothing"),
        (r"printf '\377'", "is not UTF-8"),
        ("head -c 70000 /dev/zero | tr '\\0' x", "printed too much"),
    ],
)
def test_one_that_fails_is_named_and_its_output_is_not(line: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause) as caught:
        sh(line).get()
    assert "secret" not in caught.value.message


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot be run: No such file"):
        Asked(["/nowhere/at/all"], "the command").get()


def test_those_who_connect_together_ask_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "KEEP", 600.0)
    runs = tmp_path / "runs"
    command = sh(f"echo run >> {runs}; echo secret")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(command.get())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["secret"] * 5
    assert runs.read_text() == "run\n"


def test_no_descriptor_is_left_open() -> None:
    command = sh("echo secret")
    command.get()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        command.get()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_is_slow_holds_up_no_connection_once_it_has_answered(tmp_path: Path) -> None:
    """What it printed last does meanwhile; the new one is there for the next."""
    secret, gate = tmp_path / "secret", tmp_path / "gate"
    secret.write_text("old")
    command = sh(f"while [ -e {gate} ]; do sleep 0.05; done; cat {secret}", limit=30)
    assert command.get() == "old"
    gate.touch()
    secret.write_text("new")
    began = now()
    assert [command.get() for _ in range(3)] == ["old", "old", "old"]
    assert now() - began < 3 * asked.PATIENCE + 1
    gate.unlink()
    wait_for(lambda: command.get() == "new", what="the new one")
