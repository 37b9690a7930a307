"""What a Redis URL names: a server, the service whose primary Sentinels know, or a cluster.

What this does not guarantee: that anything is there. Reading a URL makes no contact; it does read
the TLS files, so that a wrong one is named before anything starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from electctl.base.fresh import Fresh
from electctl.contract.credentials import Credentials
from electctl.errors import UsageError

if TYPE_CHECKING:
    import ssl

    from electctl.contract.url import BackendURL

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_TLS_OPTIONS = ("ca", "cert", "key", "insecure")
_SENTINEL_OPTIONS = ("sentinel_user", "sentinel_password")
#: Those that may name several servers. There is no secure name for them, but an option.
_SEVERAL = ("redis+sentinel", "redis+cluster")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is checked."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """For connections. Raises ConfigError if the files cannot be used."""
        import ssl

        from electctl.base.tls import load_tls

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return load_tls(context, self.ca, self.cert, self.key)


class FreshTls(Fresh["ssl.SSLContext"]):
    """The context for each new connection, and of whom it trusts, for people."""

    def __init__(self, tls: Tls) -> None:
        from electctl.base.tls import whom

        super().__init__([path for path in (tls.ca, tls.cert, tls.key) if path], tls.context)
        self.whom = whom(tls.ca)


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: a server, or the service that Sentinels tell the primary of.

    ``cluster``: they must be nodes of one, and may be several. A server by itself may be one too.
    """

    hosts: tuple[Address, ...]
    user: str | None
    credentials: Credentials
    db: int
    tls: FreshTls | None
    service: str | None = None
    cluster: bool = False
    sentinel_user: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def of(cls, url: BackendURL) -> Target:
        """Read a URL. Raises UsageError and, for TLS files, ConfigError."""
        sentinel = url.scheme == "redis+sentinel"
        tls = _tls(url)
        several = url.scheme in _SEVERAL
        _refuse(url, _SENTINEL_OPTIONS if not sentinel else (), "redis+sentinel://")
        _refuse(url, ("tls",) if not several else (), "redis+sentinel:// or redis+cluster://")
        secure = "tls=true with it" if several else "rediss://"
        _refuse(url, _TLS_OPTIONS if tls is None else (), secure)
        if len(url.hosts) > 1 and not several:
            raise UsageError(
                f"{url.scheme}:// takes one server, {len(url.hosts)} are given",
                hint="name one; redis+sentinel://h:p,h:p/service names a Sentinel set, "
                "redis+cluster://h:p,h:p the nodes of a cluster",
            )
        service, db = _service_and_db(url) if sentinel else (None, _db(url, url.path))
        cluster = url.scheme == "redis+cluster"
        if cluster and db:
            raise UsageError(
                f"a Redis Cluster has no database {db}, only 0",
                hint="leave the number out of the URL's path",
            )
        port = SENTINEL_PORT if sentinel else DEFAULT_PORT
        hosts = tuple((host, given or port) for host, given in url.hosts)
        if url.user is not None and not url.has_secret:
            raise UsageError(
                f"the {url.scheme} URL has a user and no password",
                hint="user:password@host, ELECTCTL_PASSWORD, ?password_file= or _command=",
            )
        return cls(
            hosts=hosts or (("127.0.0.1", port),),
            user=url.user,
            credentials=url.credentials(),
            db=db,
            tls=tls,
            service=service,
            cluster=cluster,
            sentinel_user=url.options.get("sentinel_user"),
            sentinel_password=url.options.get("sentinel_password"),
        )


def _refuse(url: BackendURL, names: tuple[str, ...], instead: str) -> None:
    for name in names:
        if name in url.options:
            raise UsageError(
                f"the option {name} means nothing to {url.scheme}://", hint=f"use {instead}"
            )


def _flag(url: BackendURL, name: str) -> bool:
    text = url.options.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise UsageError(f"the option {name} is {text!r}", hint=f"{name}=true or {name}=false")
    return text in ("true", "1", "yes")


def _tls(url: BackendURL) -> FreshTls | None:
    if url.scheme != "rediss" and not (url.scheme in _SEVERAL and _flag(url, "tls")):
        return None
    option = url.options.get
    if option("key") and not option("cert"):
        raise UsageError("the URL has a key and no cert", hint="?cert=client.crt&key=client.key")
    return FreshTls(Tls(option("ca"), option("cert"), option("key"), _flag(url, "insecure")))


def _db(url: BackendURL, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise UsageError(
            f"the path of a {url.scheme} URL is a database number, not {text!r}",
            hint=f"as in {url.scheme}://host:port/0",
        )
    return int(text)


def _service_and_db(url: BackendURL) -> tuple[str, int]:
    service, _, db = url.path.partition("/")
    if not service or not url.hosts:
        raise UsageError(
            "a redis+sentinel URL names Sentinels and the service that they watch",
            hint="redis+sentinel://host:26379,host:26379/mymaster/0",
        )
    return service, _db(url, db)
