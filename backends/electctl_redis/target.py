"""What a Redis URL names: a server, or the service whose primary Sentinels know.

What this does not guarantee: that anything is there. Reading a URL makes no contact; it does read
the TLS files, so that a wrong one is named before anything starts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from electctl.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from electctl.url import BackendURL

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_TLS_OPTIONS = ("ca", "cert", "key", "insecure")
_SENTINEL_OPTIONS = ("sentinel_user", "sentinel_password", "tls")

Hosts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is checked."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False

    def arguments(self) -> dict[str, object]:
        """As redis-py's SSLConnection takes them."""
        return {
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.cert,
            "ssl_keyfile": self.key,
            "ssl_cert_reqs": "none" if self.insecure else "required",
            "ssl_check_hostname": not self.insecure,
        }

    def check(self) -> None:
        """Raise ConfigError if a file cannot be read or is not what it is given for."""
        import ssl

        for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigError(
                    f"the {name} file {path} cannot be read", hint="is it there, and readable?"
                )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca:
                context.load_verify_locations(self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as error:
            raise ConfigError(
                f"the TLS files of the URL are not usable: {error.reason or error}",
                hint="ca, cert and key name PEM files, and the key belongs to the cert",
            ) from None


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: a server, or the service that Sentinels tell the primary of."""

    hosts: Hosts
    user: str | None
    password: str | None
    db: int
    tls: Tls | None
    service: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def of(cls, url: BackendURL) -> Target:
        """Read a URL. Raises UsageError and, for TLS files, ConfigError."""
        sentinel = url.scheme == "redis+sentinel"
        tls = _tls(url)
        _refuse(url, _SENTINEL_OPTIONS if not sentinel else (), "redis+sentinel")
        _refuse(url, _TLS_OPTIONS if tls is None else (), "rediss")
        if len(url.hosts) > 1 and not sentinel:
            raise UsageError(
                f"{url.scheme}:// takes one server, {len(url.hosts)} are given",
                hint="name one; redis+sentinel://h:p,h:p/service names a Sentinel set",
            )
        service, db = _service_and_db(url) if sentinel else (None, _db(url, url.path))
        port = SENTINEL_PORT if sentinel else DEFAULT_PORT
        hosts = tuple((host, given or port) for host, given in url.hosts)
        if url.user is not None and url.password is None:
            raise UsageError(
                f"the {url.scheme} URL has a user and no password",
                hint="user:password@host, ELECTCTL_PASSWORD, or ?password_file=",
            )
        return cls(
            hosts=hosts or (("127.0.0.1", port),),
            user=url.user,
            password=url.password,
            db=db,
            tls=tls,
            service=service,
            sentinel_user=url.options.get("sentinel_user"),
            sentinel_password=url.options.get("sentinel_password"),
        )


def _refuse(url: BackendURL, names: tuple[str, ...], scheme: str) -> None:
    for name in names:
        if name in url.options:
            raise UsageError(
                f"the option {name} means nothing to {url.scheme}://", hint=f"use {scheme}://"
            )


def _flag(url: BackendURL, name: str) -> bool:
    text = url.options.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise UsageError(f"the option {name} is {text!r}", hint=f"{name}=true or {name}=false")
    return text in ("true", "1", "yes")


def _tls(url: BackendURL) -> Tls | None:
    if url.scheme != "rediss" and not (url.scheme == "redis+sentinel" and _flag(url, "tls")):
        return None
    option = url.options.get
    if option("key") and not option("cert"):
        raise UsageError("the URL has a key and no cert", hint="?cert=client.crt&key=client.key")
    tls = Tls(option("ca"), option("cert"), option("key"), _flag(url, "insecure"))
    tls.check()
    return tls


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
