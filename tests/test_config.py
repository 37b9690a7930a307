"""The config file: precedence, strictness, which file, and what is never shown."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electctl.cli.config import ElectionSettings, Settings
from electctl.cli.render import error_lines
from electctl.errors import ConfigError, UsageError
from electctl.lab.state import LabDir

URL = "redis://127.0.0.1:6379/0"
OTHER = "redis://127.0.0.2:6379/1"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the person who runs the tests."""
    for name in ("ELECTCTL_BACKEND", "ELECTCTL_CONFIG", "ELECTCTL_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def urls(settings: Settings, election: str | None = None) -> list[str]:
    return [url.masked() for url in settings.backend_urls(election)]


def refusal(path: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Settings.load(config=path).backend_urls()
    assert caught.value.exit_code == 78
    return caught.value


def test_nothing_named_is_the_embedded_default() -> None:
    assert urls(Settings.load()) == ["local:"]
    assert Settings.load().configured_urls() == []


def test_precedence_is_flag_environment_election_top(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        Path("electctl.yaml"),
        "backend: redis://top:1\nelections:\n  nightly:\n    backend: redis://own:2\n  other:\n",
    )
    assert urls(Settings.load(), "nightly") == ["redis://own:2"]
    assert urls(Settings.load(), "other") == ["redis://top:1"]
    assert urls(Settings.load(), "unheard-of") == ["redis://top:1"]
    assert urls(Settings.load()) == ["redis://top:1"]
    monkeypatch.setenv("ELECTCTL_BACKEND", f" {URL} {OTHER}\n")
    assert urls(Settings.load(), "nightly") == [URL, OTHER]
    assert urls(Settings.load(backends=(OTHER,)), "nightly") == [OTHER]


def test_a_section_is_found_in_each_spelling_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        Path("electctl.yaml"),
        "backend: redis://top:1\n"
        "elections:\n  jobs/a:\n    backend: zk://own:2\n    ttl: 30s\n  jobs/b:\n    ttl: 40s\n",
    )
    settings = Settings.load()
    for spelling in ("jobs/a", "/jobs/a", "jobs//a/"):
        assert urls(settings, spelling) == ["zk://own:2"]
        assert settings.election(spelling).ttl == 30.0
    assert settings.election("jobs/b").ttl == 40.0
    assert settings.election("/jobs/b").ttl is None  # Redis takes it for another key
    monkeypatch.setenv("ELECTCTL_BACKEND", "redis://env:3")
    assert Settings.load().election("/jobs/a").ttl is None


def test_the_same_backend_twice_is_one() -> None:
    assert urls(Settings.load(backends=(URL, OTHER, URL))) == [URL, OTHER]


def test_an_election_is_held_on_one_backend() -> None:
    assert Settings.load(backends=(URL,)).backend_url("nightly").masked() == URL
    with pytest.raises(UsageError, match="2 backends"):
        Settings.load(backends=(URL, OTHER)).backend_url("nightly")


def test_an_elections_own_keys_win_over_the_top() -> None:
    write(
        Path("electctl.yaml"),
        """
ttl: 10s
wait: 1m
on_lost: "true"
elections:
  nightly:
    ttl: 500ms
    id: worker-1
    keep: true
    max_terms: 3
    min_hold: 30
    grace: 0.1
    conflict_exit_code: 0
  7:
    ttl: 2h
""",
    )
    settings = Settings.load()
    assert settings.election("nightly") == ElectionSettings(
        id="worker-1",
        ttl=0.5,
        grace=0.1,
        wait=60.0,
        keep=True,
        max_terms=3,
        min_hold=30.0,
        conflict_exit_code=0,
        on_lost="true",
    )
    assert settings.election("7").ttl == 7200.0
    assert settings.election("other") == ElectionSettings(ttl=10.0, wait=60.0, on_lost="true")


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().path is None
    users = write(tmp_path / "config" / "electctl" / "electctl.yaml", "ttl: 1s")
    assert Settings.load().election("x").ttl == 1.0
    write(Path("electctl.yaml"), "wait: 2s")
    assert Settings.load().election("x") == ElectionSettings(wait=2.0), "files are not merged"
    monkeypatch.setenv("ELECTCTL_CONFIG", write(tmp_path / "env.yaml", "ttl: 3s"))
    assert Settings.load().election("x").ttl == 3.0
    assert Settings.load(config=users).election("x").ttl == 1.0
    assert Settings.load(config="/dev/null").election("x") == ElectionSettings()
    monkeypatch.delenv("ELECTCTL_CONFIG")
    Path("electctl.yaml").unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.load().path is None


def test_a_user_without_a_home_has_no_config_and_no_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number which is in no passwd file."""

    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "ELECTCTL_STATE"):
        monkeypatch.delenv(name, raising=False)
    assert Settings.load().path is None
    with pytest.raises(ConfigError, match="no home directory"):
        LabDir.named("redis")


def test_a_file_here_that_anybody_can_write_is_not_used_unasked() -> None:
    name = write(Path("electctl.yaml"), f"backend: {URL}")
    os.chmod(name, 0o666)
    with pytest.raises(ConfigError, match="can be written by everybody"):
        Settings.load()
    assert urls(Settings.load(config="./electctl.yaml")) == [URL]


def test_a_password_that_others_can_read_is_warned_of_once_and_not_shown(tmp_path: Path) -> None:
    warnings: list[str] = []
    name = write(
        tmp_path / "c.yaml",
        "backend: redis://:secret@h:1/0\nelections: {a: {backend: 'redis://u:secret@h:1/0'}}",
    )
    os.chmod(name, 0o644)
    Settings.load(config=name, warn=warnings.append)
    assert len(warnings) == 1
    assert "chmod 600" in warnings[0]
    assert "secret" not in warnings[0]
    os.chmod(name, 0o600)
    Settings.load(config=name, warn=warnings.append)
    os.chmod(write(Path(name), "backend: redis://user@[::1]:1/0?password_file=/x"), 0o644)
    Settings.load(config=name, warn=warnings.append)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("text", "line", "cause", "hint"),
    [
        ("backend: x\nttl: 1s\nttll: 1s", 3, "unknown key 'ttll'", "ttl?"),
        ("min-hold: 1s", 1, "unknown key 'min-hold'", "min_hold?"),
        ("xyzzy: 1", 1, "unknown key 'xyzzy'", "it knows"),
        ("elections:\n  a:\n    elections: {}", 3, "unknown key 'elections'", "knows"),
        ("ttl: 1s\n\nttl: 2s", 3, "'ttl' is given twice", "line 1"),
        ("elections:\n  a: {}\n  a: {}", 3, "'a' is given twice", "line 2"),
        ("ttl: [1s]", 1, "ttl must be a duration", "10s"),
        ("ttl: true", 1, "ttl must be a duration", "10s"),
        ("ttl:", 1, "ttl must be a duration", "10s"),
        ("ttl: soon", 1, "'soon' is not a duration", "500ms"),
        ("ttl: -3", 1, "'-3' is not a duration", "500ms"),
        ("ttl: .inf", 1, "is not a duration", "500ms"),
        ("keep: yes-please", 1, "keep must be true or false", "true"),
        ("keep: 1", 1, "keep must be true or false", "true"),
        ("max_terms: 1.5", 1, "max_terms must be a whole number", "3"),
        ("max_terms: -1", 1, "max_terms must be a whole number", "3"),
        ("conflict_exit_code: 256", 1, "between 0 and 255", "0"),
        ("id: ''", 1, "id must be a text", "…"),
        ("id: {a: b}", 1, "id must be a text", "…"),
        ("on_lost: [a]", 1, "on_lost must be a text", "…"),
        ("backend: []", 1, "an empty list", "leave it out"),
        ("backend:\n  - redis://h:1\n  - 7", 3, "must be a URL", "redis://"),
        ("ttl: 1s\nbackend: nonsense", 2, "starts with its scheme", "backends"),
        ("ttl: 1s\nbackend: redis://h:99999", 2, "port 99999", "host:port"),
        ("- a\n- b", 1, "must hold key: value lines", "10s"),
        ("just text", 1, "must hold key: value lines", "10s"),
        ("elections: [a]", 1, "must hold key: value lines", "10s"),
        ("elections:\n  a: 10s", 2, "must hold key: value lines", "10s"),
        ("? [a]\n: b", 1, "is not a text", "10s"),
        ("ttl: 1s\nwait: 'x", 2, "this is not YAML", "configuration.md"),
        ("ttl: *other", 1, "this is not YAML", "configuration.md"),
        ("a: b\n---\nc: d", 2, "this is not YAML", "configuration.md"),
        ("\tttl: 1s", 1, "this is not YAML", "configuration.md"),
        ("<<: {ttl: 1s}", 1, "unknown key '<<'", "knows"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, cause: str, hint: str
) -> None:
    path = write(tmp_path / "c.yaml", text)
    error = refusal(path)
    assert error.message.startswith(f"{path}:{line}: ")
    assert cause in error.message
    assert "\n" not in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"ttl: 1s\n\xff\xfe", ":2: this is not UTF-8"),
        (b"ttl: \x00", "a character that YAML forbids"),
        (b"[" * 5000, "nested too deeply"),
        (b"# " + b"x" * 1_000_001, "over 1 MB"),
    ],
)
def test_what_is_no_config_file_at_all(tmp_path: Path, raw: bytes, cause: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(raw)
    error = refusal(str(path))
    assert cause in error.message
    assert error.hint


def test_a_file_that_is_not_there_or_a_directory(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "missing.yaml")).message
    assert "Is a directory" in refusal(str(tmp_path)).message


def test_an_alias_bomb_costs_nothing(tmp_path: Path) -> None:
    levels = "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30))
    error = refusal(write(tmp_path / "c.yaml", "a0: &a0 x\n" + levels))
    assert "unknown key 'a0'" in error.message


def test_a_broken_config_shows_no_password(tmp_path: Path) -> None:
    for text in (
        "backend: redis://:s3cret@h:notaport/0",
        "redis://:s3cret@h:1/0",
        "redis://:s3cret@h:1/0: true",
        "backend: 'redis://:s3cret@h:1/0",
        "backend: {redis://:s3cret@h:1/0: 1}",
        "ttl: redis://:s3cret@h:1/0",
    ):
        error = refusal(write(tmp_path / "c.yaml", text))
        assert "s3cret" not in error_lines(error.message, error.hint), text


@given(st.text(max_size=200))
def test_any_text_is_settings_or_a_clear_refusal(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    refusal = None
    try:
        Settings.load(config=str(path)).election("x")
    except ConfigError as error:
        refusal = error
    assert refusal is None or (refusal.hint and str(path) in refusal.message)
