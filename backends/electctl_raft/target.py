"""What a ``raft://`` or ``rafts://`` URL says: where the nodes are, and how to prove who we are.

What this does not guarantee: that these are all nodes of one cluster, or nodes at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from electctl.contract.url import BackendURL, check_host
from electctl.errors import UsageError
from electctl.raft.io.channel import Address
from electctl.raft.io.tls import FreshTls, Tls

_FILES = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class Target:
    """Nodes by address, in the order of the URL; ``tls`` None for plain connections."""

    addresses: tuple[Address, ...]
    tls: FreshTls | None

    @classmethod
    def parse(cls, url: BackendURL) -> Target:
        """Raises UsageError for what these URLs do not say, ConfigError for TLS files."""
        if not url.hosts:
            raise UsageError(
                f"the {url.scheme} URL names no node", hint=f"as in {url.scheme}://127.0.0.1:7401"
            )
        if url.path:
            raise UsageError(
                f"a {url.scheme} URL has no path", hint="give the election's name to the command"
            )
        if url.user is not None:
            raise UsageError(
                f"{url.scheme}:// knows no users", hint="rafts:// asks for a certificate"
            )
        addresses: list[Address] = []
        for host, port in url.hosts:
            if port is None:
                raise UsageError(
                    f"the {url.scheme} URL names a node without its port",
                    hint=f"as in {url.scheme}://{host}:7401",
                )
            check_host(host)
            addresses.append((host, port))
        return cls(tuple(addresses), _tls(url))


def _tls(url: BackendURL) -> FreshTls | None:
    given = [name for name in _FILES if name in url.options]
    if url.scheme != "rafts":
        if given:
            raise UsageError(f"?{given[0]}= is for TLS", hint="rafts:// instead of raft://")
        return None
    missing = [name for name in _FILES if name not in given]
    if missing:
        raise UsageError(
            f"the rafts URL has no ?{missing[0]}=",
            hint="rafts://host:port?ca=FILE&cert=FILE&key=FILE",
        )
    return Tls(**{name: url.options[name] for name in _FILES}).calling()
