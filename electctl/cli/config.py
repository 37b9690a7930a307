"""What a run is told: flag, environment, config file, default, in this order.

What this does not guarantee: that a backend answers, or that timing is safe; that is checked when
they are used. docs/configuration.md lists every key.

The file is YAML read as a tree of nodes, never as objects: nothing in it can construct anything,
and each error names its line. ``./electctl.yaml`` is used only if nobody else could have put it
there, because it decides where a password is sent and which hooks run (the same care as git's
``safe.directory``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from electctl.base import nodes
from electctl.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

    from electctl.contract.url import BackendURL

#: The backend where none is named anywhere.
DEFAULT = "local:"
_FILE = "electctl.yaml"

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """What the config file says of one election. Times in seconds; None: not said."""

    id: str | None = None
    ttl: float | None = None
    grace: float | None = None
    wait: float | None = None
    keep: bool | None = None
    max_terms: int | None = None
    min_hold: float | None = None
    conflict_exit_code: int | None = None
    on_elected: str | None = None
    on_lost: str | None = None
    stop: str | None = None
    stop_timeout: float | None = None
    max_run: float | None = None
    margin: float | None = None
    socket: str | None = None

    def over(self, base: ElectionSettings) -> ElectionSettings:
        """These settings, and those of ``base`` where these say nothing."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(base, **{name: v for name, v in said.items() if v is not None})


@dataclass(frozen=True, slots=True)
class _Section:
    """The top of the file, or one election in it.

    ``urls``: (text, where it stands). ``answers``: key → (text, where it stands).
    """

    settings: ElectionSettings = field(default_factory=ElectionSettings)
    urls: tuple[tuple[str, str], ...] = ()
    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's settings. Build it with :meth:`load`."""

    flags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    #: The config file in use.
    path: Path | None = None
    _top: _Section = field(default_factory=_Section)
    _elections: Mapping[str, _Section] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        *,
        backends: tuple[str, ...] = (),
        config: str | None = None,
        warn: Warn = lambda text: None,
    ) -> Settings:
        """Read the environment and the config file. Raises ConfigError."""
        environment = tuple(os.environ.get("ELECTCTL_BACKEND", "").split())
        path = _find(config or os.environ.get("ELECTCTL_CONFIG") or None)
        if path is None:
            return cls(backends, environment)
        top, elections = _read(path)
        found = cls(backends, environment, path, top, elections)
        found._warn_of_passwords(path, warn)
        return found

    def backend_urls(self, election: str | None = None) -> list[BackendURL]:
        """Where ``election`` is held (None: any election); never empty: :data:`DEFAULT` at last.

        Raises UsageError (a URL of the command line or environment is malformed), ConfigError (one
        of the config file is).
        """
        from electctl.contract.url import BackendURL

        if self.flags or self.environment:
            # Once each: the same URL twice is a slip, and would show everything twice.
            return [
                BackendURL.parse(text) for text in dict.fromkeys(self.flags or self.environment)
            ]
        return self.configured_urls(election) or [BackendURL.parse(DEFAULT)]

    def configured_urls(self, election: str | None = None) -> list[BackendURL]:
        """What the config file alone says of where ``election`` is held. Raises ConfigError."""
        section = self._section(election) or self._top
        return [_parse_url(text, where) for text, where in section.urls or self._top.urls]

    @property
    def elections(self) -> list[str]:
        """The elections that the config file names, in its order."""
        return list(self._elections)

    def answers(self, election: str | None = None) -> dict[str, tuple[str, str]]:
        """The answers to ``advise`` in the config file: key → (text, where it stands).

        Those of the election, and those of the top of the file where it gives none.
        """
        own = self._section(election) or self._top
        return {**self._top.answers, **own.answers}

    def backend_url(self, election: str) -> BackendURL:
        """The one backend of ``election``. Raises UsageError where several are named."""
        urls = self.backend_urls(election)
        if len(urls) > 1:
            raise UsageError(
                f"{len(urls)} backends are named, and an election is held on one",
                hint="give one -b URL",
            )
        return urls[0]

    def election(self, name: str | None = None) -> ElectionSettings:
        """What the config file says of an election: its own section, then the top of the file.

        None: what it says of any election.
        """
        section = self._section(name)
        return self._top.settings if section is None else section.settings.over(self._top.settings)

    def _section(self, election: str | None) -> _Section | None:
        """The election's own section, also if its name is spelled otherwise there."""
        if election is None or election in self._elections:
            return None if election is None else self._elections[election]
        for name, section in self._elections.items():
            if self._is_one(name, section, election):
                return section
        return None

    def _is_one(self, name: str, section: _Section, election: str) -> bool:
        from electctl.contract.url import BackendURL
        from electctl.core.registry import canonical

        there = [text for text, _ in section.urls or self._top.urls]
        try:
            urls = [BackendURL.parse(text) for text in self.flags or self.environment or there]
            return bool(urls) and all(
                canonical(url, name) == canonical(url, election) for url in urls
            )
        except UsageError:
            return False  # whoever uses that name, or that URL, is told

    def _warn_of_passwords(self, path: Path, warn: Warn) -> None:
        sections = (self._top, *self._elections.values())
        if not any(_has_password(text) for section in sections for text, _ in section.urls):
            return
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            warn(f"{path} has a password in it and others can read it; chmod 600, or password_file")


def _has_password(url: str) -> bool:
    authority = url.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0]


def _parse_url(text: str, where: str) -> BackendURL:
    from electctl.contract.url import BackendURL

    try:
        return BackendURL.parse(text)
    except UsageError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


# Which file ------------------------------------------------------------------------------------


def _find(named: str | None) -> Path | None:
    if named is not None:
        return Path(named)
    here = Path(_FILE)
    if _is_there(here):
        _check_owner(here)
        return here
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    try:
        # The XDG base directory specification: a relative path is to be ignored.
        home = Path(base) if base.startswith("/") else Path.home() / ".config"
    except RuntimeError:  # no HOME, and a user that is in no passwd file: a container
        return None
    users = home / "electctl" / _FILE
    return users if _is_there(users) else None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # the caller's directory, or HOME, is another user's
        raise ConfigError(
            f"config file {path} cannot be looked for: {error.strerror}",
            hint="-c /dev/null uses none; or call electctl where you may read",
        ) from None


def _check_owner(path: Path) -> None:
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        cause = "belongs to another user"
    elif status.st_mode & stat.S_IWOTH:
        cause = "can be written by everybody"
    else:
        return
    raise ConfigError(
        f"./{path} {cause}, so it is not used unasked",
        hint=f"-c ./{path} uses it all the same; -c /dev/null uses none",
    )


# Reading it --------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[_Section, dict[str, _Section]]:
    raw = nodes.read_bytes(path, "config file")
    tree = nodes.compose(raw, str(path), hint="docs/configuration.md has an example")
    if tree is None:
        return _Section(), {}
    return _Reader(str(path), "ttl: 10s").file(tree)


class _Reader(nodes.Reader):
    """Turns nodes into settings, strictly. Raises ConfigError with file and line."""

    def file(self, node: Node) -> tuple[_Section, dict[str, _Section]]:
        """The whole file."""
        entries = self.entries(node, "the file", (*_KEYS, *_OTHER_KEYS, "elections"))
        names = entries.pop("elections", None)
        elections = {}
        if names is not None and not nodes.is_null(names):
            for key, child in self.pairs(names, "elections"):
                elections[key] = self._section(child, f"election {key!r}")
        return self._from(entries), elections

    def _section(self, node: Node, what: str) -> _Section:
        if nodes.is_null(node):
            return _Section()
        return self._from(self.entries(node, what, (*_KEYS, *_OTHER_KEYS)))

    def _from(self, entries: dict[str, Node]) -> _Section:
        backend = entries.pop("backend", None)
        urls = () if backend is None else self._urls(backend)
        answers = entries.pop("answers", None)
        values = {key: _KEYS[key](self, key, node) for key, node in entries.items()}
        return _Section(
            ElectionSettings(**values), urls, {} if answers is None else self._answers(answers)
        )

    # Values --------------------------------------------------------------------------------------

    def text(self, key: str, node: Node) -> str:
        """A text that is not empty."""
        if not nodes.is_scalar(node, "str", "int", "float") or not node.value:
            raise self.error(node, f"{key} must be a text", f'{key}: "…"')
        return str(node.value)

    def seconds(self, key: str, node: Node) -> float:
        """A duration, as on the command line."""
        from electctl.base.duration import parse_duration

        if not nodes.is_scalar(node, "str", "int", "float"):
            raise self.error(node, f"{key} must be a duration", f"{key}: 10s")
        try:
            return parse_duration(str(node.value))
        except UsageError as error:
            raise self.error(node, f"{key}: {error.message}", error.hint) from None

    def number(self, key: str, node: Node) -> int:
        """A whole number, not negative."""
        if not nodes.is_scalar(node, "int") or not str(node.value).isdecimal():
            raise self.error(node, f"{key} must be a whole number, 0 or more", f"{key}: 3")
        return int(node.value)

    def exit_code(self, key: str, node: Node) -> int:
        """A number that a process can exit with."""
        code = self.number(key, node)
        if code > 255:
            raise self.error(node, f"{key} must be between 0 and 255", f"{key}: 0")
        return code

    def scope(self, key: str, node: Node) -> str:
        """main or all."""
        if not nodes.is_scalar(node, "str") or node.value not in ("main", "all"):
            raise self.error(node, f"{key} must be main or all", f"{key}: main")
        return str(node.value)

    def boolean(self, key: str, node: Node) -> bool:
        """true or false."""
        if not nodes.is_scalar(node, "bool") or node.value.lower() not in ("true", "false"):
            raise self.error(node, f"{key} must be true or false", f"{key}: true")
        return bool(node.value.lower() == "true")

    def _urls(self, node: Node) -> tuple[tuple[str, str], ...]:
        items = node.value if nodes.is_sequence(node) else [node]
        if not items:
            raise self.error(node, "backend is an empty list", "leave it out, or name one")
        urls = []
        for item in items:
            if not nodes.is_scalar(item, "str"):
                raise self.error(
                    item, "backend must be a URL or a list of URLs", "backend: redis://host:6379/0"
                )
            urls.append((str(item.value), self.place(item)))
        return tuple(urls)

    def _answers(self, node: Node) -> dict[str, tuple[str, str]]:
        """What may be asked and answered is the tree's business, and is checked by ``advise``."""
        if nodes.is_null(node):
            return {}
        return {
            key: (self.answer(key, child), self.place(child))
            for key, child in self.pairs(node, "answers")
        }


_OTHER_KEYS = ("backend", "answers")
#: Every other key that the top of the file and each election may have.
_KEYS: dict[str, Callable[[_Reader, str, Any], Any]] = {
    "id": _Reader.text,
    "ttl": _Reader.seconds,
    "grace": _Reader.seconds,
    "wait": _Reader.seconds,
    "keep": _Reader.boolean,
    "max_terms": _Reader.number,
    "min_hold": _Reader.seconds,
    "conflict_exit_code": _Reader.exit_code,
    "on_elected": _Reader.text,
    "on_lost": _Reader.text,
    "stop": _Reader.scope,
    "stop_timeout": _Reader.seconds,
    "max_run": _Reader.seconds,
    "margin": _Reader.seconds,
    "socket": _Reader.text,
}
