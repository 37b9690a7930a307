"""What a zk:// URL asks for.

What this does not guarantee: that the servers' tick is the one assumed here. A client cannot ask
for it (``conf`` is not among the words that servers answer by default); ``?tick=`` tells us.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from electctl.base.duration import parse_duration
from electctl.base.fresh import Fresh
from electctl.base.tls import load_tls, whom
from electctl.contract.credentials import Credentials, nobody
from electctl.errors import MissingDependency, UsageError
from electctl_zookeeper.names import RECIPES, is_path

if TYPE_CHECKING:
    from electctl.contract.url import BackendURL

DEFAULT_PORT = 2181
#: ZooKeeper's tickTime where nobody sets it, in seconds.
DEFAULT_TICK = 2.0
_PARENTS = ("container", "persistent")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

OPTIONS = {
    "recipe": "shape of our znodes: kazoo (default), curator-latch, curator-lock",
    "tick": "the servers' tickTime, as in 2s; default: the smaller of 2 s and half the TTL granted",
    "auth": "how the user of the URL logs in: digest (default) or sasl (DIGEST-MD5)",
    "acl": "of what we create: parent (default with a user), as that of the znode that it lies in; "
    "creator; open (default without)",
    "create": "true makes the path of the URL if it is not there",
    "parent": "of contenders: container (default), which goes when it is empty, or persistent",
    "tls": "true speaks TLS (also with ca, cert or key)",
    "ca": "file of the authority that signed the servers' certificates",
    "cert": "file of our client certificate",
    "key": "file of its key",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Servers, chroot (with its leading slash, or ""), credentials and options."""

    hosts: tuple[tuple[str, int], ...]
    chroot: str = ""
    user: str | None = None
    credentials: Credentials = field(default_factory=nobody, repr=False)
    auth: str = "digest"
    acl: str = "open"
    #: Whether the chroot is made where it is not there.
    create: bool = False
    recipe: str = "kazoo"
    tick: float | None = None
    keep_parent: bool = False
    tls: Fresh[ssl.SSLContext] | None = None
    #: Which authorities we trust, for people.
    trusted: str = ""

    @classmethod
    def of(cls, url: BackendURL) -> Target:
        """Raises UsageError, ConfigError (files), MissingDependency (SASL)."""
        if not url.hosts:
            raise UsageError("the zk URL names no server", hint="as in zk://127.0.0.1:2181")
        options = url.options
        path = url.path.rstrip("/")
        if path and not is_path(path):
            raise UsageError(
                "the path of the zk URL (the chroot) is no legal path in ZooKeeper",
                hint="no double slash, no segment . or .., no control characters",
            )
        auth = _one_of("auth", options.get("auth", "digest"), ("digest", "sasl"))
        if (url.user is None) == url.has_secret and (url.user or "auth" in options):
            raise UsageError(
                "the zk URL has only one half of user and password", hint="user:password@host:port"
            )
        if url.user is None and ("auth" in options or options.get("acl", "open") != "open"):
            raise UsageError(
                "?auth, ?acl=creator and ?acl=parent need a user",
                hint="user:password@host:port in the URL",
            )
        if auth == "sasl" and find_spec("puresasl") is None:
            raise MissingDependency(
                "?auth=sasl needs the Python module puresasl, which is not installed",
                hint="pip install pure-sasl",
            )
        default_acl = "parent" if url.user else "open"
        return cls(
            hosts=tuple((host, port or DEFAULT_PORT) for host, port in url.hosts),
            chroot=f"/{path}" if path else "",
            user=url.user,
            credentials=url.credentials(),
            auth=auth,
            acl=_one_of("acl", options.get("acl", default_acl), ("parent", "creator", "open")),
            create=_flag("create", options.get("create", "false")),
            recipe=_one_of("recipe", options.get("recipe", "kazoo"), RECIPES),
            tick=_tick(options.get("tick")),
            keep_parent=_one_of("parent", options.get("parent", "container"), _PARENTS)
            == "persistent",
            tls=_tls(options),
            trusted=whom(options.get("ca")),
        )

    @property
    def peer(self) -> str:
        """For messages."""
        return ",".join(_address(host, port) for host, port in self.hosts)

    def tick_for(self, negotiated: float) -> float:
        """The servers' tick in seconds, as told or assumed for that session time-out.

        A session lasts at least two ticks unless ``minSessionTimeout`` says otherwise.
        """
        return min(DEFAULT_TICK, negotiated / 2) if self.tick is None else self.tick


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"zk:// does not know {name}={value}", hint=f"one of {', '.join(known)}")
    return value


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise UsageError(f"zk:// does not know {name}={value}", hint="true or false")
    return _FLAGS[value.lower()]


def _tick(text: str | None) -> float | None:
    if text is None:
        return None
    tick = parse_duration(text)
    if tick <= 0:
        raise UsageError("a tick of 0 is none", hint="the servers' tickTime, as in ?tick=2s")
    return tick


def _tls(options: Mapping[str, str]) -> Fresh[ssl.SSLContext] | None:
    files = {name: options[name] for name in ("ca", "cert", "key") if name in options}
    if not _flag("tls", options.get("tls", "true" if files else "false")):
        if files:
            raise UsageError("tls=false contradicts ca, cert and key", hint="leave one out")
        return None
    if ("cert" in files) != ("key" in files):
        raise UsageError("cert and key go together", hint="name both files")
    ca, cert, key = (files.get(name) for name in ("ca", "cert", "key"))
    return Fresh(
        list(files.values()),
        lambda: load_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca, cert, key),
    )
