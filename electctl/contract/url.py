"""Backend URLs: parsed once, strictly, and shown without secrets."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from electctl.base.asked import Asked
from electctl.base.fresh import Fresh
from electctl.contract.credentials import Credentials
from electctl.errors import ConfigError, UsageError

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*\Z")
#: A command may have a secret among its words.
_SECRET_OPTIONS = frozenset({"password", "secret", "token", "sentinel_password", "token_command"})
#: Options of schemes that take tokens.
_TOKEN_SOURCES = ("token_file", "token_command")
_TOKEN_OPTIONS = frozenset(_TOKEN_SOURCES)
MASK = "***"
#: "://user:" or a bare "user:", and what stands between it and the last @ of the word.
_USERINFO = re.compile(r"(://[^\s/:@]*:|(?<![^\s'\"(])[^\s/:@'\"(]+:(?!//))\S*(?=@)")
_SECRET_QUERY = re.compile(rf"([?&](?:{'|'.join(sorted(_SECRET_OPTIONS))})=)[^&\s]*")


def mask_text(text: str) -> str:
    """A message in which every password of a URL is shown as ``***``.

    For texts that we did not write: an argument in the wrong place, a server's or a library's
    words. Masks too much rather than too little.
    """
    if "@" not in text and "=" not in text:
        return text
    return _SECRET_QUERY.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1{MASK}", text))


@dataclass(frozen=True, slots=True)
class BackendURL:
    """``scheme://[user[:password]@]host[:port][,host[:port]…][/path][?option=value&…]``.

    Without all that stands for a place it is ``scheme:[?option=value&…]``, as in ``local:``.

    ``hosts`` holds (host, port) pairs, port None where none was given. ``path`` has no leading
    slash. Hosts may be IPv6 in brackets. A ``password_file`` option names a file that holds the
    password, ``password_command`` a command that prints it; the environment variable
    ELECTCTL_PASSWORD is used when the URL has a user or none and no password of its own.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False, hash=False)
    #: Where ``password`` was read from.
    password_file: str | None = None
    #: The command that prints the password, words as a shell would split them; run without one.
    password_command: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> BackendURL:
        """Parse ``text``. Raises UsageError, never showing a password."""
        scheme, colon, rest = text.partition(":")
        if not colon or not _SCHEME.match(scheme):
            # The text may be a bare "user:secret@host": say nothing of what it holds.
            raise UsageError(
                "a backend URL starts with its scheme, as in redis://127.0.0.1:6379/0",
                hint="electctl backends lists the schemes",
            )
        if any(ch.isspace() or ord(ch) < 32 for ch in text):
            raise UsageError(
                f"the {scheme} URL has white space or control characters in it",
                hint="write them as %20 and so on",
            )
        if rest and not rest.startswith(("//", "?")):
            raise UsageError(
                f"{scheme}: must be followed by //", hint=f"as in {scheme}://host:port"
            )
        # The query first: an option may hold a path, as in redis://host?ca=/etc/ca.pem.
        place, query_mark, query = rest.removeprefix("//").partition("?")
        authority, _, path = place.partition("/")
        user, password, hosts = _authority(scheme, authority)
        options = _options(scheme, query) if query_mark else {}
        password_file = options.pop("password_file", None)
        password_command = options.pop("password_command", None)
        for name, given in (
            ("password_file", password_file),
            ("password_command", password_command),
        ):
            if given is not None and (
                password is not None or None not in (password_file, password_command)
            ):
                raise UsageError(
                    f"the URL has both a password and a {name}", hint="leave one of them out"
                )
        if password_file is not None:
            password = _read_secret("password", password_file)
        elif password_command is not None:
            _words("password_command", password_command)
        elif password is None and place:
            password = os.environ.get("ELECTCTL_PASSWORD") or None
        return cls(
            scheme, hosts, user, password, unquote(path), options, password_file, password_command
        )

    @property
    def has_secret(self) -> bool:
        """Whether there is a password or a token, or somewhere to get it from."""
        return (
            self.password is not None
            or self.password_command is not None
            or not _TOKEN_OPTIONS.isdisjoint(self.options)
        )

    def credentials(self) -> Credentials:
        """What to show at each new connection.

        A file (``?password_file=``, ``?token_file=``) is read again when it has changed, a command
        (``?password_command=``, ``?token_command=``) is run again; one that is empty or fails at
        that moment leaves the secret as it was. Tokens are for schemes that list these options.
        Raises UsageError for a command that is none, ConfigError for a token file without a token.
        """
        token_file, token_command = (self.options.get(name) for name in _TOKEN_SOURCES)
        if token_file is not None or token_command is not None:
            if self.has_password or None not in (token_file, token_command):
                raise UsageError(
                    f"the {self.scheme} URL names a secret in two ways",
                    hint="leave one of them out",
                )
            if token_command is not None:
                return Credentials("token", None, _asked("token_command", token_command).get)
            assert token_file is not None
            return Credentials("token", None, _file("token", token_file).get)
        if self.password_command is not None:
            asked = _asked("password_command", self.password_command)
            return Credentials("password", self.user, asked.get)
        if self.password_file is not None:
            return Credentials("password", self.user, _file("password", self.password_file).get)
        known = self.password
        return Credentials("none" if known is None else "password", self.user, lambda: known)

    @property
    def has_password(self) -> bool:
        """Whether there is a password of the URL's own, or a file or command for one."""
        return self.password_file is not None or self.password_command is not None

    def check_options(self, known: dict[str, str]) -> None:
        """Raise UsageError, with the nearest known name, if an option is not in ``known``."""
        for name in self.options:
            if name not in known:
                all_known = sorted({*known, "password_file", "password_command"})
                near = get_close_matches(name, all_known, 1)
                hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(all_known)}"
                raise UsageError(f"{self.scheme}:// has no option {name!r}", hint=hint)

    def masked(self) -> str:
        """For people: a password is shown as ``***``."""
        return replace(self, password=MASK if self.password else None)._text(mask=True)

    def without_password(self) -> str:
        """For the environment of a command: still a valid URL, no secret in it."""
        options = {k: v for k, v in self.options.items() if k not in _SECRET_OPTIONS}
        return replace(self, password=None, options=options)._text()

    def __str__(self) -> str:
        return self.masked()

    def _text(self, *, mask: bool = False) -> str:
        user = quote(self.user or "", safe="")
        if self.password:
            user += ":" + (MASK if mask else quote(self.password, safe=""))
        hosts = ",".join(_host_text(host, port) for host, port in self.hosts)
        text = f"{self.scheme}:"
        if user or hosts or self.path:
            text += f"//{user + '@' if user else ''}{hosts}"
        if self.path:
            text += "/" + quote(self.path, safe="/")
        if self.options:
            shown = {
                k: MASK if mask and k in _SECRET_OPTIONS else v for k, v in self.options.items()
            }
            text += "?" + urlencode(shown, safe="/*,:")
        return text


def written(schemes: Iterable[str], example: str) -> str:
    """``redis://, rediss://``; ``local:`` for one whose example shows that it names no place."""
    mark = ":" if example.endswith(":") else "://"
    return ", ".join(f"{scheme}{mark}" for scheme in schemes)


def _host_text(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _authority(
    scheme: str, text: str
) -> tuple[str | None, str | None, tuple[tuple[str, int | None], ...]]:
    userinfo, at, hostlist = text.rpartition("@")
    user: str | None = None
    password: str | None = None
    if at:
        name, colon, secret = userinfo.partition(":")
        user = unquote(name) or None
        password = unquote(secret) if colon and secret else None
    if not hostlist:
        return user, password, ()
    return user, password, tuple(_host(scheme, item) for item in hostlist.split(","))


def _host(scheme: str, text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/]+))(?::(\d+))?", text)
    if not match:
        raise UsageError(
            f"the {scheme} URL has a host that is not host or host:port",
            hint="IPv6 addresses go in brackets, several hosts are separated by commas, "
            "and @ : / in a password are written %40 %3A %2F",
        )
    port = int(match[3]) if match[3] else None
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"port {port} is not between 1 and 65535", hint="host:port")
    return match[1] or match[2], port


def check_host(host: str) -> None:
    """Raise UsageError for what no resolver takes for the name of a host (RFC 1035, 2.3.4)."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise UsageError(
            f"{host!r} is not the name of a host", hint="1 to 63 characters between two dots"
        ) from None


def _options(scheme: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise UsageError(
            f"the options of the {scheme} URL are not name=value pairs joined by &",
            hint=f"as in {scheme}://host:port?name=value",
        ) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise UsageError(f"an option of the {scheme} URL is given twice", hint="give it once")
    return options


def _read_secret(what: str, path: str) -> str:
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"{what} file {path} cannot be read: {cause}", hint="is it there, and readable?"
        ) from None
    if not secret:
        raise ConfigError(f"{what} file {path} is empty", hint=f"it must hold the {what}")
    return secret


def _file(what: str, path: str) -> Fresh[str]:
    return Fresh((path,), lambda: _read_secret(what, path))


def _asked(option: str, line: str) -> Asked:
    return Asked(_words(option, line), f"the command of ?{option}=")


def _words(option: str, line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    if not words:
        raise UsageError(
            f"?{option}= is no command", hint="as in ?password_command=pass%20show%20db"
        )
    return words
